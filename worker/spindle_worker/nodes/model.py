"""model.load: names a model once for several nodes."""

from spindle_worker.node import Context, Field, Inputs, ModelRef, Outputs, node


class LoadInputs(Inputs):
    """The name of a model."""

    model: ModelRef | None = Field(None, description="Name of a configured model; unset: the default one.")


class LoadOutputs(Outputs):
    """A recipe."""

    model: ModelRef = Field(description="Recipe {model, digest, adapters}.")


@node("model.load@1", title="Choose a model")
async def load(inputs: LoadInputs, ctx: Context) -> LoadOutputs:
    """Gives a model's recipe, which says exactly which weights are meant; they are loaded when first used."""
    return LoadOutputs(model=ctx.models.recipe(inputs.model))
