"""Models, text encoders, VAEs and adapters.

A model here is a whole: its folder holds text encoders and VAE too. Where ComfyUI loads these from files of their own,
they are taken to be those of the model that they are used with, which is noted; a VAE that replaces a checkpoint's own
is a model of its own.
"""

from collections.abc import Iterator
from typing import Any

from spindle_control.importers.comfyui.call import Call, Refused
from spindle_control.importers.comfyui.classes import CLASSES
from spindle_control.importers.comfyui.graph import Graph, Link, Node
from spindle_control.importers.comfyui.things import Clip, Model, Vae
from spindle_control.importers.names import model_name

_ROOTS = {"CheckpointLoaderSimple": "ckpt_name", "UNETLoader": "unet_name"}
_SAMPLERS = ("KSampler", "KSamplerAdvanced", "BasicGuider", "CFGGuider", "SamplerCustomAdvanced")
_HINT = "configure a model of that name, give another as the input, or map it: --model {file}=NAME"


def checkpoint(call: Call) -> tuple[Any, ...]:
    """A model with everything in one file."""
    base, family = named(call, "ckpt_name")
    return Model(base, family=family), Clip(base, family=family), Vae(base)


def unet(call: Call) -> tuple[Any, ...]:
    """A model without text encoders and VAE."""
    base, family = named(call, "unet_name")
    return (Model(base, family=family),)


def clip(call: Call) -> tuple[Any, ...]:
    """Text encoders from files of their own."""
    names = [name for name in call.arguments if name.startswith("clip_name")]
    files = [call.text(name) for name in names]
    mapped = {call.work.options.models[file] for file in files if file in call.work.options.models}
    family = str(call.arguments.get("type", ""))
    if len(mapped) == 1:
        return (Clip(mapped.pop(), family=family),)
    return (Clip(_owner(call, names[0], files), family=family),)


def _owner(call: Call, name: str, files: list[str]) -> str:
    """The one model that what is loaded here is used with."""
    roots = {_base_of(call, root) for root in _roots(call.work.graph, call.node)}
    if len(roots) == 1:
        base = roots.pop()
        detail = f"{', '.join(files)[:200]} is taken to be what the model `{base}` has in its own folder"
        call.note(name, "assumed", detail)
        return base
    if not roots and any(_is_unknown(node) for node in call.work.graph.nodes.values()):
        raise Refused("what it is used with is not known, and has been named")
    detail = f"what is loaded here is used with {len(roots) or 'no'} models, so whose it is cannot be told"
    hint = f"map it to the model that has it: --model {files[0][:100]}=NAME"
    raise call.refusal(name, "ambiguous-model", detail, hint)


def _is_unknown(node: Node) -> bool:
    return node.class_type not in CLASSES


def vae(call: Call) -> tuple[Any, ...]:
    """A VAE from a file of its own."""
    file = call.text("vae_name")
    if file not in call.work.options.models:
        roots = list(_roots(call.work.graph, call.node))
        if roots and all(root.class_type == "UNETLoader" for root in roots):
            return (Vae(_owner(call, "vae_name", [file])),)
    return (Vae(named(call, "vae_name")[0]),)


def lora(call: Call) -> tuple[Any, ...]:
    """An adapter over a model and its text encoder."""
    name = named(call, "lora_name", adapter=True)[0]
    adapted = call.model().with_adapter(name, call.number("strength_model"))
    if call.node.class_type == "LoraLoaderModelOnly":
        return (adapted,)
    return adapted, call.clip().with_adapter(name, call.number("strength_clip"))


def flux_shift(call: Call) -> tuple[Any, ...]:
    """The shift of FLUX's noise levels, where it is the one that its own configuration has."""
    if (call.number("max_shift"), call.number("base_shift")) != (1.15, 0.5):
        raise call.refusal("max_shift", "not-yet", "only FLUX's own shift, 1.15 over 0.5, is known")
    return (call.model(),)


def sd3_shift(call: Call) -> tuple[Any, ...]:
    """The shift of SD 3's noise levels, where it is the one that its own configuration has."""
    if call.number("shift") != 3.0:
        raise call.refusal("shift", "not-yet", "only SD 3's own shift, 3, is known")
    return (call.model(),)


def named(call: Call, name: str, *, adapter: bool = False) -> tuple[str, str]:
    """The name of the model, or adapter, that a file is called here, and the family that the file's name tells."""
    file = call.text(name)
    base = call.work.options.models.get(file)
    if base is None:
        base = model_name(file)
        what, setting = ("adapter", "SPINDLE_ADAPTERS") if adapter else ("model", "SPINDLE_MODELS")
        detail = f"the file {file[:200]} becomes the {what} `{base}`"
        call.note(name, "model-named", detail, f"{setting} configures it, or map it: --model {file[:100]}=NAME")
    if not adapter:
        call.work.recipes.known(base, call.at(name), file)
    return base, "flux" if "flux" in file.lower() else ""


def _roots(graph: Graph, node: Node) -> Iterator[Node]:
    """The loaders of the models that are used together with what a node loads."""
    seen = set()
    for sampler in _samplers(graph, node):
        root = _root(graph, sampler)
        if root is not None and root.id not in seen:
            seen.add(root.id)
            yield root


def _samplers(graph: Graph, node: Node) -> Iterator[Node]:
    """What samples with it: the first samplers behind it, and those whose latents its readers decode."""
    seen, waiting = {node.id}, [node.id]
    while waiting:
        for id_, _ in graph.readers.get(waiting.pop(), ()):
            if id_ in seen:
                continue
            seen.add(id_)
            if graph.nodes[id_].class_type in _SAMPLERS:
                yield graph.nodes[id_]
            else:
                waiting.append(id_)
    for id_, _ in graph.readers.get(node.id, ()):
        yield from (above for above in graph.above(id_, "samples") if above.class_type in _SAMPLERS)


def _root(graph: Graph, sampler: Node) -> Node | None:
    guider = sampler.inputs.get("guider")
    if isinstance(guider, Link) and guider.source in graph.nodes:
        sampler = graph.nodes[guider.source]
    return next((node for node in graph.above(sampler.id, "model") if node.class_type in _ROOTS), None)


def _base_of(call: Call, root: Node) -> str:
    file = root.inputs.get(_ROOTS[root.class_type])
    name = file if isinstance(file, str) else ""
    return call.work.options.models.get(name) or model_name(name)
