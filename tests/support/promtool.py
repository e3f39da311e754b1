"""Prometheus' own checker: from PATH, else unpacked from Debian's package `prometheus` (19 MB, once, not installed).

promtool_path()  the program, or raises Missing with the reason
promtool         the fixture: a callable that runs it with arguments and fails the test on a bad exit
"""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Promtool = Callable[..., str]


class Missing(Exception):
    """Promtool cannot be had here."""


def promtool_path() -> Path:
    """Return promtool, fetched at first use. Raises Missing."""
    if found := shutil.which("promtool"):
        return Path(found)
    if absent := [tool for tool in ("apt-get", "dpkg") if not shutil.which(tool)]:
        raise Missing(f"promtool is not on PATH, and without {' and '.join(absent)} Debian's cannot be fetched")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spindle-tests"
    cache.mkdir(parents=True, exist_ok=True)
    about = platform.freedesktop_os_release()
    wanted = cache / f"promtool-{about['ID']}-{about.get('VERSION_ID', 'x')}-{platform.machine()}"
    with (cache / "promtool.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not wanted.is_file():
            _fetch(wanted)
    return wanted


def _fetch(wanted: Path) -> None:
    with tempfile.TemporaryDirectory(dir=wanted.parent) as folder:
        work = Path(folder)
        try:
            _download(work)
            (deb,) = work.glob("prometheus_*.deb")
            _run(["dpkg", "-x", str(deb), "tree"], work)
        except (subprocess.SubprocessError, ValueError) as error:
            reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1:]
            raise Missing(f"Debian's package prometheus cannot be fetched: {' '.join(reason)}") from error
        (work / "tree/usr/bin/promtool").rename(wanted)


def _download(work: Path) -> None:
    """Fetch the package; with lists of our own if the system has none."""
    try:
        _run(["apt-get", "download", "prometheus"], work)
    except subprocess.CalledProcessError:
        for name in ("lists/partial", "archives/partial"):
            (work / name).mkdir(parents=True)
        places = {"Dir::State::lists": work / "lists", "Dir::Cache": work, "Dir::Cache::archives": work / "archives"}
        own = ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", *(f"-o{key}={place}" for key, place in places.items())]
        _run(["apt-get", *own, "update"], work)
        _run(["apt-get", *own, "download", "prometheus"], work)


def _run(command: Sequence[str], work: Path) -> None:
    subprocess.run(command, cwd=work, capture_output=True, text=True, check=True, timeout=300)


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Run promtool; skips, with the reason, where it cannot be had."""
    try:
        program = promtool_path()
    except Missing as reason:
        pytest.skip(str(reason))

    def run(*arguments: str | Path, timeout: float = 60) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
        output = done.stdout + done.stderr
        if done.returncode:
            pytest.fail(f"promtool {' '.join(map(str, arguments))}\n{output}")
        return output

    return run
