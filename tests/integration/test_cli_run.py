"""The command line and the client against a real control and worker, through a line that is cut."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from spindle_control.cli import app
from spindle_control.client import Client, SpindleProblem, Unreachable
from support.cluster import running, workflow
from support.redis_server import RedisServer
from support.upped import SPINDLE

GREET = workflow(
    {
        "words": {
            "type": "text.template@1",
            "inputs": {"template": "Hello, {name}!", "values": {"name": {"$from": "inputs.name"}}},
        }
    },
    inputs={"name": {"type": "string", "default": "world"}},
    outputs={"words": {"$from": "words.text"}},
)
RESIZE = workflow(
    {
        "big": {"type": "image.resize@1", "inputs": {"image": {"$from": "inputs.photo"}, "scale": 2}},
        "saved": {"type": "image.save@1", "inputs": {"image": {"$from": "big.image"}}},
    },
    inputs={"photo": {"artifact": "image/*"}},
    outputs={"image": {"$from": "saved.image"}, "width": {"$expr": "64"}},
)


def sleeps(count: int, seconds: float) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for number in range(count):
        before = {"in1": {"$from": f"n{number - 1}.value"}} if number else {}
        nodes[f"n{number}"] = {"type": "test.sleep@1", "inputs": {"seconds": seconds, "value": number} | before}
    return workflow(nodes)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("spindle"), own_redis, torch=True) as (_, urls):
        yield urls[0]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def spindle(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command line, called in this process: starting Python anew each time costs more than the call."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        env = {"SPINDLE_URL": url, "COLUMNS": "160"}
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)
        return Done(result.exit_code, result.stdout, result.stderr)

    return call


def saved(folder: Path, document: dict[str, Any], name: str = "w.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


class Line:
    """A TCP line to the server that can be cut, as a network does it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await source.read(65536):
                target.write(block)
                await target.drain()
        target.close()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def close(self) -> None:
        self.cut()
        if self._server:
            self._server.close()
        await asyncio.gather(*self._pumps, return_exceptions=True)


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[tuple[Line, str]]:
    line = Line(int(url.rpartition(":")[2]))
    try:
        yield line, await line.start()
    finally:
        await line.close()


async def drained(events: AsyncIterator[dict[str, Any]]) -> None:
    async for _ in events:
        pass


# The client


async def test_a_run_is_submitted_waited_for_and_shown(url: str) -> None:
    async with Client(url) as client:
        record = await client.run_and_wait(GREET, {"name": "Ada"})
        assert record["outputs"] == {"words": "Hello, Ada!"}
        page = await client.runs(status="completed", limit=1)
        assert page["runs"][0]["id"] == record["id"]
        assert (await client.validate(GREET, {"name": "x"}))["valid"]
        assert any(one["type"] == "text.template@1" for one in await client.node_types())


async def test_the_same_key_never_makes_a_second_run(url: str) -> None:
    async with Client(url) as client:
        first = await client.submit(GREET, idempotency_key="only-once", priority=3)
        assert (await client.submit(GREET, idempotency_key="only-once", priority=3))["id"] == first["id"]


async def test_events_come_once_and_in_order_through_a_line_that_is_cut(url: str) -> None:
    async with line_to(url) as (line, through), Client(through) as client:
        run = (await client.submit(sleeps(8, 0.3)))["id"]
        seen: list[dict[str, Any]] = []
        cuts = 0
        async for event in client.events(run):
            seen.append(event)
            if event["type"] == "node.completed" and cuts < 3:
                cuts += 1
                line.cut()
        assert line.connections > 3
    async with Client(url) as client:
        straight = [event async for event in client.events(run)]
        later = [event async for event in client.events(run, after=straight[4]["id"])]
        at_the_end = [event async for event in client.events(run, after=straight[-1]["id"])]
    durable = [event["id"] for event in seen if "id" in event]
    assert durable == [event["id"] for event in straight]
    assert later == straight[5:]
    assert at_the_end == []
    assert seen[-1]["type"] == "run.completed"


async def test_a_server_that_stays_away_is_unreachable(url: str) -> None:
    async with line_to(url) as (line, through), Client(through, patience=0.5) as client:
        run = (await client.submit(sleeps(1, 20)))["id"]
        events = client.events(run)
        await anext(events)
        await line.close()
        with pytest.raises(Unreachable):
            await drained(events)
        with pytest.raises(Unreachable):
            await client.get(run)
    async with Client(url) as client:
        assert (await client.cancel(run))["status"] == "cancelled"


