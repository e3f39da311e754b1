"""Keeping children alive: restart, give up, stop in time, leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spindle_control import supervisor
from spindle_control.supervisor import Child, GaveUp, Program

Said = list[tuple[str, str]]


def python(code: str, **more: object) -> Program:
    return Program("part", [sys.executable, "-c", code], **more)  # type: ignore[arg-type]


def child_of(program: Program) -> tuple[Child, Said]:
    said: Said = []
    return Child(program, lambda name, line: said.append((name, line))), said


async def until(holds: object, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_what_dies_is_started_again_and_its_lines_are_repeated() -> None:
    child, said = child_of(python("import os, time; print(os.getpid(), flush=True); time.sleep(60)"))
    keeping = asyncio.create_task(child.keep())
    await until(lambda: len(said) == 1)
    first = child.pid
    assert first is not None
    assert said == [("part", str(first))]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(said) == 3)
    assert "killed by SIGKILL" in said[1][1]
    assert child.pid not in (None, first)
    await child.stop()
    await keeping
    assert child.pid is None


async def test_one_that_keeps_dying_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.001)
    child, said = child_of(python("raise SystemExit(7)"))
    with pytest.raises(GaveUp, match=r"5 times in a row .*exit status 7"):
        await child.keep()
    assert len(said) == 4


async def test_one_that_refuses_its_settings_is_not_tried_again() -> None:
    child, said = child_of(python("print('no'); raise SystemExit(2)"))
    with pytest.raises(GaveUp, match="refused"):
        await child.keep()
    assert said == [("part", "no")]


async def test_one_that_does_not_stop_is_killed_with_what_it_started() -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True); time.sleep(60)"
    )
    child, said = child_of(python(code, grace=0.3))
    keeping = asyncio.create_task(child.keep())
    await until(lambda: len(said) == 1)
    inner = int(said[0][1])
    await child.stop()
    await keeping
    await until(lambda: not psutil.pid_exists(inner) or psutil.Process(inner).status() == psutil.STATUS_ZOMBIE)
    assert "did not stop" in said[1][1]


async def test_waiting_for_a_child_does_not_wait_for_what_holds_its_output() -> None:
    code = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
        "raise SystemExit(2)"
    )
    child, said = child_of(python(code))
    before = time.monotonic()
    with pytest.raises(GaveUp):
        await child.keep()
    os.kill(int(said[0][1]), signal.SIGKILL)
    assert time.monotonic() - before < 30


async def test_standard_input_is_fed_and_hushed_lines_are_left_out() -> None:
    program = python("print(input()); print('noise'); input()", standard_input="hello\n", hushed=("noise",))
    child, said = child_of(program)
    keeping = asyncio.create_task(child.keep())
    await until(lambda: len(said) >= 1)
    await child.stop()
    await asyncio.wait({keeping})
    assert ("part", "hello") in said
    assert all("noise" not in line for _, line in said)


async def test_a_line_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_LINE", 1000)
    child, said = child_of(python("print('x' * 100_000); print('short'); raise SystemExit(2)"))
    with pytest.raises(GaveUp):
        await child.keep()
    assert said[-1] == ("part", "short")
    assert max(len(line) for _, line in said) < 2000


async def test_stop_before_start_is_fine() -> None:
    child, _ = child_of(python("pass"))
    child.kill()
    await child.stop()
    await child.keep()
    assert child.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from spindle_control.supervisor import Child, Program\n"
        "child = Child(Program('part', [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); "
        "time.sleep(60)']), lambda name, line: print(line, flush=True))\n"
        "asyncio.run(child.keep())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    inner = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert inner.wait(60) is None or not inner.is_running()
