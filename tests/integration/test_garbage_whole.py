"""Garbage with everything running: ended runs leave nothing in Redis, a control collects by itself, so does `gc`."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from spindle_common.queue import Queue
from support.control import API, Control, serving
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

RUNS = 300
LIGHT = {"schema": "spindle.workflow/v1", "nodes": {"a": {"type": "text.template@1", "inputs": {"template": "x"}}}}


async def submit(control: Control, document: dict[str, Any]) -> str:
    response = await control.http.post(f"{API}/runs", json={"workflow": document})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def offered(control: Control) -> None:
    async with asyncio.timeout(60):
        while not (await control.http.get(f"{API}/workers")).json()["workers"]:
            await asyncio.sleep(0.1)


async def test_ended_runs_cost_redis_nothing(queue: Queue, quiet_server: RedisServer, tmp_path: Path) -> None:
    worker = WorkerProcess(tmp_path / "worker", quiet_server.url)
    try:
        async with serving(tmp_path / "control", quiet_server.url, archive_seconds=0.5) as control:
            await offered(control)
            ids = [await submit(control, LIGHT) for _ in range(RUNS)]
            for run in ids:
                record = (await control.http.get(f"{API}/runs/{run}?wait=60s", timeout=90)).json()
                assert record["status"] == "completed"
            async with asyncio.timeout(60):
                while left := [key for key in await queue.client.keys("*") if any(run in key for run in ids)]:
                    await asyncio.sleep(0.2)
            assert left == []
            everything = sorted(await queue.client.keys("*"))
            assert len(everything) < 30, everything
            stream = f"spindle:drive:{control.services.driver.owner}"
            assert await queue.client.xlen(stream) < 200, "it is trimmed by whole nodes of a hundred"
            events = (await control.http.get(f"{API}/runs/{ids[0]}/events")).json()["events"]
            assert [event["type"] for event in events][-1] == "run.completed", "a cursor survives the archiving"
    finally:
        worker.stop()


async def test_a_control_collects_by_itself(queue: Queue, quiet_server: RedisServer, tmp_path: Path) -> None:
    settings = {"keep_artifacts": "0s", "garbage_seconds": 0.2, "keep_runs": "30d"}
    async with serving(tmp_path, quiet_server.url, **settings) as control:
        store = control.services.artifacts
        spared = await control.http.post(f"{API}/artifacts", content=b"new", headers={"Content-Type": "text/plain"})
        digest = spared.json()["digest"]
        assert await queue.client.zscore("spindle:spared", digest) is not None, "an upload is announced"
        await asyncio.sleep(1)
        assert await store.read(digest) == b"new"
        await queue.client.delete("spindle:spared")
        async with asyncio.timeout(60):
            while [each async for each in store.list()]:
                await asyncio.sleep(0.1)
        text = (await control.http.get("/metrics")).text
        assert "spindle_garbage_artifacts_total" in text
        assert "spindle_garbage_age_seconds" in text


def gc(tmp_path: Path, url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from spindle_control.cli import main; main()", "gc", *arguments]
    environment = os.environ | {"SPINDLE_DATA_DIR": str(tmp_path), "SPINDLE_REDIS_URL": url} | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


async def test_the_command_tells_then_deletes(queue: Queue, quiet_server: RedisServer, tmp_path: Path) -> None:
    async with serving(tmp_path, quiet_server.url) as control:
        await control.http.post(f"{API}/artifacts", content=b"abandoned", headers={"Content-Type": "text/plain"})
        await queue.client.delete("spindle:spared")
        grace = {"SPINDLE_KEEP_ARTIFACTS": "0s"}
        told = await asyncio.to_thread(gc, tmp_path, quiet_server.url, "--dry-run", "--json", **grace)
        assert told.returncode == 0, told.stderr
        report = json.loads(told.stdout)
        assert (report["dry_run"], report["artifacts"]["count"], report["artifacts"]["bytes"]) == (True, 1, 9)
        shown = await asyncio.to_thread(gc, tmp_path, quiet_server.url, "--dry-run", **grace)
        assert "would go" in shown.stdout
        assert report["artifacts"]["first"][0]["digest"] in shown.stdout
        done = await asyncio.to_thread(gc, tmp_path, quiet_server.url, "--json", **grace)
        assert json.loads(done.stdout)["artifacts"]["count"] == 1
        assert [each async for each in control.services.artifacts.list()] == []
        assert await queue.client.set("spindle:collecting", "another", px=60_000)
        busy = await asyncio.to_thread(gc, tmp_path, quiet_server.url, **grace)
        assert busy.returncode == 2
        assert "Another collection" in busy.stderr
