"""A clock that is wrong, for one process: libfaketime from Debian's package (47 kB, unpacked once, not installed).

faketime(hours)   the environment in which a process's wall clock is so many hours off; raises Missing
"""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

_NAME = "libfaketimeMT.so.1"


class Missing(Exception):
    """The library cannot be had here."""


def faketime(hours: float) -> dict[str, str]:
    """Return the environment; the monotonic clock, by which processes wait, stays right. Raises Missing."""
    return {"LD_PRELOAD": str(_library()), "FAKETIME": f"{hours:+g}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _library() -> Path:
    if absent := [tool for tool in ("apt-get", "dpkg") if not shutil.which(tool)]:
        raise Missing(f"without {' and '.join(absent)} Debian's libfaketime cannot be fetched")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spindle-tests"
    cache.mkdir(parents=True, exist_ok=True)
    about = platform.freedesktop_os_release()
    wanted = cache / f"{about['ID']}-{about.get('VERSION_ID', 'x')}-{platform.machine()}-{_NAME}"
    with (cache / "faketime.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not wanted.is_file():
            _fetch(wanted)
    return wanted


def _fetch(wanted: Path) -> None:
    with tempfile.TemporaryDirectory(dir=wanted.parent) as folder:
        for command in (
            ["apt-get", "download", "libfaketime"],
            ["apt-get", "update"],
            ["apt-get", "download", "libfaketime"],
        ):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
            if list(Path(folder).glob("*.deb")):
                break
        else:
            raise Missing(f"apt-get cannot fetch libfaketime: {done.stderr.strip().splitlines()[-1:]}")
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True, timeout=60)
        (library,) = Path(folder).rglob(_NAME)
        library.replace(wanted)
