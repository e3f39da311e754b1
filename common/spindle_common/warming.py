"""What takes seconds to import, and is wanted soon but not at once."""

import gc
import importlib

_SLOW = ("cel", "spindle_common.superstep")
_NEW_OBJECTS = 5_000
"""How many more objects there are before young ones are looked through; Python's own 700 suit smaller programs."""


def warm_up() -> None:
    """Import it before somebody waits for it; for a thread of its own.

    What was imported stays: the collector of cycles need not look through two hundred thousand objects again and again,
    each time for a tenth of a second.
    """
    for name in _SLOW:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
