"""What every training stage does alike: one thread, a seed, AdamW with a cosine rate, an averaged copy, checkpoints."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns, the weights it begins with, and where its averaged weights go."""

    steps: int
    rate: float
    checkpoint: Path
    seed: int
    start: Path | None = None
    average: float = 0.995
    warm_up: int = 50
    report_every: int = 50
    save_every: int = 200


def prepare(seed: int) -> None:
    """Makes the process single-threaded and its torch noise repeatable."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def channels_last(model: nn.Module) -> None:
    """Lays the weights out as convolutions on a CPU like them: half the time of a step."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def minimise(model: nn.Module, loss: Callable[[], Tensor], plan: Plan) -> None:
    """Calls `loss` once a step and follows its gradient; the averaged weights end in `plan.checkpoint`."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, plan))
    averaged = copy.deepcopy(model)
    losses: list[float] = []
    for step in range(1, plan.steps + 1):
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        _average(averaged, model, min(plan.average, step / (step + 10)))
        losses.append(value.item())
        if step % plan.report_every == 0:
            _report(step, losses[-plan.report_every :])
        if step % plan.save_every == 0 or step == plan.steps:
            save(averaged, plan.checkpoint)


def save(model: nn.Module, path: Path) -> None:
    """Writes the weights in one move, so that a reader never sees half a file."""
    partial = path.with_suffix(".part")
    torch.save(model.state_dict(), partial)
    partial.replace(path)


def begin(model: Model, plan: Plan) -> Model:
    """The model as the plan begins: with the weights of an earlier stage, or as it is."""
    return load(model, plan.start).train() if plan.start else model


def load(model: Model, path: Path) -> Model:
    """The model with the weights of `path`, ready to be used."""
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    """Moves the averaged weights towards the model's, keeping the given share of what they were."""
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)


def _rate(step: int, plan: Plan) -> float:
    """Factor on the learning rate: a linear rise, then half a cosine down to a hundredth."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    done = (step - plan.warm_up) / max(1, plan.steps - plan.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _report(step: int, recent: Iterable[float]) -> None:
    values = list(recent)
    log.info("step %d loss %.5f cpu %.0f s", step, sum(values) / len(values), time.process_time())
