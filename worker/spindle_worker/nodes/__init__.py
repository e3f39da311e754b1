"""The node types that come with the worker, one file a family."""

from types import ModuleType

from spindle_worker.node import NodeSpec


def builtin_nodes() -> tuple[NodeSpec, ...]:
    """Describe the built-in node types; torch is not imported by this."""
    from spindle_worker.nodes import (
        conditioning,
        image,
        latent,
        list,
        mask,
        model,
        picture,
        save,
        score,
        text,
        upscale,
        value,
    )

    modules = (text, value, list, model, conditioning, latent, mask, upscale, image, picture, score, save)
    return tuple(spec for module in modules for spec in specs_of(module))


def specs_of(module: ModuleType) -> list[NodeSpec]:
    """Find the functions of a module that are described as nodes, in the order in which they stand there."""
    found = (getattr(thing, "spec", None) for thing in vars(module).values())
    return [spec for spec in found if isinstance(spec, NodeSpec) and spec.function.__module__ == module.__name__]
