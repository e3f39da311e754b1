"""The shipped tiny model: loads from its folder, is what its card says, and draws what captions of it ask for."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.settings import MODEL_FOLDER

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from training import evaluate, export  # noqa: E402
from training.classify import classify  # noqa: E402


@pytest.fixture(scope="module")
def pipeline() -> Any:
    torch.set_num_threads(1)
    return evaluate.load_pipeline(MODEL_FOLDER)


def test_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in export.weight_files(MODEL_FOLDER).values()) < 10_000_000


def test_card_names_every_weight_file_and_its_digest() -> None:
    card = (MODEL_FOLDER / "MODEL_CARD.md").read_text()
    digests = export.digests(MODEL_FOLDER)
    assert len(digests) == 3
    for name, digest in digests.items():
        assert f"| `{name}` | `{digest}` |" in card


def test_folder_holds_no_code() -> None:
    assert not list(Path(MODEL_FOLDER).rglob("*.py"))


def test_defaults() -> None:
    defaults = json.loads((MODEL_FOLDER / "spindle.json").read_text())
    assert set(defaults) == {"steps", "guidance", "width", "height", "name"}


def test_draws_held_out_captions(pipeline: Any) -> None:
    wanted = evaluate.held_out_captions(24)
    pictures = evaluate.generate(pipeline, [text for _, text in wanted], range(24), evaluate.defaults(MODEL_FOLDER))
    right = sum(classify(picture) == scene for picture, (scene, _) in zip(pictures, wanted, strict=True))
    assert right >= 20


def test_same_seed_same_picture(pipeline: Any) -> None:
    how = evaluate.Sampling(4, 1.5)
    one, other, third = (evaluate.generate(pipeline, ["a red circle"], [seed], how)[0] for seed in (1, 1, 2))
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != third.tobytes()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (192, 128), (256, 256)])
def test_other_sizes_do_not_fail(pipeline: Any, width: int, height: int) -> None:
    picture = pipeline("a red circle on a blue background", width=width, height=height, num_inference_steps=2).images[0]
    assert picture.size == (width, height)
