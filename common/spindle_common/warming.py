"""What takes seconds to import, and is wanted soon but not at once."""

import importlib

_SLOW = ("cel", "spindle_common.superstep")


def warm_up() -> None:
    """Import it before somebody waits for it; for a thread of its own."""
    for name in _SLOW:
        importlib.import_module(name)
