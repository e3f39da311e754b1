"""A ComfyUI graph, imported, makes a picture on the model that ships with the worker."""

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from support.cluster import finished, running
from support.comfyui import graph
from support.redis_server import RedisServer

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("imported"), own_redis, torch=True) as (_, (url,)):
        yield url


async def test_an_imported_graph_makes_its_pictures(url: str) -> None:
    imported = httpx.post(f"{url}/api/v1/workflows:import", json=graph(batch_size=2), timeout=30).json()
    run = await finished(url, imported["workflow"])
    assert run["status"] == "completed", run
    first, second = run["outputs"]["round"]
    assert first["digest"] != second["digest"]
    content = httpx.get(f"{url}/api/v1/artifacts/{first['digest']}/content", timeout=60).content
    assert Image.open(io.BytesIO(content)).size == (96, 96)
