"""What a picture costs beside the bare pipeline: `python tests/bench/image.py [--model NAME=FOLDER] [--rounds N]`.

Prints JSON. Bare: diffusers' own `pipe(…)` with the scheduler, steps, guidance and size that the node uses, its PIL
picture included. Node: `image.generate@1` run without a server, seed, progress and PNG included, once with nobody
watching (that is the orchestration) and once with previews. They take turns, so that a busy machine bothers all; CPU
time is that of the process.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import torch

from spindle_worker.models import CacheOptions, LoadedModel, ModelCache, ModelLibrary
from spindle_worker.nodes.image import generate
from spindle_worker.nodes.sampling import usual_settings
from spindle_worker.testing import Reports, context_for, run_node

PROMPT = "a large red circle on a blue background"
AIM = "orchestration <= 1 % of the bare pipeline for jobs >= 2 s, <= 25 ms always"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="tiny, or NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    name, _, folder = given.model.partition("=")
    library = ModelLibrary({name: folder} if folder else {}, name)
    cache = ModelCache(library, CacheOptions(64 * 2**30, device=given.device, threads=given.threads))
    with cache.use() as model:
        found = compare(model, cache, given.rounds, given.steps)
    print(json.dumps(found | {"aim": AIM, "machine": machine(cache)}, indent=2))


def compare(model: LoadedModel, cache: ModelCache, rounds: int, steps: int | None) -> dict[str, Any]:
    """Medians of wall and CPU seconds of both."""
    usual = usual_settings(model) | ({"steps": steps} if steps else {})
    works = {
        "bare": bare_pipeline(model, usual),
        "node": whole_node(cache, usual["steps"], previews=False),
        "node_with_previews": whole_node(cache, usual["steps"], previews=True),
    }
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
    for round_ in range(rounds + 1):
        for label, work in works.items():
            seconds = timed(work)
            taken[label] += [seconds] if round_ else []
    found = {label: medians(values) for label, values in taken.items()}
    return {
        "model": model.name,
        "settings": usual,
        "rounds": rounds,
        **found,
        **{f"{label}_over_bare": ratios(found[label], found["bare"]) for label in works if label != "bare"},
    }


def ratios(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name.removesuffix("_s"): round(one[name] / other[name], 4) for name in one}


def bare_pipeline(model: LoadedModel, usual: dict[str, Any]) -> Callable[[], object]:
    def run() -> object:
        return model.pipe(
            prompt=PROMPT,
            num_inference_steps=usual["steps"],
            guidance_scale=usual["guidance"],
            width=usual["width"],
            height=usual["height"],
            generator=torch.Generator("cpu").manual_seed(1),
        ).images[0]

    return run


def whole_node(cache: ModelCache, steps: int, *, previews: bool) -> Callable[[], object]:
    def run() -> object:
        context = context_for(models=cache, reports=Reports())
        context = context if previews else replace(context, _previewed=float("inf"))
        return run_node(generate, {"prompt": PROMPT, "seed": 1, "steps": steps}, context=context)

    return run


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def medians(values: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "wall_s": round(statistics.median(wall for wall, _ in values), 4),
        "cpu_s": round(statistics.median(cpu for _, cpu in values), 4),
    }


def machine(cache: ModelCache) -> dict[str, Any]:
    return {
        "device": cache.device,
        "threads": cache.options.threads,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


if __name__ == "__main__":
    main()
