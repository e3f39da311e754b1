"""Asks the shipped model for pictures of held-out scenes and counts what the pixel classifier finds in them.

`python -m training.evaluate [--model FOLDER] [--count N] [--steps N] [--guidance G]` prints one JSON document. The
control judges every picture by the caption of another; `classifier` judges true drawings, and so tells how far to trust
the rest.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image

from training import captions
from training.classify import classify
from training.export import digests, weight_files
from training.foreign import StableDiffusionPipeline
from training.render import render
from training.scene import Scene, split
from training.settings import MODEL_FOLDER, SEED

FIELDS = tuple(field.name for field in fields(Scene))
BATCH = 10
TIMED = 12


@dataclass(frozen=True)
class Sampling:
    """How pictures are made."""

    steps: int
    guidance: float


def load_pipeline(model: Path) -> Any:
    """The shipped pipeline, from its folder alone."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        model, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def defaults(model: Path) -> Sampling:
    """The sampling that the model folder recommends."""
    recommended = json.loads((model / "spindle.json").read_text())
    return Sampling(recommended["steps"], recommended["guidance"])


def generate(pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], how: Sampling) -> list[Image.Image]:
    """One picture a prompt, its noise drawn from its own seed, as one batch."""
    result = pipeline(
        list(prompts),
        num_inference_steps=how.steps,
        guidance_scale=how.guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return cast(list[Image.Image], result.images)


def held_out_captions(count: int, told: Sequence[str] = FIELDS) -> list[tuple[Scene, str]]:
    """Held-out scenes with a caption each, the same on every call."""
    rng = random.Random(SEED + 10)
    _, held_out = split()
    return [(scene, captions.caption(scene, rng, told)) for scene in rng.sample(held_out, count)]


def shares(found: Sequence[Scene], wanted: Sequence[Scene], told: Sequence[str] = FIELDS) -> dict[str, float]:
    """The share of pictures that are right, by attribute and in all of those told."""
    pairs = list(zip(found, wanted, strict=True))
    right = [{name: getattr(one, name) == getattr(other, name) for name in told} for one, other in pairs]
    by_name = {name: sum(row[name] for row in right) / len(right) for name in told}
    return {**by_name, "all": sum(all(row.values()) for row in right) / len(right)}


def evaluate(model: Path, count: int, how: Sampling) -> dict[str, Any]:
    """All figures of the model card."""
    pipeline = load_pipeline(model)
    wanted = held_out_captions(count)
    found = _look(pipeline, [text for _, text in wanted], how)
    scenes = [scene for scene, _ in wanted]
    rng = random.Random(SEED + 11)
    return {
        "count": count,
        "steps": how.steps,
        "guidance": how.guidance,
        "model": shares(found, scenes),
        "control": shares(found, [*scenes[1:], scenes[0]]),
        "classifier": shares([classify(render(scene, rng)) for scene in scenes], scenes),
        "without_size": _partial(pipeline, count // 2, ("place", "background"), how),
        "without_place": _partial(pipeline, count // 2, ("size", "background"), how),
        "cpu_seconds_per_image": _cpu_seconds(pipeline, wanted[0][1], how),
        "bytes": sum(path.stat().st_size for path in weight_files(model).values()),
        "sha256": digests(model),
    }


def _partial(pipeline: Any, count: int, optional: tuple[str, ...], how: Sampling) -> dict[str, float]:
    wanted = held_out_captions(count, optional)
    found = _look(pipeline, [text for _, text in wanted], how)
    return shares(found, [scene for scene, _ in wanted], ("shape", "colour", *optional))


def _look(pipeline: Any, prompts: list[str], how: Sampling) -> list[Scene]:
    """What is seen in the pictures of the prompts, seeded 0, 1, 2 and so on."""
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        chunk = prompts[start : start + BATCH]
        pictures += generate(pipeline, chunk, range(start, start + len(chunk)), how)
    return [classify(picture) for picture in pictures]


def _cpu_seconds(pipeline: Any, prompt: str, how: Sampling) -> float:
    """CPU seconds of one picture on its own, once warm: the median of a dozen."""
    spent = []
    for seed in range(TIMED + 2):
        started = time.process_time()
        generate(pipeline, [prompt], [seed], how)
        spent.append(time.process_time() - started)
    return sorted(spent[2:])[TIMED // 2]


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    arguments = parser.parse_args()
    usual = defaults(arguments.model)
    how = Sampling(arguments.steps or usual.steps, arguments.guidance or usual.guidance)
    torch.set_num_threads(1)
    print(json.dumps(evaluate(arguments.model, arguments.count, how), indent=2))


if __name__ == "__main__":
    main()
