"""`spindle up` with its real parts: ready, refusing a second one, restarting, stopping, leaving nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support.cluster import wait_until
from support.upped import SPINDLE, Upped, gone

NOOP: dict[str, Any] = {
    "schema": "spindle.workflow/v1",
    "name": "noop",
    "nodes": {"a": {"type": "test.sleep@1", "inputs": {"seconds": 0.01, "value": "done"}}},
    "outputs": {"value": {"$from": "a.value"}},
}


def ends(url: str, workflow: dict[str, Any]) -> dict[str, Any]:
    run = httpx.post(f"{url}/api/v1/runs", json={"workflow": workflow}, timeout=30).raise_for_status().json()
    found: dict[str, Any] = httpx.get(f"{url}/api/v1/runs/{run['id']}?wait=60s", timeout=90).json()
    return found


def workers(url: str) -> list[Any]:
    try:
        found: dict[str, list[Any]] = httpx.get(f"{url}/api/v1/workers", timeout=5).json()
    except (httpx.TransportError, ValueError):
        return []
    return found.get("workers", [])


@pytest.fixture(scope="module")
def upped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upped]:
    """One that the tests of this file share, in a folder with a space."""
    folder = tmp_path_factory.mktemp("up") / "a folder"
    with Upped(folder / "data") as found:
        yield found.ready()


def call(upped: Upped, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"SPINDLE_URL": upped.url}
    return subprocess.run([*SPINDLE, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_ready_when_a_worker_has_announced_itself_and_says_what_to_do(upped: Upped) -> None:
    text = "\n".join(upped.lines)
    assert f"{upped.url}/api/v1" in text
    assert "run examples/poster.json" in text
    wait_until(lambda: len(workers(upped.url)) == 1)  # of one that was killed before, until its lease ends
    assert ends(upped.url, NOOP)["outputs"] == {"value": "done"}


def test_a_second_one_on_the_same_data_directory_refuses(upped: Upped, tmp_path: Path) -> None:
    data_dir = psutil.Process(upped.process.pid).environ()["SPINDLE_DATA_DIR"]
    second = Upped(Path(data_dir))
    assert second.wait() == 2
    assert "already up" in "".join(second.lines)
    assert str(upped.process.pid) in "".join(second.lines)


def test_a_port_in_use_is_told_and_nothing_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = Upped(tmp_path, port=other.getsockname()[1])
        assert refused.wait() == 2
    assert "is taken" in "".join(refused.lines)
    assert not (tmp_path / "redis").exists()


def test_env_lets_others_join(upped: Upped) -> None:
    data_dir = psutil.Process(upped.process.pid).environ()["SPINDLE_DATA_DIR"]
    env = os.environ | {"SPINDLE_DATA_DIR": data_dir}
    told = subprocess.run([*SPINDLE, "env", "--json"], env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["SPINDLE_URL"] == upped.url
    assert json.loads(told)["SPINDLE_REDIS_URL"].startswith("redis://:")
    lines = subprocess.run([*SPINDLE, "env"], env=env, capture_output=True, text=True, check=True).stdout
    assert f"export SPINDLE_URL={upped.url}" in lines


@pytest.mark.parametrize("part", ["valkey-server", "spindle_control", "spindle_worker"])
def test_what_dies_is_started_again_and_work_goes_on(upped: Upped, part: str) -> None:
    child = upped.part(part)
    child.kill()
    upped.until("starting it again")
    child.wait(60)
    wait_until(lambda: workers(upped.url))
    assert ends(upped.url, NOOP)["status"] == "completed"


def test_a_part_that_cannot_live_ends_it_loudly(tmp_path: Path) -> None:
    found = Upped(tmp_path, SPINDLE_HOST="0.0.0.0")
    assert found.wait() == 1
    text = "\n".join(found.lines)
    assert "Refusing to listen on 0.0.0.0" in text
    assert "stopping everything: control refused to start" in text


def test_ctrl_c_stops_everything_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    with Upped(tmp_path) as first:
        first.ready()
        run = ends(first.url, NOOP)["id"]
        family = first.family()
        assert len(family) >= 3
        assert first.stop(signal.SIGINT) == 0
        assert gone(family)
        assert "nothing is left running" in first.lines[-1]

    with Upped(tmp_path, port=first.port) as again:
        again.ready()
        assert httpx.get(f"{again.url}/api/v1/runs/{run}", timeout=60).json()["status"] == "completed"
        family = again.family()
    if sys.platform == "linux":  # elsewhere the kernel does not tell children of their parent's death
        assert gone(family)
