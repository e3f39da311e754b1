"""A ComfyUI graph, imported, makes a picture on the model that ships with the worker."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from support.cluster import finished, running
from support.redis_server import RedisServer

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("imported"), own_redis, torch=True) as (_, (url,)):
        yield url


def graph() -> dict[str, Any]:
    """Text to picture, then larger latents sampled further."""
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    how = {"seed": 3, "steps": 4, "cfg": 3, "sampler_name": "euler", "scheduler": "sgm_uniform", "denoise": 1}
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "tiny.safetensors"}),
        "2": ("CLIPTextEncode", {"text": "a large (red:1.2) circle on a blue background", "clip": ["1", 1]}),
        "3": ("CLIPTextEncode", {"text": "", "clip": ["1", 1]}),
        "4": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2}),
        "5": ("KSampler", how | links),
        "6": ("LatentUpscaleBy", {"samples": ["5", 0], "upscale_method": "bicubic", "scale_by": 1.5}),
        "7": ("KSampler", how | links | {"latent_image": ["6", 0], "denoise": 0.5, "seed": 4}),
        "8": ("VAEDecode", {"samples": ["7", 0], "vae": ["1", 2]}),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "round"}),
    }
    return {id_: {"class_type": name, "inputs": inputs} for id_, (name, inputs) in bodies.items()}


async def test_an_imported_graph_makes_its_pictures(url: str) -> None:
    imported = httpx.post(f"{url}/api/v1/workflows:import", json=graph(), timeout=30).json()
    run = await finished(url, imported["workflow"])
    assert run["status"] == "completed", run
    first, second = run["outputs"]["round"]
    assert first["digest"] != second["digest"]
    content = httpx.get(f"{url}/api/v1/artifacts/{first['digest']}/content").content
    assert Image.open(io.BytesIO(content)).size == (96, 96)
