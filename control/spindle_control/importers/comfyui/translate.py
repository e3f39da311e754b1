"""Goes through a ComfyUI document's nodes in order, giving each what those before it came to.

What cannot be translated stands as `Broken`; a node that reads it is still checked by itself, but not blamed.
"""

from contextlib import suppress
from typing import Any

from spindle_control.compiler import Catalog
from spindle_control.importers.builder import Builder, Path
from spindle_control.importers.comfyui import loaders, pictures, prompts, sampling
from spindle_control.importers.comfyui.call import Call, Handler, Refused, Work, fitting
from spindle_control.importers.comfyui.classes import CLASSES, IGNORED, MISSING, NOT_YET, In, Spec
from spindle_control.importers.comfyui.graph import Link, Node, read
from spindle_control.importers.comfyui.recipes import Recipes
from spindle_control.importers.comfyui.things import Broken
from spindle_control.importers.outcome import Findings, Json, Options, shown

HANDLERS: dict[str, Handler] = {
    "CheckpointLoaderSimple": loaders.checkpoint,
    "UNETLoader": loaders.unet,
    "VAELoader": loaders.vae,
    "CLIPLoader": loaders.clip,
    "DualCLIPLoader": loaders.clip,
    "TripleCLIPLoader": loaders.clip,
    "LoraLoader": loaders.lora,
    "LoraLoaderModelOnly": loaders.lora,
    "ModelSamplingFlux": loaders.flux_shift,
    "ModelSamplingSD3": loaders.sd3_shift,
    "CLIPTextEncode": prompts.encode,
    "CLIPTextEncodeFlux": prompts.encode_flux,
    "CLIPSetLastLayer": prompts.set_last_layer,
    "ConditioningCombine": prompts.combine,
    "ConditioningZeroOut": prompts.zero_out,
    "FluxGuidance": prompts.flux_guidance,
    "EmptyLatentImage": pictures.empty_latent,
    "EmptySD3LatentImage": pictures.empty_latent,
    "VAEEncode": pictures.vae_encode,
    "VAEEncodeForInpaint": pictures.vae_encode_inpaint,
    "VAEDecode": pictures.vae_decode,
    "VAEDecodeTiled": pictures.vae_decode,
    "SetLatentNoiseMask": pictures.noise_mask,
    "LatentUpscale": pictures.latent_upscale,
    "LatentUpscaleBy": pictures.latent_upscale,
    "KSampler": sampling.k_sampler,
    "KSamplerAdvanced": sampling.k_sampler_advanced,
    "RandomNoise": sampling.random_noise,
    "KSamplerSelect": sampling.sampler_select,
    "BasicScheduler": sampling.basic_scheduler,
    "BasicGuider": sampling.basic_guider,
    "CFGGuider": sampling.cfg_guider,
    "SamplerCustomAdvanced": sampling.sampler_custom,
    "LoadImage": pictures.load_image,
    "LoadImageMask": pictures.load_image_mask,
    "ImageScale": pictures.image_scale,
    "ImageScaleBy": pictures.image_scale,
    "ImageToMask": pictures.image_to_mask,
    "MaskToImage": pictures.mask_to_image,
    "InvertMask": pictures.invert_mask,
    "SaveImage": pictures.save_image,
    "PreviewImage": pictures.preview_image,
    "PrimitiveString": pictures.primitive,
    "PrimitiveStringMultiline": pictures.primitive,
    "PrimitiveInt": pictures.primitive,
    "PrimitiveFloat": pictures.primitive,
    "PrimitiveBoolean": pictures.primitive,
}


def translate(
    document: Json, options: Options, findings: Findings, path: Path = (), catalog: Catalog | None = None
) -> Builder:
    """Translate a document; what is in the way goes to `findings`. `path` leads to it inside another."""
    del catalog  # what classes become does not depend on who is there
    graph = read(document, findings, path)
    work = Work(graph, Builder("comfyui"), findings, options, Recipes())
    for node in graph.nodes.values():
        work.outputs[node.id] = _outputs(work, node)
    if not findings.errors:
        work.recipes.settle(work.builder)
    return work.builder


def _outputs(work: Work, node: Node) -> tuple[Any, ...]:
    spec = CLASSES.get(node.class_type)
    if spec is None:
        _note_unknown(work, node)
        return ()
    with suppress(Refused):
        arguments = _arguments(work, node, spec)
        if arguments is not None:
            return HANDLERS[node.class_type](Call(work, node, arguments))
    return tuple(Broken() for _ in spec.outputs)


def _note_unknown(work: Work, node: Node) -> None:
    where, name = (*node.path, "class_type"), node.class_type[:100]
    if node.class_type in NOT_YET:
        work.findings.error(where, "not-yet", f"{name} is not translated: {NOT_YET[node.class_type]}")
    else:
        hint = "it comes from a pack of custom nodes, or is new; replace it by classes that docs/comfyui.md lists"
        work.findings.error(where, "unknown-class", f"there is no translation of the class {name}", hint)


def _arguments(work: Work, node: Node, spec: Spec) -> Json | None:
    """Every input as its kind wants it; None if one is broken without being to blame. Raises Refused."""
    call = Call(work, node, {})
    found: Json = {}
    refused, broken = None, False
    for name, wanted in spec.inputs.items():
        try:
            value = _given(work, node, name, wanted, call)
            if isinstance(value, Broken):
                broken = True
            else:
                found[name] = value
        except Refused as error:
            refused = error
    _note_ignored(call, spec)
    _check_names(call, found)
    if refused is not None:
        raise refused
    return None if broken else found


def _given(work: Work, node: Node, name: str, wanted: In, call: Call) -> Any:
    value = node.inputs.get(name, MISSING)
    if value is MISSING:
        if wanted.default is MISSING:
            raise call.refusal(None, "missing-input", f"{node.class_type} needs {name!r}")
        return wanted.default
    if isinstance(value, Link):
        outputs = work.outputs.get(value.source, ())
        value = outputs[value.output] if 0 <= value.output < len(outputs) else Broken()
        if isinstance(value, Broken):
            return value
    return fitting(wanted, value, call, name)


def _note_ignored(call: Call, spec: Spec) -> None:
    for name in call.node.inputs:
        if name in IGNORED:
            call.note(name, "ignored", f"{name!r} means nothing here")
        elif name not in spec.inputs:
            call.note(name, "ignored", f"{call.node.class_type} has no input {shown(name)}, as far as we know it")


def _check_names(call: Call, found: Json) -> None:
    """Look at names of samplers and schedulers even where something else keeps the node from being translated."""
    sampling.check_names(call, found.get("sampler_name"), found.get("scheduler"))
