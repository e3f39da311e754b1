"""value.const, value.choose and value.seed: light nodes that give a value to several others."""

from typing import Annotated, Any

from pydantic import StrictBool

from spindle_worker.node import Context, Field, Inputs, Outputs, TypeOf, node


class ConstInputs(Inputs):
    """A value."""

    value: Any = Field(description="Any JSON value, references included.")


class ConstOutputs(Outputs):
    """The value."""

    value: Annotated[Any, TypeOf("value")] = Field(description="The same value.")


@node("value.const@1", title="A value")
async def const(inputs: ConstInputs, ctx: Context) -> ConstOutputs:
    """Gives its input on, so that many nodes can refer to one value."""
    return ConstOutputs(value=inputs.value)


class ChooseInputs(Inputs):
    """A condition and two values."""

    condition: StrictBool = Field(description="Which of the two to give.")
    then: Any = Field(description="Given if the condition is true.")
    otherwise: Any = Field(None, description="Given if it is false.")


class ChooseOutputs(Outputs):
    """One of the values."""

    value: Annotated[Any, TypeOf("then")] | Annotated[Any, TypeOf("otherwise")] = Field(
        description="The value that was chosen."
    )


@node("value.choose@1", title="One of two values")
async def choose(inputs: ChooseInputs, ctx: Context) -> ChooseOutputs:
    """Gives one of two values. Both are made; to make only one, put `when` on what makes them, and use `$first`."""
    return ChooseOutputs(value=inputs.then if inputs.condition else inputs.otherwise)


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
