"""A full disk: refused clearly, nothing corrupted, and all goes on once there is room."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from chaos.arena import Arena, arena
from chaos.seeing import until_running, work
from chaos.shapes import workflow
from spindle_control.client import Client
from support.tmpfs import Missing, fill, small_disk

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
_WRITE = {"type": "chaos.write@1", "inputs": {"seed": 1, "size": 200_000}}


async def refusal(url: str) -> httpx.Response:
    """What a submission gets, once a full disk is noticed."""
    async with httpx.AsyncClient(timeout=30) as http:
        async with asyncio.timeout(60):
            while True:
                answer = await http.post(f"{url}/api/v1/runs", json={"workflow": workflow({"a": work(0)})})
                if answer.status_code != 202:
                    return answer
                await asyncio.sleep(0.2)


async def completes_again(url: str) -> None:
    async with Client(url, patience=30) as client:
        record = await client.run_and_wait(workflow({"a": _WRITE}))
        assert record["status"] == "completed", record.get("problem")
    async with httpx.AsyncClient() as http, asyncio.timeout(60):
        while (await http.get(f"{url}/health")).status_code != 200:
            await asyncio.sleep(0.1)


def no_tracebacks(opened: Arena) -> None:
    """A full disk is told in a line, without a traceback, by controls."""
    logs = [control.process.log.read_text() for control in opened.controls]
    lines = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
    assert [
        line for line in lines if "Traceback" in line.get("exception", "") and "No space" in line["exception"]
    ] == []


def test_full_disks(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "data", 16) as data, small_disk(tmp_path / "redis", 16) as redis:
            logs = tmp_path / "logs"
            logs.mkdir()
            with arena(logs, redis_folder=redis, SPINDLE_DATA_DIR=str(data)) as opened:
                asyncio.run(data_disk(opened, data))
                asyncio.run(redis_disk(opened, redis))
                no_tracebacks(opened)
    except Missing as reason:
        pytest.skip(f"left out: {reason}")


async def data_disk(opened: Arena, data: Path) -> None:
    """Database and artifacts have no room: 503 for what is new, what runs goes on once there is some."""
    (url,) = opened.urls
    async with Client(url, patience=60) as client:
        run = (await client.submit(workflow({"a": work(2), "b": _WRITE | {"after": ["a"]}, "c": work(0, "a")})))["id"]
        await until_running(client, run, "a")
        ballast = fill(data)
        refused = await refusal(url)
        assert refused.status_code in (503, 507), refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        await asyncio.sleep(3)
        assert (await client.get(run))["nodes"]["b"]["status"] != "completed"
        ballast.unlink()
        await completes_again(url)
        record = await client.wait(run)
        assert record["status"] == "completed", record.get("problem")


async def redis_disk(opened: Arena, redis: Path) -> None:
    """Redis cannot write its file and says MISCONF: 503 and red; then it goes on, and its file can be read again."""
    (url,) = opened.urls
    async with Client(url, patience=60) as client:
        runs = [(await client.submit(workflow({"a": work(2), "b": work(0, "a")})))["id"] for _ in range(5)]
        await until_running(client, runs[-1], "a")
        ballast = fill(redis)
        refused = await refusal(url)
        assert refused.status_code == 503, refused.text
        assert float(refused.headers["Retry-After"]) > 0
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{url}/readyz")).status_code == 503
        ballast.unlink()
        await completes_again(url)
        records = await asyncio.gather(*(client.wait(run) for run in runs))
        assert {record["status"] for record in records} == {"completed"}
        await opened.restart_redis()
        await completes_again(url)
        assert {(await client.get(run))["status"] for run in runs} == {"completed"}
