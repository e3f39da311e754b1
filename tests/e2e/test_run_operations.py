"""Pausing, retrying and dead letters with real processes: a killed control, a node that kills workers, a shell."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spindle_common.connection import connect
from spindle_common.queue import Queue
from spindle_control.cli import app
from spindle_control.client import Client
from support.cluster import running, wait_until, workflow
from support.operating import chain, check_history, leftovers
from support.redis_server import RedisServer


@pytest.fixture
def spindle() -> Callable[..., str]:
    """The command line, called in this process; gives what it prints."""

    def call(url: str, *arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments), env={"SPINDLE_URL": url, "COLUMNS": "200"})
        assert result.exit_code == status, result.stdout + result.stderr
        return result.stdout

    return call


async def in_redis(url: str, run: str) -> list[str]:
    client = connect(url)
    found = await leftovers(Queue(client), run)
    await client.aclose()
    return found


async def until_parked(client: Client, redis: RedisServer, run: str) -> None:
    while await in_redis(redis.url, run) or run not in [r["id"] for r in (await client.runs(status="paused"))["runs"]]:
        assert (await client.get(run))["status"] == "paused"
        await asyncio.sleep(0.05)


async def test_a_run_paused_at_a_control_that_is_killed_rests_and_goes_on(
    tmp_path: Path, fresh_redis: RedisServer
) -> None:
    with running(tmp_path, fresh_redis, SPINDLE_FUSE_CHAINS="0") as (cluster, (url,)):
        doomed, doomed_url = cluster.control()
        async with Client(doomed_url) as client:
            run = (await client.submit(workflow(chain(3, 2.0))))["id"]
            while (await client.get(run))["nodes"]["n0"]["status"] != "running":
                await asyncio.sleep(0.02)
            assert (await client.pause(run))["status"] == "paused"
        doomed.kill()
        async with Client(url) as client:
            assert (await client.get(run))["status"] == "paused"
            await until_parked(client, fresh_redis, run)
            resting = await client.get(run)
            assert [node["status"] for node in resting["nodes"].values()] == ["completed", "pending", "pending"]
            await client.resume(run)
            done = await client.wait(run)
            assert done["status"] == "completed"
            assert {node["attempt"] for node in done["nodes"].values()} == {1}
            check_history([event async for event in client.events(run) if "id" in event])


async def test_a_control_killed_while_it_resumes_loses_nothing(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis, SPINDLE_FUSE_CHAINS="0") as (cluster, (url,)):
        async with Client(url) as client:
            for _ in range(2):
                doomed, doomed_url = cluster.control()
                run = (await client.submit(workflow(chain(3, 0.7))))["id"]
                await client.pause(run)
                await until_parked(client, fresh_redis, run)
                async with Client(doomed_url, patience=0.5) as other:
                    await other.resume(run)
                doomed.kill()
                done = await client.wait(run)
                assert (done["status"], done.get("problem")) == ("completed", None)
                check_history([event async for event in client.events(run) if "id" in event])


async def test_a_node_that_kills_every_worker_ends_as_a_dead_letter(tmp_path: Path, fresh_redis: RedisServer) -> None:
    nodes = chain(1) | {"poison": {"type": "test.crash@1", "inputs": {"in0": {"$from": "n0.value"}}}}
    with running(tmp_path, fresh_redis, workers=2, SPINDLE_CRASH_BUDGET="2", SPINDLE_FUSE_CHAINS="0") as (_, (url,)):
        async with Client(url) as client:
            run = (await client.submit(workflow(nodes)))["id"]
            done = await client.wait(run)
            assert done["status"] == "failed"
            assert done["nodes"]["poison"]["problem"]["type"] == "urn:spindle:problem:crashed"
            (letter,) = (await client.dead_letters())["dead_letters"]
            assert (letter["run"], letter["nodes"], letter["attempts"]) == (run, ["poison"], 2)
            again = await client.redrive(letter["id"])
            assert again["parent"] == run
            assert (await client.dead_letters())["dead_letters"] == []
            await client.cancel(again["id"])


def test_the_command_line_pauses_resumes_retries_and_redrives(
    tmp_path: Path, fresh_redis: RedisServer, spindle: Callable[..., str]
) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow(chain(2, 1.5))))
    with running(tmp_path, fresh_redis, SPINDLE_FUSE_CHAINS="0") as (_, (url,)):
        run = spindle(url, "run", str(file), "--no-wait").strip()
        assert "paused" in spindle(url, "pause", run)
        wait_until(lambda: "paused" in spindle(url, "runs"))
        assert json.loads(spindle(url, "pause", run, "--json"))["status"] == "paused"
        assert "‖ paused" in spindle(url, "show", run)
        assert "running" in spindle(url, "resume", run)
        watched = CliRunner().invoke(app, ["watch", run], env={"SPINDLE_URL": url, "COLUMNS": "200"})
        assert watched.exit_code == 0
        assert f"run paused; `spindle resume {run}` lets it go on" in watched.stderr
        assert "run resumed" in watched.stderr
        assert spindle(url, "pause", run, "--json", status=2).count("run-ended") == 1
        again = spindle(url, "retry", run).strip()
        assert again != run
        assert json.loads(spindle(url, "retry", run, "--json"))["parent"] == run
        wait_until(lambda: "completed" in spindle(url, "show", again))
        assert "reused" in spindle(url, "show", again)
        assert json.loads(spindle(url, "dead-letters", "--json")) == {"dead_letters": [], "next": None}
        assert "attempts" in spindle(url, "dead-letters")
        assert "no dead letter" in spindle(url, "redrive", "1-0", "--json", status=2)
