"""What orchestration costs: no-op nodes over HTTP, results seen on the WebSocket, every process on this machine.

    python tests/bench/orchestration.py [ROW …]     JSON on standard output; the floor is measured in the same run

A real control, a real worker, a real Redis with its append-only file synced every second, SQLite. The client is raw
sockets, so that it costs little beside what it measures. Figures are milliseconds unless the name says otherwise;
`cpu` is processor time for each run, which holds still on a machine that does other things too.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import uvloop

from spindle_common.connection import connect
from support.cluster import running, workflow
from support.redis_server import RedisServer

Json = dict[str, Any]
QUIET = {"SPINDLE_LEASE_SECONDS": "20", "SPINDLE_BEAT_SECONDS": "5", "SPINDLE_CONTROL_LEASE_SECONDS": "4"}
ENDS = (b'"run.completed"', b'"run.failed"', b'"run.cancelled"')
KEY = base64.b64encode(b"what we are like").decode()
TEXT, PING = 0x81, 0x89


class Target(NamedTuple):
    """What is measured: a control's URL, and the processes behind it by name."""

    url: str
    processes: dict[str, int]

    def cpu(self) -> dict[str, float]:
        """Milliseconds of processor time used so far."""
        fields = {
            name: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for name, pid in self.processes.items()
        }
        tick = 1000 / os.sysconf("SC_CLK_TCK")
        return {name: (int(found[11]) + int(found[12])) * tick for name, found in fields.items()}

    def since(self, before: dict[str, float], runs: int) -> dict[str, float]:
        """Milliseconds of processor time for each run since `before`."""
        return {name: (now - before[name]) / runs for name, now in self.cpu().items()}


class Http:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlparse(url).hostname or "", urlparse(url).port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> Json:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        header = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(header.split(b"content-length:")[1].split(b"\r\n")[0])
        answer: Json = json.loads(await reader.readexactly(length))
        assert b" 202 " in header.split(b"\r\n")[0], answer
        return answer

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()


async def messages(url: str, run: str) -> AsyncGenerator[bytes, None]:
    """Open a run's WebSocket and yield its messages."""
    host, port = urlparse(url).hostname or "", urlparse(url).port or 80
    reader, writer = await asyncio.open_connection(host, port)
    head = f"GET /api/v1/runs/{run}/ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    try:
        assert b" 101 " in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        buffer = b""
        while data := await reader.read(1 << 16):
            found, buffer = frames(buffer + data)
            for kind, payload in found:
                if kind == TEXT:
                    yield payload
                elif kind == PING:
                    writer.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
                else:
                    return
    finally:
        writer.close()


def frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Split what came into frames, as a server sends them (RFC 6455: whole and unmasked), and the rest."""
    found, at = [], 0
    while len(data) >= at + 2:
        size, start = data[at + 1], at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start])
        if len(data) < start + size:
            break
        found.append((data[at], data[start : start + size]))
        at = start + size
    return found, data[at:]


async def run_once(http: Http, url: str, body: bytes) -> float:
    """Submit one run and see its end on the WebSocket; returns milliseconds."""
    began = time.perf_counter()
    run = (await http.post("/api/v1/runs", body))["id"]
    async with contextlib.aclosing(messages(url, run)) as feed:
        async for message in feed:
            if any(end in message[:120] for end in ENDS):
                assert b"run.completed" in message
                return (time.perf_counter() - began) * 1000
    raise AssertionError("the feed ended before the run")


def chain(length: int) -> Json:
    nodes: Json = {"n0": {"type": "test.noop@1"}}
    nodes |= {
        f"n{i}": {"type": "test.noop@1", "inputs": {"in0": {"$from": f"n{i - 1}.value"}}} for i in range(1, length)
    }
    return workflow(nodes)


def fan(width: int) -> Json:
    nodes: Json = {f"n{i}": {"type": "test.noop@1", "inputs": {"value": i}} for i in range(width)}
    nodes["join"] = {"type": "test.noop@1", "inputs": {f"in{i}": {"$from": f"n{i}.value"} for i in range(width)}}
    return workflow(nodes)


async def latency(target: Target, document: Json, count: int) -> Json:
    body, http = json.dumps({"workflow": document}).encode(), Http(target.url)
    for _ in range(max(3, count // 10)):
        await run_once(http, target.url, body)
    before = target.cpu()
    times = sorted([await run_once(http, target.url, body) for _ in range(count)])
    http.close()
    p50, p95 = times[count // 2], times[int(count * 0.95)]
    return {"p50": p50, "p95": p95, "runs": count, "cpu": target.since(before, count)}


async def throughput(target: Target, document: Json, seconds: float, flight: int = 32) -> Json:
    """Runs a second with so many in flight."""
    body, done, before = json.dumps({"workflow": document}).encode(), 0, target.cpu()
    until = time.perf_counter() + seconds

    async def loop() -> None:
        nonlocal done
        http = Http(target.url)
        while time.perf_counter() < until:
            await run_once(http, target.url, body)
            done += 1
        http.close()

    began = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(flight)))
    rate = done / (time.perf_counter() - began)
    return {"runs_per_second": rate, "in_flight": flight, "runs": done, "cpu": target.since(before, done)}


async def skewed(target: Target) -> Json:
    """Two chains of four with alternating slow and fast nodes: makespan over critical path (1.85 s)."""
    nodes: Json = {}
    for name, times in {"a": (0.1, 0.8, 0.1, 0.8), "b": (0.8, 0.1, 0.8, 0.1)}.items():
        for i, seconds in enumerate(times):
            before = {"in0": {"$from": f"{name}{i - 1}.value"}} if i else {}
            nodes[f"{name}{i}"] = {"type": "test.sleep@1", "inputs": {"seconds": seconds, **before}}
    joined = {"seconds": 0.05, "in0": {"$from": "a3.value"}, "in1": {"$from": "b3.value"}}
    nodes["join"] = {"type": "test.sleep@1", "inputs": joined}
    found = await latency(target, workflow(nodes), 3)
    return {"makespan_over_critical_path": found["p50"] / 1850, "p50": found["p50"]}


async def floor(url: str, count: int = 2000) -> Json:
    """XADD -> XREADGROUP -> reply between two clients of one process: what no queue on Redis Streams can undercut."""
    ask: Any = connect(url, blocking=True)
    answer: Any = connect(url, blocking=True)
    await ask.xgroup_create("floor:in", "g", "0", mkstream=True)

    async def serve() -> None:
        for _ in range(count):
            rows = await answer.xreadgroup("g", "c", {"floor:in": ">"}, count=1, block=5000)
            await answer.xack("floor:in", "g", rows["floor:in"][0][0][0])
            await answer.xadd("floor:out", {"x": "y"})

    serving, times, last = asyncio.ensure_future(serve()), [], "0"
    for _ in range(count):
        began = time.perf_counter()
        await ask.xadd("floor:in", {"x": "y" * 400})
        rows = await ask.xread({"floor:out": last}, block=5000)
        last = rows["floor:out"][0][-1][0]
        times.append((time.perf_counter() - began) * 1000)
    await serving
    await ask.delete("floor:in", "floor:out")
    await ask.aclose()
    await answer.aclose()
    return {"p50": statistics.median(times), "count": count}


async def imports() -> Json:
    """Seconds to import each plane, best of three."""
    return {
        name: min(_import_seconds(name) for _ in range(3)) for name in ("spindle_control.app", "spindle_worker.loop")
    }


def _import_seconds(module: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


async def sockets(target: Target, count: int = 1000, watched: int = 10, seconds: float = 12) -> Json:
    """Ten runs tell 20 ticks a second each to 100 sockets each: 20,000 deliveries a second; lag by the ticks' time."""
    nodes = {f"s{i}": {"type": "test.sleep@1", "inputs": {"seconds": 3 * seconds}} for i in range(2)}
    http, body = Http(target.url), json.dumps({"workflow": workflow(nodes)}).encode()
    runs = [(await http.post("/api/v1/runs", body))["id"] for _ in range(watched)]
    feeds, began = [Feed() for _ in range(count)], time.perf_counter()
    watching = [asyncio.ensure_future(feed.watch(target.url, runs[i % watched])) for i, feed in enumerate(feeds)]
    while any(feed.received == 0 for feed in feeds):
        await asyncio.sleep(0.05)
    opened, before = time.perf_counter(), target.cpu()
    for feed in feeds:
        feed.received, feed.lags = 0, []
    await asyncio.sleep(seconds)
    took, received = time.perf_counter() - opened, sum(feed.received for feed in feeds)
    cpu, lags = target.since(before, max(1, received // 1000)), sorted(lag for feed in feeds for lag in feed.lags)
    assert not any(each.done() for each in watching), "sockets were closed before their runs ended"
    await asyncio.gather(*watching)
    return {
        "sockets": count,
        "seconds_to_open_all": opened - began,
        "deliveries_per_second": received / took,
        "lag_p50": lags[len(lags) // 2],
        "lag_p99": lags[int(len(lags) * 0.99)],
        "cpu_of_1000_deliveries": cpu,
    }


class Feed:
    """What one socket received, and how late a hundredth of it was, in milliseconds."""

    def __init__(self) -> None:
        self.received = 0
        self.lags: list[float] = []

    async def watch(self, url: str, run: str) -> None:
        """Watch a run to its end."""
        async with contextlib.aclosing(messages(url, run)) as feed:
            async for message in feed:
                self.received += 1
                if b'"node.progress"' in message and random.random() < 0.01:
                    self.lags.append((time.time() - _seconds(json.loads(message)["time"])) * 1000)


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


Row = Callable[[Target], Coroutine[Any, Any, Json]]
ROWS: dict[str, Row] = {
    "one_node": lambda target: latency(target, chain(1), 200),
    "chain_10_fused": lambda target: latency(target, chain(10), 100),
    "throughput_3_fused": lambda target: throughput(target, chain(3), 8),
    "throughput_10_fused": lambda target: throughput(target, chain(10), 8),
    "fan_100_join": lambda target: latency(target, fan(100), 20),
    "graph_1000": lambda target: latency(target, fan(999), 3),
    "skewed": skewed,
    "sockets_1000": sockets,
}
ONE_BY_ONE: dict[str, Row] = {
    "chain_10_one_by_one": lambda target: latency(target, chain(10), 60),
    "throughput_3_as_three_tasks": lambda target: throughput(target, chain(3), 8),
}


def warmed_up(target: Target, seconds: float = 90) -> None:
    """Wait until every process rests: both planes import in the background what the first runs need."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = target.cpu()
        time.sleep(2)
        if all(used < 100 for used in target.since(before, 1).values()):
            return


def measure(wanted: set[str]) -> Json:
    """Measure every wanted row (all, if none is named)."""
    found: Json = {}

    def rows_of(table: dict[str, Row]) -> dict[str, Row]:
        return {name: row for name, row in table.items() if not wanted or name in wanted}

    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            if not wanted or "floor" in wanted:
                found["floor"] = uvloop.run(floor(redis.url))
            if not wanted or "imports_seconds" in wanted:
                found["imports_seconds"] = uvloop.run(imports())
            for table, settings in ((ROWS, QUIET), (ONE_BY_ONE, QUIET | {"SPINDLE_FUSE_CHAINS": "false"})):
                if rows := rows_of(table):
                    with running(Path(folder), redis, 1, 1, **settings) as (cluster, (url,)):
                        worker, control = (process.pid for process in cluster.processes)
                        target = Target(url, {"control": control, "worker": worker, "redis": redis.pid})
                        warmed_up(target)
                        found |= {name: uvloop.run(row(target)) for name, row in rows.items()}
        finally:
            redis.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(measure(set(sys.argv[1:])), indent=2))
