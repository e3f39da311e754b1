"""The rows of a forward pass: one for each prompt of a request, negative ones first, then positive ones.

Several prompts on one side are averaged after the pass. Attention over tokens that are repeated as a whole gives what
it gives over them once, so prompts of different lengths are repeated to a common one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput
from spindle_worker.diffusion.requests import Request
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

_SCORES = (2.5, 6.0)
"""Aesthetic scores that SDXL's refiner is told for what is not wanted and what is (diffusers' defaults)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded prompts of one request, (rows, tokens, width), and what SDXL wants beside them."""

    hidden: "Tensor"
    negatives: int
    added: "dict[str, Tensor]" = field(default_factory=dict)

    def combined(self, prediction: "Tensor", guidance: float) -> "Tensor":
        """Make one prediction of the rows': the mean of each side, and guidance away from the negative one."""
        positive = _mean(prediction[self.negatives :])
        if not self.negatives:
            return positive
        negative = _mean(prediction[: self.negatives])
        return negative + guidance * (positive - negative)


def _mean(rows: "Tensor") -> "Tensor":
    return rows if len(rows) == 1 else rows.mean(dim=0, keepdim=True)


def lay_out(model: LoadedModel, request: Request, guided: bool) -> Rows:
    """Lay out a request's prompts. Raises BadInput where they were not made for this model."""
    import torch

    positive = [(part.positive, part.pooled) for part in request.conditioning.parts]
    negative = _negative(request) if guided else []
    hidden = _joined([each[0] for each in (*negative, *positive)])
    if model.layout != "sdxl":
        return Rows(hidden, len(negative))
    pooled = [each[1] for each in (*negative, *positive)]
    if any(each is None for each in pooled):
        raise BadInput("The conditioning was not made for this model")
    added = {"text_embeds": torch.cat([each for each in pooled if each is not None])}
    return Rows(hidden, len(negative), added | {"time_ids": _time_ids(model, request, hidden, len(negative))})


def _negative(request: Request) -> "list[tuple[Tensor | None, Tensor | None]]":
    if request.negative is not None:
        return [(part.positive, part.pooled) for part in request.negative.parts]
    return [(request.conditioning.negative, request.conditioning.negative_pooled)]


def _joined(parts: "Sequence[Tensor | None]") -> "Tensor":
    import torch

    tensors = [part for part in parts if part is not None]
    if len(tensors) < len(parts):
        raise BadInput("The conditioning was not made for this model")
    length = math.lcm(*(tensor.shape[1] for tensor in tensors))
    return torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])


def _time_ids(model: LoadedModel, request: Request, like: "Tensor", negatives: int) -> "Tensor":
    """Size, crop and size again (SDXL, §2.2); its refiner is told a score instead of the last."""
    import torch

    size: tuple[Any, ...] = (request.height, request.width)
    if getattr(model.pipe.config, "requires_aesthetics_score", False):
        rows = [[*size, 0, 0, _SCORES[at >= negatives]] for at in range(len(like))]
    else:
        rows = [[*size, 0, 0, *size]] * len(like)
    return torch.tensor(rows, dtype=like.dtype, device=like.device)
