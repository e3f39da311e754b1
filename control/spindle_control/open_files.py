"""How many files and sockets this process may have open.

Shells and service managers allow 1,024, macOS 256, so that programs that use `select` go on working; ours does not, and
every watcher is a socket. Whoever wants less lowers the hard limit.
"""

import contextlib
import resource

_ENOUGH = 65_536


def allow_many() -> None:
    """Raise the soft limit towards the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
