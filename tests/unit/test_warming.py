"""What is imported ahead, and what that leaves to the collector of cycles."""

import subprocess
import sys

_PROGRAM = """
import gc, sys
from spindle_common.warming import warm_up
assert "langgraph" not in sys.modules and "cel" not in sys.modules
warm_up()
assert "langgraph" in sys.modules and "cel" in sys.modules
assert len(gc.get_objects()) < gc.get_freeze_count(), "the collector would look through what stays"
"""


def test_what_is_imported_ahead_is_not_looked_through_again() -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=120)
