"""Values that are too large to travel inline: they spill to an artifact, marked `$spilled`, and are fetched again."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from spindle_common.queue import compact
from spindle_common.values import Outcome

INLINE_BYTES = 64 * 1024
MARK = "$spilled"


class Bytes(Protocol):
    """What is needed of an object store."""

    async def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store bytes and return their artifact."""
        ...

    async def read(self, digest: str) -> bytes:
        """Return bytes."""
        ...


class Spill:
    """Stores and fetches spilled values."""

    def __init__(self, store: Bytes) -> None:
        self._store = store

    async def store(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs as the ledger keeps them: each at most 64 KiB of JSON inline."""
        return {port: await self._kept(value) for port, value in outputs.items()}

    async def _kept(self, value: Any) -> Any:
        if isinstance(value, (bool, int, float)) or value is None:
            return value
        text = compact(value).encode()
        if len(text) <= INLINE_BYTES:
            return value
        return {MARK: await self._store.put(text, "application/json")}

    async def fetch(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Return outcomes with spilled values put back."""
        return {path: await self._whole(outcome) for path, outcome in outcomes.items()}

    async def _whole(self, outcome: Outcome) -> Outcome:
        outputs = outcome.get("outputs", {})
        if not any(is_spilled(value) for value in outputs.values()):
            return outcome
        return outcome | {"outputs": await self.whole(outputs)}

    async def whole(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by name with spilled ones put back."""
        return {name: await self._value(value) for name, value in values.items()}

    async def _value(self, value: Any) -> Any:
        return json.loads(await self._store.read(value[MARK]["digest"])) if is_spilled(value) else value


def is_spilled(value: Any) -> bool:
    """Whether a value is the mark of a spilled one."""
    return isinstance(value, dict) and value.keys() == {MARK}