async def test_refusals_carry_their_problem(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(SpindleProblem) as refused:
            await client.submit(workflow({"a": {"type": "no.such@1"}}))
        assert (refused.value.status, refused.value.code) == (422, "invalid-workflow")
        assert refused.value.errors[0]["pointer"] == "/nodes/a/type"
        with pytest.raises(SpindleProblem) as missing:
            await drained(client.events("nothing"))
        assert missing.value.status == 404


# The command line


def test_a_workflow_runs_and_its_outputs_are_shown(spindle: Callable[..., Done], tmp_path: Path) -> None:
    done = spindle("run", saved(tmp_path, GREET), "-i", "name=Ada", "-o", "words=words.txt")
    assert done.returncode == 0, done.stderr
    assert "Hello, Ada!" in done.stdout
    assert (tmp_path / "words.txt").read_text() == "Hello, Ada!"
    assert "words completed" in done.stderr
    listed = spindle("runs", "--limit", "1")
    assert "✓ completed" in listed.stdout
    assert "test" in listed.stdout


def test_a_picture_is_uploaded_saved_and_run_again_from_its_own_text(
    spindle: Callable[..., Done], tmp_path: Path
) -> None:
    Image.new("RGB", (32, 16), (200, 30, 30)).save(tmp_path / "in.png")
    done = spindle("run", saved(tmp_path, RESIZE), "-i", "photo=@in.png", "-o", "out.png", "-o", "width=w.txt")
    assert done.returncode == 0, done.stderr
    first = Image.open(tmp_path / "out.png")
    assert first.size == (64, 32)
    again = spindle("run", "out.png", "-o", "again.png", "--json")
    assert again.returncode == 0, again.stderr
    record = json.loads(again.stdout)
    assert record["status"] == "completed"
    assert Image.open(tmp_path / "again.png").tobytes() == first.tobytes()
    digest = record["inputs"]["photo"]["digest"]
    named = spindle("run", "out.png", "-i", f"photo={digest}", "-o", "named.png")
    assert named.returncode == 0, named.stderr


LARGE = workflow(
    {
        "words": {
            "type": "text.template@1",
            "inputs": {"template": "{w}{w}", "values": {"w": {"$from": "inputs.words"}}},
        },
        "pair": {"type": "test.noop@1", "inputs": {"value": [{"$from": "words.text"}, {"$from": "inputs.photo"}]}},
    },
    inputs={"words": {"type": "string"}, "photo": {"artifact": "image/*"}},
    outputs={"words": {"$from": "words.text"}, "pair": {"$from": "pair.value"}},
)


def test_what_was_too_large_for_the_record_is_saved_as_it_is(spindle: Callable[..., Done], tmp_path: Path) -> None:
    words = "so many words, ünd more\n" * 1600
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    given = ("-i", f"words={words}", "-i", "photo=@red.png")
    wanted = ("-o", "words=out.txt", "-o", "pair=red-again.png", "-o", "first.png")
    done = spindle("run", saved(tmp_path, LARGE), *given, *wanted)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == words * 2
    for name in ("red-again.png", "first.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "red.png").read_bytes()


def test_a_run_that_fails_is_status_1_and_says_why(spindle: Callable[..., Done], tmp_path: Path) -> None:
    nodes = {"bad": {"type": "test.fail@1", "inputs": {"message": "on purpose"}}}
    done = spindle("run", saved(tmp_path, workflow(nodes)))
    assert done.returncode == 1
    assert done.stderr.count("on purpose") >= 2
    assert "bad: A node failed" in done.stderr


def test_without_waiting_the_run_is_named_watched_and_cancelled(spindle: Callable[..., Done], tmp_path: Path) -> None:
    run = spindle("run", saved(tmp_path, sleeps(1, 30)), "--no-wait").stdout.strip()
    assert "running" in spindle("show", run).stdout
    assert "cancelled" in spindle("cancel", run).stdout
    watched = spindle("watch", run)
    assert watched.returncode == 4
    events = [json.loads(line) for line in spindle("watch", run, "--json").stdout.splitlines()]
    assert events[0]["type"] == "run.queued"
    assert events[-1]["type"] == "run.cancelled"
    for command in ("show", "cancel"):
        assert json.loads(spindle(command, run, "--json").stdout)["status"] == "cancelled"
    assert json.loads(spindle("run", "w.json", "--no-wait", "--json").stdout)["status"] in ("queued", "running")


def test_ctrl_c_leaves_the_run_going(url: str, spindle: Callable[..., Done], tmp_path: Path) -> None:
    path = saved(tmp_path, sleeps(1, 8))
    watcher = subprocess.Popen(
        [*SPINDLE, "run", str(path)], env=os.environ | {"SPINDLE_URL": url}, stderr=subprocess.PIPE, text=True
    )
    assert watcher.stderr is not None
    for line in watcher.stderr:
        if "n0 started" in line:
            break
    watcher.send_signal(signal.SIGINT)
    said = watcher.stderr.read()
    watcher.stderr.close()
    assert watcher.wait(30) == 130
    assert "goes on without us" in said
    run = said.partition("spindle watch ")[2].split()[0]
    deadline = time.monotonic() + 60
    while json.loads(spindle("show", run, "--json").stdout)["status"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_checking_tells_every_mistake(spindle: Callable[..., Done], tmp_path: Path) -> None:
    good = spindle("validate", saved(tmp_path, GREET))
    assert good.returncode == 0
    assert "is valid: 1 node in 1 task" in good.stdout
    mapped = {"type": "flow.map@1", "over": [1, 2], "body": {"nodes": {"n": {"type": "value.seed@1"}}}}
    nested = spindle("validate", saved(tmp_path, workflow({"all": mapped})))
    assert "is valid: 2 nodes in 1 task" in nested.stdout
    saved(tmp_path, GREET)
    assert json.loads(spindle("validate", "w.json", "--json").stdout)["valid"] is True
    bad = workflow({"a": {"type": "text.templat@1"}, "b": {"type": "text.join@1", "inputs": {"parts": 3}}})
    refused = spindle("validate", saved(tmp_path, bad))
    assert refused.returncode == 2
    assert "/nodes/a/type" in refused.stderr
    assert "/nodes/b/inputs/parts" in refused.stderr


def test_what_there_is_is_listed(spindle: Callable[..., Done]) -> None:
    assert "image.resize@1" in spindle("nodes").stdout
    shown = spindle("nodes", "image.resize").stdout
    assert "one of nearest" in shown
    assert "image/*" in shown
    assert "list of image/*" in spindle("nodes", "image.grid").stdout
    assert "handle latents" in spindle("nodes", "image.decode@1").stdout
    assert spindle("nodes", "no.such").returncode == 2
    assert json.loads(spindle("nodes", "text.join", "--json").stdout)[0]["type"] == "text.join@1"
    assert "async 64" in spindle("workers").stdout
    assert len(json.loads(spindle("workers", "--json").stdout)) == 1
    assert "runs" in json.loads(spindle("runs", "--json").stdout)
