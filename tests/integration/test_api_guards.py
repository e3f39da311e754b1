"""Who may come in: keys, tickets, tenants, hosts, origins; and how refusals look."""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from spindle_control.__main__ import Refused, check
from spindle_control.api_keys import ApiKeys
from spindle_control.settings import ControlSettings
from support.control import API, Control, serving
from support.redis_server import RedisServer

RUNS = f"{API}/runs"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def control(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Control]:
    async with serving(tmp_path, redis_server.url, allowed_origins=["https://studio.example"]) as control:
        yield control


@pytest.fixture
def key(tmp_path: Path) -> str:
    return ApiKeys(tmp_path / "api-keys.json").create("studio")[1]


def subprotocols(key: str) -> list[Subprotocol]:
    encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return [Subprotocol("spindle.v1"), Subprotocol(f"base64url.bearer.authorization.spindle.{encoded}")]


async def test_without_keys_this_machine_gets_in(control: Control) -> None:
    assert (await control.http.get(RUNS)).status_code == 200


async def test_with_keys_nobody_else_does(control: Control, key: str) -> None:
    for path in (RUNS, f"{API}/workers", "/openapi.json", "/asyncapi.json", "/nothing"):
        response = await control.http.get(path)
        assert response.status_code == 401, path
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["type"] == "urn:spindle:problem:unauthorized"
    for headers in ({"Authorization": f"Bearer {key}x"}, {"X-API-Key": key[:-1]}, {"Authorization": f"Basic {key}"}):
        assert (await control.http.get(RUNS, headers=headers)).status_code == 401
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert (await control.http.get(RUNS, headers=headers)).status_code == 200
    for probe in ("/livez", "/readyz", "/health", "/metrics"):
        assert (await control.http.get(probe)).status_code == 200


async def test_a_revoked_key_is_refused_at_once(control: Control, key: str, tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path / "api-keys.json")
    headers = {"X-API-Key": key}
    assert (await control.http.get(RUNS, headers=headers)).status_code == 200
    keys.revoke(keys.all()[0].id)
    assert (await control.http.get(RUNS, headers=headers)).status_code == 401
    assert (await control.http.get(RUNS)).status_code == 401


async def test_a_broken_key_file_lets_nobody_in(control: Control, key: str, tmp_path: Path) -> None:
    (tmp_path / "api-keys.json").write_text("{")
    response = await control.http.get(RUNS, headers={"X-API-Key": key})
    assert response.status_code == 503
    assert (await control.http.get("/livez")).status_code == 200


async def test_a_socket_takes_a_key_as_header_or_subprotocol(control: Control, key: str) -> None:
    url = f"{control.ws}{RUNS}/nothing/ws"
    for offered in (None, subprotocols(key + "x"), subprotocols(key)[:1]):
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, subprotocols=offered)
        assert caught.value.response.status_code == 401
        assert json.loads(caught.value.response.body)["status"] == 401
    async with connect(url, subprotocols=subprotocols(key)) as socket:
        assert socket.subprotocol == "spindle.v1"
        assert socket.response is not None
        assert key not in str(socket.response.headers)
    async with connect(url, additional_headers={"X-API-Key": key}) as socket:
        assert socket.subprotocol is None


async def test_a_ticket_opens_one_event_stream_once(control: Control, key: str) -> None:
    headers = {"X-API-Key": key}
    made = await control.http.post(f"{API}/sse-tickets", headers=headers)
    assert made.status_code == 201
    ticket = made.json()["ticket"]
    assert (await control.http.get(f"{RUNS}?ticket={ticket}")).status_code == 401
    stream = f"{RUNS}/nothing/events?ticket={ticket}"
    assert (await control.http.get(stream)).status_code == 404
    assert (await control.http.get(stream)).status_code == 401
    assert (await control.http.post(f"{API}/sse-tickets")).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_pages_of_other_origins_are_refused(control: Control, origin: str) -> None:
    response = await control.http.post(f"{API}/sse-tickets", headers={"Origin": origin})
    assert (response.status_code, response.json()["type"]) == (403, "urn:spindle:problem:forbidden")
    assert "Access-Control-Allow-Origin" not in response.headers
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{control.ws}{RUNS}/nothing/ws", origin=Origin(origin))
    assert caught.value.response.status_code == 403


async def test_our_own_and_allowed_origins_are_served(control: Control) -> None:
    for origin in (control.url, "https://studio.example"):
        response = await control.http.post(f"{API}/sse-tickets", headers={"Origin": origin})
        assert response.status_code == 201
    assert response.headers["Access-Control-Allow-Origin"] == "https://studio.example"
    asked = {"Origin": "https://studio.example", "Access-Control-Request-Method": "POST"}
    preflight = await control.http.options(RUNS, headers=asked | {"Access-Control-Request-Headers": "x-api-key"})
    assert preflight.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "10.1.2.3", ""])
