"""Lists of pictures on real processes: scored, chosen, joined, long ones, and ones that hold something else."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageFilter

from spindle_control.client import Client, SpindleProblem
from spindle_worker.pictures import encode_png
from support.cluster import finished, running, workflow
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("lists"), own_redis) as (_, (url,)):
        yield url


def sharp() -> Image.Image:
    picture = Image.new("RGB", (64, 64), "white")
    for at in range(0, 64, 8):
        picture.paste(Image.new("RGB", (4, 64), "navy"), (at, 0))
    return picture


async def uploaded(url: str) -> list[dict[str, Any]]:
    """Three pictures, the second of them the sharpest."""
    pictures = [sharp().filter(ImageFilter.GaussianBlur(radius)) for radius in (3, 0, 6)]
    async with Client(url) as client:
        return [await client.upload(encode_png(picture), "image/png") for picture in pictures]


def score(name: str) -> dict[str, Any]:
    return {"type": "image.score@1", "inputs": {"image": {"$from": f"inputs.{name}"}, "weights": {"sharpness": 1}}}


async def test_the_best_of_some_pictures_is_a_picture(url: str) -> None:
    names = ("a", "b", "c")
    pictures = [{"$from": f"inputs.{name}"} for name in names]
    scores = [{"$from": f"score_{name}.value"} for name in names]
    nodes = {
        **{f"score_{name}": score(name) for name in names},
        "best": {"type": "list.best@1", "inputs": {"items": pictures, "by": scores}},
        "sorted": {"type": "list.sort@1", "inputs": {"items": pictures, "by": scores, "order": "descending"}},
        "rows": {"type": "list.zip@1", "inputs": {"lists": {"picture": pictures, "score": scores}}},
        "big": {"type": "image.resize@1", "inputs": {"image": {"$from": "best.item"}, "scale": 2}},
        "last": {"type": "image.resize@1", "inputs": {"image": {"$from": "rows.items.2.picture"}, "width": 8}},
    }
    outputs = {
        "index": {"$from": "best.index"},
        "order": {"$from": "sorted.indices"},
        "sorted": {"$from": "sorted.items"},
        "big": {"$from": "big.image"},
        "small": {"$from": "last.image"},
    }
    given = dict(zip(names, await uploaded(url), strict=True))
    inputs = {name: {"artifact": "image/png"} for name in names}
    run = await finished(url, workflow(nodes, inputs=inputs, outputs=outputs), given)
    assert run["status"] == "completed", run
    assert run["outputs"]["index"] == 1
    assert run["outputs"]["order"] == [1, 0, 2]
    assert run["outputs"]["sorted"] == [given["b"], given["a"], given["c"]]
    async with Client(url) as client:
        assert Image.open(io.BytesIO(await client.download(run["outputs"]["big"]))).size == (128, 128)
        assert Image.open(io.BytesIO(await client.download(run["outputs"]["small"]))).size == (8, 8)


async def test_a_long_list_travels_as_bytes_of_its_own(url: str) -> None:
    (picture, *_) = await uploaded(url)
    nodes = {
        "many": {"type": "list.repeat@1", "inputs": {"value": {"$from": "inputs.picture"}, "count": 1000}},
        "apart": {"type": "test.noop@1", "inputs": {"value": {"$from": "many.items"}}},
        "pick": {"type": "list.pick@1", "inputs": {"items": {"$from": "many.items"}, "index": -1}},
        "small": {"type": "image.resize@1", "inputs": {"image": {"$from": "pick.item"}, "width": 8}},
        "length": {"type": "list.length@1", "inputs": {"items": {"$from": "apart.value"}}},
    }
    outputs = {"length": {"$from": "length.length"}, "image": {"$from": "small.image"}}
    document = workflow(nodes, inputs={"picture": {"artifact": "image/*"}}, outputs=outputs)
    run = await finished(url, document, {"picture": picture})
    assert run["status"] == "completed", run
    assert run["outputs"]["length"] == 1000
    assert "$spilled" in run["nodes"]["many"]["outputs"]["items"]


async def test_what_is_no_picture_is_refused_before_the_run_where_that_is_known(url: str) -> None:
    async with Client(url) as client:
        sound = await client.upload(b"RIFF\x04\x00\x00\x00WAVE", "audio/wav")
    nodes = {
        "best": {"type": "list.best@1", "inputs": {"items": [{"$from": "inputs.sound"}], "by": [1]}},
        "big": {"type": "image.resize@1", "inputs": {"image": {"$from": "best.item"}, "scale": 2}},
    }
    with pytest.raises(SpindleProblem) as caught:
        await finished(url, workflow(nodes, inputs={"sound": {"artifact": "audio/*"}}), {"sound": sound})
    (wrong,) = caught.value.problem["errors"]
    assert wrong["detail"] == "`big.image` (image.resize@1) wants image/*, `best.item` gives audio/*"
    run = await finished(url, workflow(nodes, inputs={"sound": {"artifact": "*/*"}}), {"sound": sound})
    assert run["nodes"]["best"]["status"] == "completed"
    assert run["nodes"]["big"]["problem"]["detail"] == "/inputs/image: this is audio/wav, and image/* is wanted"
