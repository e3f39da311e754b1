"""Every workflow in examples/ runs as it stands there, on a real control and a real worker, and makes what it says."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spindle_control.client import Client
from support.cluster import running
from support.redis_server import RedisServer

Json = dict[str, Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
FEW: Json = {"steps": 2}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("examples"), own_redis, torch=True) as (_, (url,)):
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as client:
        yield client


def example(name: str) -> Json:
    document: Json = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert document["name"] == name
    return document


async def completed(client: Client, name: str, inputs: Json | None = None) -> Json:
    run = await client.run_and_wait(example(name), inputs)
    return outputs_of(run)


def outputs_of(run: Json) -> Json:
    assert run["status"] == "completed", run.get("problem")
    outputs: Json = run["outputs"]
    return outputs


async def size(client: Client, artifact: Json) -> tuple[int, int]:
    assert artifact["media_type"] == "image/png"
    return Image.open(io.BytesIO(await client.download(artifact))).size


async def a_photo(client: Client) -> Json:
    content = io.BytesIO()
    Image.new("RGB", (200, 200), "navy").save(content, "PNG")
    return await client.upload(content.getvalue(), "image/png")


async def answered(client: Client, name: str, answer: Json) -> tuple[Json, Json]:
    """Run an example that asks; returns its question and its outputs."""
    run = await client.submit(example(name), FEW)
    async with asyncio.timeout(100):
        while (node := (await client.get(run["id"]))["nodes"]["ok"])["status"] != "waiting":
            assert node["status"] in ("pending", "queued", "running"), node
            await asyncio.sleep(0.1)
    await client.answer(run["id"], "ok", answer)
    return node["question"], outputs_of(await client.wait(run["id"]))


async def test_all_are_valid(client: Client) -> None:
    await client.put_workflow("poster", example("poster"))
    for name in NAMES:
        assert (await client.validate(example(name)))["warnings"] == [], name


async def test_hello(client: Client) -> None:
    assert await completed(client, "hello") == {"letter": "Hello, world! 10 letters for you."}


@pytest.mark.parametrize(("scale", "side"), [(1, 128), (4, 512)])
async def test_poster(client: Client, scale: float, side: int) -> None:
    outputs = await completed(client, "poster", {**FEW, "scale": scale})
    assert await size(client, outputs["image"]) == (side, side)


async def test_grid(client: Client) -> None:
    outputs = await completed(client, "grid", {"seed": 3})
    assert await size(client, outputs["image"]) == (260, 260)
    assert outputs["seed"] == 3


async def test_edit(client: Client) -> None:
    outputs = await completed(client, "edit", {"photo": await a_photo(client)})
    assert await size(client, outputs["image"]) == (128, 128)


async def test_variations(client: Client) -> None:
    outputs = await completed(client, "variations", {**FEW, "offsets": [0, 5]})
    assert await size(client, outputs["image"]) == (128, 128)
    assert [await size(client, image) for image in outputs["images"]] == [(128, 128)] * 2
    best = outputs["scores"].index(max(outputs["scores"]))
    assert outputs["offset"] == [0, 5][best]
    assert len({image["digest"] for image in outputs["images"]}) == 2, "other seeds make other pictures"


@pytest.mark.parametrize(("wanted", "iterations", "reached"), [(0, 1, True), (1, 5, False)])
async def test_refine(client: Client, wanted: float, iterations: int, reached: bool) -> None:
    outputs = await completed(client, "refine", {**FEW, "wanted": wanted})
    assert (outputs["iterations"], outputs["reached"]) == (iterations, reached)
    assert await size(client, outputs["image"]) == (128, 128)


async def test_refine_begins_with_a_photo_if_there_is_one(client: Client) -> None:
    run = await client.run_and_wait(example("refine"), {**FEW, "wanted": 0, "photo": await a_photo(client)})
    assert outputs_of(run)["iterations"] == 1
    assert {name: run["nodes"][name]["status"] for name in ("given", "drawn")} == {
        "given": "completed",
        "drawn": "skipped",
    }


@pytest.mark.parametrize(("yes", "side"), [(True, 512), (False, 128)])
async def test_approval(client: Client, yes: bool, side: int) -> None:
    question, outputs = await answered(client, "approval", {"yes": yes})
    assert await size(client, question["show"]["image"]) == (128, 128)
    assert "deadline" in question
    assert outputs["answered"] is True
    assert await size(client, outputs["image"]) == (side, side)


async def test_pair_calls_poster(client: Client) -> None:
    await client.put_workflow("poster", example("poster"))
    outputs = await completed(client, "pair", FEW)
    assert await size(client, outputs["image"]) == (264, 128)


@pytest.mark.parametrize(("finish", "expected"), [("plain", (128, 128)), ("double", (264, 128)), ("big", (256, 256))])
async def test_branches(client: Client, finish: str, expected: tuple[int, int]) -> None:
    outputs = await completed(client, "branches", {**FEW, "finish": finish})
    assert await size(client, outputs["image"]) == expected
    assert outputs["source"] == "prompt"


async def test_branches_takes_a_photo(client: Client) -> None:
    outputs = await completed(client, "branches", {**FEW, "finish": "plain", "photo": await a_photo(client)})
    assert await size(client, outputs["image"]) == (128, 128)
    assert outputs["source"] == "photo"


async def test_studio_is_all_of_it(client: Client) -> None:
    question, outputs = await answered(client, "studio", {"yes": True})
    assert question["show"].keys() == {"image", "score"}
    assert (outputs["iterations"], outputs["reached"], outputs["answered"]) == (3, False, True)
    assert await size(client, outputs["image"]) == (512, 512)


def test_every_example_has_a_test() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    missing = [name for name in NAMES if not any(test.startswith(f"test_{name}") for test in tests)]
    assert not missing
