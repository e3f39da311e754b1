"""How many runs are taken in: beyond what may wait the answer is 429, and no tenant uses up everybody's places."""

from pathlib import Path

import httpx

from spindle_common.contracts import Manifest
from spindle_common.queue import Queue
from spindle_control.api_keys import ApiKeys
from spindle_worker.catalog import node_specs, offered_queue
from support.control import API, serving
from support.documents import sleeper
from support.redis_server import RedisServer


async def announced(queue: Queue) -> None:
    """A worker that offers the test nodes and never takes a task."""
    types = [spec.node_type(offered_queue(spec, device=False)) for spec in node_specs((), test_nodes=True).values()]
    manifest = Manifest(worker="idle", version="0", host="here", slots={"async": 1}, node_types=types, models=[])
    await queue.register("idle", 60.0, manifest.model_dump_json(by_alias=True), {"async": 1})


async def test_a_tenant_that_floods_leaves_places_to_others(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue
) -> None:
    await announced(queue)
    keys = ApiKeys(tmp_path / "api-keys.json")
    many, few = keys.create("many")[1], keys.create("few")[1]
    limits = {"max_driven_runs": 1, "max_queued_runs": 5, "max_tenant_runs": 4}
    async with serving(tmp_path, quiet_server.url, **limits) as control:

        async def submit(key: str) -> httpx.Response:
            headers = {"X-API-Key": key}
            return await control.http.post(f"{API}/runs", json={"workflow": sleeper(60)}, headers=headers)

        assert [(await submit(many)).status_code for _ in range(5)] == [202] * 5, "one is driven, four wait"
        refused = await submit(many)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert refused.json()["type"] == "urn:spindle:problem:too-many-requests"
        assert (await submit(few)).status_code == 202
        assert (await submit(few)).status_code == 429, "five wait, whoever's they are"
        assert await queue.waiting_count("many") == (5, 4)
        for run in (await control.http.get(f"{API}/runs", headers={"X-API-Key": many})).json()["runs"]:
            await control.http.post(f"{API}/runs/{run['id']}:cancel", headers={"X-API-Key": many})
        assert (await submit(many)).status_code == 202
