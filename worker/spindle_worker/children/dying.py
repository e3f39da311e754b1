"""How a process dies with the one that started it, and before it when memory is short.

Linux: prctl(2) PR_SET_PDEATHSIG kills us when the *thread* that forked us ends, whatever we are doing, native code that
holds the GIL included; proc(5) oom_score_adj makes the kernel choose us first. Elsewhere the end of a socket is all we
have.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_RAISE = 500
_OOM_MOST = 1000


def die_with(parent: int) -> None:
    """Be killed when the parent ends; exits at once if it has."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def be_chosen_first() -> None:
    """Tell the kernel to end this process before its worker when memory runs out; needs no privilege."""
    place = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        place.write_text(str(min(_OOM_MOST, int(place.read_text()) + _OOM_RAISE)))


def outlast_signals() -> None:
    """Let the worker decide when we end, though a terminal or a service manager signals every process of its group.

    Handlers that do nothing, rather than SIG_IGN, so that programs that a node starts are as usual.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def resident_bytes(pid: int) -> int:
    """Physical memory that a process uses, pages shared with others included; 0 where that cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
