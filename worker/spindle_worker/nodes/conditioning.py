"""conditioning.combine, conditioning.zero and conditioning.guidance: what is done to an encoded prompt before sampling.

All of them only rearrange a handle; nothing is computed with the model.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput
from spindle_worker.diffusion import Conditioning as Encoded
from spindle_worker.node import Conditioning, Context, Field, Inputs, Outputs, node

if TYPE_CHECKING:
    from torch import Tensor


class ConditioningOutputs(Outputs):
    """A handle on an encoded prompt."""

    conditioning: Conditioning = Field(description="The encoded prompt.")


class CombineInputs(Inputs):
    """Two encoded prompts."""

    conditioning: Conditioning = Field(description="An encoded prompt.")
    other: Conditioning = Field(description="Another one of the same model.")


@node("conditioning.combine@1", queue="gpu", title="Follow two prompts at once")
def combine(inputs: CombineInputs, ctx: Context) -> ConditioningOutputs:
    """Has the model predict once for each prompt, and follow the mean."""
    one, other = encoded(inputs.conditioning), encoded(inputs.other)
    if one.recipe["digest"] != other.recipe["digest"]:
        raise BadInput(f"One prompt was encoded by {one.recipe['model']}, the other by {other.recipe['model']}")
    return ConditioningOutputs(conditioning=replace(one, others=(*one.others, *other.parts)))


class ZeroInputs(Inputs):
    """An encoded prompt."""

    conditioning: Conditioning = Field(description="What is emptied.")


@node("conditioning.zero@1", queue="gpu", title="Empty a prompt")
def zero(inputs: ZeroInputs, ctx: Context) -> ConditioningOutputs:
    """Gives zeros of the prompt's shape, which is not the same as an empty prompt."""
    return ConditioningOutputs(conditioning=_zeroed(encoded(inputs.conditioning)))


def _zeroed(words: Encoded) -> Encoded:
    def none(tensor: "Tensor | None") -> "Tensor | None":
        return None if tensor is None else tensor * 0

    others = tuple(_zeroed(other) for other in words.others)
    return replace(words, positive=none(words.positive), pooled=none(words.pooled), others=others, zeroed=True)


class GuidanceInputs(Inputs):
    """An encoded prompt and how closely it is kept to."""

    conditioning: Conditioning = Field(description="An encoded prompt.")
    guidance: float = Field(3.5, ge=0, le=100, description="What the model is told; others than FLUX take no notice.")


@node("conditioning.guidance@1", queue="gpu", title="Tell a distilled model its guidance")
def guidance(inputs: GuidanceInputs, ctx: Context) -> ConditioningOutputs:
    """Sets the guidance that models like FLUX.1 dev take as an input, apart from that of the sampler."""
    return ConditioningOutputs(conditioning=replace(encoded(inputs.conditioning), distilled_guidance=inputs.guidance))


def encoded(value: Any) -> Encoded:
    """Return what a conditioning port holds. Raises BadInput."""
    if not isinstance(value, Encoded):
        raise BadInput(f"What came is no encoded prompt but {type(value).__name__}")
    return value
