"""The environment of processes that tests start: nobody's settings, and no torch where no test needs it.

torch is an optional extra, so workers without it are real. Importing it, and what stands on it, costs each worker ten
seconds of CPU; the suite starts dozens.
"""

import os
from pathlib import Path

_WITHOUT_TORCH = str(Path(__file__).parent / "without_torch")


def environment(*, torch: bool = False) -> dict[str, str]:
    """What a process inherits: everything but Spindle's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SPINDLE_")}
    if not torch:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [_WITHOUT_TORCH, kept.get("PYTHONPATH")]))
    return kept
