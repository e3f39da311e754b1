"""model.load: names a model once for several nodes."""

from pydantic import BaseModel, ConfigDict

from spindle_worker.node import Context, Field, Inputs, ModelRef, Outputs, node


class Adapter(BaseModel):
    """An adapter (LoRA) and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name of a configured adapter.")
    weight: float = Field(1.0, ge=-100, le=100, description="Over what denoises.")
    text_weight: float | None = Field(None, ge=-100, le=100, description="Over the text encoders; unset: `weight`.")


class LoadInputs(Inputs):
    """The name of a model, and what is laid over it."""

    model: ModelRef | None = Field(None, description="Name of a configured model; unset: the default one.")
    adapters: list[Adapter] = Field([], max_length=16, description="Adapters (LoRA) to lay over it.")


class LoadOutputs(Outputs):
    """A recipe."""

    model: ModelRef = Field(description="Recipe {model, digest, adapters}.")


@node("model.load@1", title="Choose a model")
async def load(inputs: LoadInputs, ctx: Context) -> LoadOutputs:
    """Gives a model's recipe, which says exactly which weights are meant; they are loaded when first used."""
    recipe = dict(inputs.model or {})
    more = [each.model_dump(exclude_none=True) for each in inputs.adapters]
    return LoadOutputs(model=ctx.models.recipe(recipe | {"adapters": [*recipe.get("adapters", []), *more]}))
