"""`spindle import` where no server answers."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from spindle_control.cli import app

GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["1", 1]}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "4": {
        "class_type": "KSampler",
        "inputs": {
            **{"seed": 1, "steps": 2, "cfg": 2, "sampler_name": "euler", "scheduler": "normal", "denoise": 1},
            **{"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]},
        },
    },
    "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
    "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
}


def call(*arguments: str, given: bytes | None = None) -> tuple[int, str, str]:
    full = ["import", *arguments, "--url", "http://127.0.0.1:9"]
    result = CliRunner().invoke(app, full, env={"COLUMNS": "200"}, input=given)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(GRAPH))
    return str(path)


def test_prints_the_workflow_and_tells_notes_beside_it(file: str) -> None:
    status, out, err = call(file)
    assert status == 0
    assert json.loads(out)["nodes"]["k_sampler"]["type"] == "image.sample@1"
    assert "becomes the model `base`" in err
    assert "not checked" in err


def test_writes_a_file_and_maps_models(file: str, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    status, out, err = call(file, "-o", str(target), "--model", "base.safetensors=tiny")
    assert (status, out) == (0, "")
    assert json.loads(target.read_text())["inputs"]["model"]["default"] == "tiny"
    assert "3 nodes" in err


def test_json_has_everything(file: str) -> None:
    status, out, err = call(file, "--json")
    assert (status, err) == (0, "")
    assert set(json.loads(out)) == {"workflow", "notes", "dialect"}


def test_reads_pictures_and_standard_input(tmp_path: Path) -> None:
    info, out = PngInfo(), io.BytesIO()
    info.add_text("prompt", json.dumps(GRAPH))
    Image.new("RGB", (4, 4)).save(out, "PNG", pnginfo=info)
    picture = tmp_path / "made.png"
    picture.write_bytes(out.getvalue())
    by_file, by_pipe = call(str(picture)), call("-", given=json.dumps(GRAPH).encode())
    assert by_file[0] == by_pipe[0] == 0
    assert json.loads(by_file[1]) == json.loads(by_pipe[1])


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        ((), b"no json", "is not JSON"),
        ((), b"[1]", "a JSON object is needed"),
        ((), b"{}", "no document of a dialect"),
        (("--dialect", "comfyui"), b'{"1": {"class_type": "SaveImage", "inputs": {}}}', "/1"),
        (("--model", "x"), b"{}", "--model x does not say"),
        ((), b"\x89PNG\r\n\x1a\n", "keeps no ComfyUI graph"),
    ],
)
def test_refusals(tmp_path: Path, arguments: tuple[str, ...], content: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    status, _, err = call(str(path), *arguments)
    assert status == 2
    assert words in err


def test_files_that_are_not_there(tmp_path: Path, file: str) -> None:
    assert "Cannot read" in call(str(tmp_path / "none.json"))[2]
    assert "Cannot write" in call(file, "-o", str(tmp_path / "none" / "out.json"))[2]
