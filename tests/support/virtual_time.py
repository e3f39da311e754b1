"""The task protocol under a clock that the test sets: the real script on a real server, `now()` reading a key.

The production script has no hook for this: exactly one place of its text is exchanged, and that is checked.
"""

import re
from typing import Any

from spindle_common.queue import SCRIPT

NOW = "virtual:now"
START_MS = 1_000_000_000_000
_BODY = re.compile(r"(?<=local function now\(\)\n).*?(?=\nend\n)", re.DOTALL)


def settable(script: str = SCRIPT) -> str:
    """Return the script with `now()` reading the clock that `Clock` sets."""
    text, count = _BODY.subn(f"  return tonumber(call('GET', '{NOW}'))", script)
    assert count == 1, "the script's clock was not found"
    assert "call('TIME')" not in text, "the script looks at another clock"
    return text


class Clock:
    """Virtual milliseconds, kept on the server."""

    def __init__(self, client: Any) -> None:
        self._client, self.ms = client, START_MS

    async def advance(self, ms: int) -> None:
        """Let time go by."""
        self.ms += ms
        await self._client.set(NOW, self.ms)