async def test_a_rebound_name_is_not_answered(control: Control, host: str) -> None:
    response = await control.http.get(RUNS, headers={"Host": host})
    assert response.status_code in (400, 403)


async def test_configured_names_are_answered(tmp_path: Path, redis_server: RedisServer) -> None:
    async with serving(tmp_path, redis_server.url, allowed_hosts=["Studio.lan"]) as control:
        assert (await control.http.get(RUNS, headers={"Host": "studio.lan:8420"})).status_code == 200


async def test_every_refusal_is_a_problem_with_the_callers_trace(control: Control) -> None:
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    asked = [
        ("GET", "/nothing", 404),
        ("DELETE", RUNS, 405),
        ("GET", f"{RUNS}?limit=x&status=odd", 400),
        ("GET", f"{RUNS}/nothing", 404),
        ("GET", f"{RUNS}?after=x", 400),
        ("POST", RUNS, 415),
        ("GET", f"{RUNS}/", 404),
    ]
    for method, path, status in asked:
        response = await control.http.request(method, path, headers=headers)
        assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json"), path
        problem = response.json()
        assert (problem["status"], problem["trace_id"]) == (status, TRACE)
        assert problem["type"].startswith("urn:spindle:problem:")
    invalid = (await control.http.get(f"{RUNS}?limit=x&status=odd")).json()
    assert {each["pointer"] for each in invalid["errors"]} == {"/query/limit", "/query/status"}
    assert re.fullmatch("[0-9a-f]{32}", invalid["trace_id"])
    assert "GET" in (await control.http.delete(RUNS)).headers["Allow"]


async def test_what_nobody_foresaw_shows_no_traceback(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    await control.services.store.close()
    object.__setattr__(control.services, "registry", None)
    response = await control.http.get(f"{API}/workers")
    assert (response.status_code, response.headers["Content-Type"]) == (500, "application/problem+json")
    assert "Traceback" not in response.text
    assert "AttributeError" not in response.text
    assert "AttributeError" in caplog.text


async def test_metrics_count_requests_by_route(control: Control) -> None:
    await control.http.get(f"{RUNS}/nothing")
    text = (await control.http.get("/metrics")).text
    assert re.search(r'spindle_http_requests_total\{method="GET",route="/api/v1/runs/\{run_id\}",status="404"\} ', text)


async def test_health_names_the_part_that_is_away(tmp_path: Path, fresh_redis: RedisServer) -> None:
    async with serving(tmp_path, fresh_redis.url) as control:
        well = await control.http.get("/health")
        assert (well.status_code, well.json()["status"]) == (200, "ok")
        assert set(well.json()["parts"]) == {"database", "redis", "artifacts", "driver", "reconciler", "queues"}
        fresh_redis.stop()
        try:
            ill = await control.http.get("/readyz", timeout=20)
        finally:
            await asyncio.to_thread(fresh_redis.start)
        assert (ill.status_code, ill.json()["parts"]["redis"]["ok"]) == (503, False)
        assert ill.json()["parts"]["database"]["ok"]
        assert (await control.http.get("/livez")).status_code == 200


def serve(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spindle_control"]
    settings = os.environ | {"SPINDLE_DATA_DIR": str(tmp_path)} | environment
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)


def test_beyond_loopback_serving_without_keys_is_refused(tmp_path: Path) -> None:
    refused = serve(tmp_path, SPINDLE_HOST="0.0.0.0")
    assert refused.returncode == 2
    assert "spindle keys create" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "studio.lan"])
def test_each_address_beyond_loopback_needs_a_usable_key(tmp_path: Path, host: str) -> None:
    settings = ControlSettings(data_dir=tmp_path, host=host)
    with pytest.raises(Refused):
        check(settings)
    keys = ApiKeys(settings.keys_file)
    key, _ = keys.create()
    check(settings)
    keys.revoke(key.id)
    with pytest.raises(Refused):
        check(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_none(tmp_path: Path, host: str) -> None:
    check(ControlSettings(data_dir=tmp_path, host=host))


def test_strange_settings_are_told_without_a_traceback(tmp_path: Path) -> None:
    refused = serve(tmp_path, SPINDLE_PORT="many")
    assert refused.returncode == 2
    assert "port" in refused.stderr
    assert "Traceback" not in refused.stderr
