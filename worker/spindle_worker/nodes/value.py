"""value.const and value.seed: light nodes that give a value to several others."""

from typing import Any

from spindle_worker.node import Context, Field, Inputs, Outputs, node


class ConstInputs(Inputs):
    """A value."""

    value: Any = Field(description="Any JSON value, references included.")


class ConstOutputs(Outputs):
    """The value."""

    value: Any = Field(description="The same value.")


@node("value.const@1", title="A value")
async def const(inputs: ConstInputs, ctx: Context) -> ConstOutputs:
    """Gives its input on, so that many nodes can refer to one value."""
    return ConstOutputs(value=inputs.value)


class SeedInputs(Inputs):
    """Perhaps a seed."""

    seed: int | None = Field(None, ge=0, le=2**53 - 1, description="The seed; unset, one is drawn for the run.")


class SeedOutputs(Outputs):
    """A seed."""

    seed: int = Field(description="The seed.")


@node("value.seed@1", title="A seed", deterministic=False)
async def seed(inputs: SeedInputs, ctx: Context) -> SeedOutputs:
    """Gives one seed to several nodes; unset, it is drawn from run and node, the same at every attempt."""
    return SeedOutputs(seed=ctx.seed_for() if inputs.seed is None else inputs.seed)
