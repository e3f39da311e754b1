"""A run's events over HTTP: pages, server-sent events and WebSockets tell the same, and can be resumed."""

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from spindle_common import keys
from spindle_control import server_sent, streams
from support.control import API, Control
from support.documents import noop, sleeper

RUNS = f"{API}/runs"
Json = dict[str, Any]


async def submit(control: Control, workflow: Json) -> str:
    return str((await control.http.post(RUNS, json={"workflow": workflow})).json()["id"])


async def pages(control: Control, run: str, limit: int = 1000) -> list[Json]:
    found: list[Json] = []
    after: str | None = None
    while True:
        params: dict[str, Any] = {"limit": limit} | ({"after": after} if after else {})
        page = (await control.http.get(f"{RUNS}/{run}/events", params=params)).json()
        if not page["events"]:
            return found
        found += page["events"]
        after = page["next"]


async def watched(control: Control, run: str, after: str = "") -> list[Json]:
    async with connect(f"{control.ws}{RUNS}/{run}/ws?after={after}") as ws:
        return [json.loads(message) async for message in ws]


async def streamed(control: Control, run: str, **headers: str) -> AsyncIterator[tuple[str | None, Json]]:
    accept = {"Accept": "text/event-stream", **headers}
    async with control.http.stream("GET", f"{RUNS}/{run}/events", headers=accept, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        event_id = None
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("data: "):
                yield event_id, json.loads(line[6:])
                event_id = None


def durable(events: list[Json]) -> list[Json]:
    return [event for event in events if "id" in event]


async def test_pages_streams_and_sockets_tell_the_same(staffed: Control) -> None:
    run = await submit(staffed, sleeper(0.3))
    live = await watched(staffed, run)
    kept = await pages(staffed, run, limit=2)
    assert durable(live) == kept
    assert kept[0]["type"] == "run.queued"
    assert kept[-1]["type"] == "run.completed"
    assert {"node.started", "node.completed"} <= {event["type"] for event in kept}
    sent = [pair async for pair in streamed(staffed, run)]
    assert [event for _, event in sent] == kept
    assert [event_id for event_id, _ in sent] == [event["id"] for event in kept]


async def test_a_watcher_resumes_from_its_cursor(staffed: Control) -> None:
    run = await submit(staffed, sleeper(1))
    async with connect(f"{staffed.ws}{RUNS}/{run}/ws") as ws:
        first = json.loads(await ws.recv())
    rest = durable(await watched(staffed, run, first["id"]))
    kept = await pages(staffed, run)
    assert [first, *rest] == kept
    middle = kept[1]["id"]
    assert durable(await watched(staffed, run, middle)) == kept[2:]
    again = [event async for _, event in streamed(staffed, run, **{"Last-Event-ID": middle})]
    assert again == kept[2:]
    assert durable(await watched(staffed, run, kept[-1]["id"])) == []


async def test_a_browser_at_the_end_is_told_not_to_come_back(staffed: Control) -> None:
    run = await submit(staffed, noop())
    last = durable(await watched(staffed, run))[-1]["id"]
    await staffed.http.get(f"{RUNS}/{run}", params={"wait": "10s"})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    assert (await staffed.http.get(f"{RUNS}/{run}/events", headers=headers)).status_code == 204


async def test_a_quiet_stream_is_kept_alive(staffed: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent, "KEEP_ALIVE_SECONDS", 0.1)
    run = await submit(staffed, sleeper(3))
    headers = {"Accept": "text/event-stream"}
    async with staffed.http.stream("GET", f"{RUNS}/{run}/events", headers=headers, timeout=30) as response:
        lines = [line async for line in response.aiter_lines()]
    assert lines.count(": still here") >= 3
    assert lines[0] == "retry: 1000"


async def test_unknown_runs_and_strange_cursors(staffed: Control) -> None:
    for run, after, code in (("nothing", "", 4404), ("nothing", "x", 4400)):
        with pytest.raises(ConnectionClosed) as caught:
            async with connect(f"{staffed.ws}{RUNS}/{run}/ws?after={after}") as ws:
                await ws.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
        assert caught.value.rcvd.reason
    headers = {"Accept": "text/event-stream"}
    assert (await staffed.http.get(f"{RUNS}/nothing/events", headers=headers)).status_code == 404
    for after in ("x", "1", "1-", "-1-1", f"{2**63}-0"):
        response = await staffed.http.get(f"{RUNS}/nothing/events", params={"after": after})
        assert response.status_code == 400, after


async def test_watchers_that_leave_are_forgotten(staffed: Control) -> None:
    run = await submit(staffed, sleeper(100))
    for _ in range(5):
        async with connect(f"{staffed.ws}{RUNS}/{run}/ws") as ws:
            await ws.recv()
            assert staffed.streams.open > 0
        async for _ in streamed(staffed, run):
            assert staffed.streams.open > 0
            break
    async with asyncio.timeout(60):
        while staffed.streams.open:
            await asyncio.sleep(0.05)
    await staffed.http.post(f"{RUNS}/{run}:cancel")


async def test_more_watchers_than_allowed_are_refused(staffed: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staffed.streams, "_limit", 1)
    run = await submit(staffed, sleeper(100))
    async with connect(f"{staffed.ws}{RUNS}/{run}/ws") as ws:
        await ws.recv()
        response = await staffed.http.get(f"{RUNS}/{run}/events", headers={"Accept": "text/event-stream"})
        assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
    await staffed.http.post(f"{RUNS}/{run}:cancel")


async def test_a_stopping_control_says_goodbye(staffed: Control) -> None:
    run = await submit(staffed, sleeper(100))
    async with connect(f"{staffed.ws}{RUNS}/{run}/ws") as ws:
        first = json.loads(await ws.recv())
        staffed.streams.stopping.set()
        rest = [json.loads(message) async for message in ws]
    assert rest[-1]["type"] == "bye"
    assert rest[-1]["data"] == {"reason": "stopping", "after": ([first, *durable(rest)])[-1]["id"]}
    assert ws.close_code == 1001
    sent = [event async for _, event in streamed(staffed, run)]
    assert sent[-1]["type"] == "bye"
    await staffed.http.post(f"{RUNS}/{run}:cancel")


async def test_a_socket_that_reads_nothing_is_sent_away(staffed: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(streams, "_BYE_SECONDS", 0.2)
    run = await submit(staffed, sleeper(100))
    stuck = _stuck_socket(staffed.url, run)
    try:
        async with asyncio.timeout(60):
            while not staffed.streams.open:
                await asyncio.sleep(0.02)
            while staffed.streams.open:
                await _flood(staffed, run)
        await asyncio.to_thread(_read_to_its_end, stuck)
    finally:
        stuck.close()
    assert (await staffed.http.get(f"{RUNS}/{run}")).json()["status"] == "running", "not because the run ended"
    await staffed.http.post(f"{RUNS}/{run}:cancel")


def _stuck_socket(url: str, run: str) -> socket.socket:
    """Open a WebSocket by hand and never read from it."""
    place = urlsplit(url)
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.connect((place.hostname, place.port))
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {RUNS}/{run}/ws HTTP/1.1", f"Host: {place.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    opened.sendall("\r\n".join(lines).encode())
    return opened


def _read_to_its_end(stuck: socket.socket) -> None:
    """The other side closed it: what it had sent can be read, and then no more comes."""
    stuck.settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        while stuck.recv(65536):
            pass


async def _flood(control: Control, run: str) -> None:
    """Publish ticks as a busy worker would."""
    client = control.services.runs._parts.queue.client
    message = json.dumps({"type": "node.preview", "node": "a", "attempt": 1, "at": 1, "data": {"jpeg": "x" * 30_000}})
    for _ in range(20):
        await client.publish(keys.live(run), message)
    await asyncio.sleep(0.01)
