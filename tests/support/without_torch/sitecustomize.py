"""On PYTHONPATH this folder makes a process see a machine without torch: a light worker starts in a third of the CPU.

torch is an optional extra, so such workers are real; chaos starts dozens of them.
"""

from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_HIDDEN = frozenset({"torch", "diffusers"})
_found = PathFinder.find_spec


def _find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    return None if name in _HIDDEN else _found(name, path, target)


PathFinder.find_spec = _find_spec  # type: ignore[method-assign, assignment]
