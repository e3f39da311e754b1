"""What ComfyUI's classes take and give, as far as we translate them (comfyui's nodes.py and comfy_extras, 2026).

An input's kind is a type of link (`MODEL`, `LATENT` …) or of a widget (`INT`, `FLOAT`, `STRING`, `BOOLEAN`, `COMBO`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MISSING: Final = object()
WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
IGNORED = frozenset({"control_after_generate", "upload", "choose file to upload", "device", "weight_dtype"})
"""Widgets of the editor, and where or how precisely something is computed, which our workers decide."""


@dataclass(frozen=True)
class In:
    """An input; with a `default` it may be missing. `low` and `high` bound numbers, `choices` words."""

    kind: str
    default: Any = MISSING
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A class: its inputs by name, the types of its outputs, and whether ComfyUI counts it as an output."""

    inputs: Mapping[str, In]
    outputs: tuple[str, ...]
    is_output: bool = False


def _links(**kinds: str) -> dict[str, In]:
    return {name: In(kind) for name, kind in kinds.items()}


TEXT = In("STRING")
FILE = In("COMBO")
NUMBER = In("FLOAT")
UPSCALES = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE_UPSCALES = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
SIDE = In("INT", low=0, high=16384)
CROP = In("COMBO", "disabled", choices=("disabled", "center"))
CLIP_TYPE = In("COMBO", "stable_diffusion")
_SEED = In("INT", low=-(2**64), high=2**64 - 1)
_STEPS = In("INT", 20, low=1, high=10000)
_CFG = In("FLOAT", 8.0, low=0, high=100)
_DENOISE = In("FLOAT", 1.0, low=0, high=1)
_SAMPLER = {"sampler_name": In("COMBO"), "scheduler": In("COMBO")}
_GUIDED = _links(model="MODEL", positive="CONDITIONING", negative="CONDITIONING")
_EMPTY = {"width": SIDE, "height": SIDE, "batch_size": In("INT", 1, low=1, high=4096)}
_LORA = {"lora_name": FILE, "strength_model": In("FLOAT", 1.0, low=-100, high=100)}
_IMAGE, _LATENT = ("IMAGE",), ("LATENT",)

CLASSES: dict[str, Spec] = {
    # models
    "CheckpointLoaderSimple": Spec({"ckpt_name": FILE}, ("MODEL", "CLIP", "VAE")),
    "UNETLoader": Spec({"unet_name": FILE}, ("MODEL",)),
    "VAELoader": Spec({"vae_name": FILE}, ("VAE",)),
    "CLIPLoader": Spec({"clip_name": FILE, "type": CLIP_TYPE}, ("CLIP",)),
    "DualCLIPLoader": Spec({"clip_name1": FILE, "clip_name2": FILE, "type": CLIP_TYPE}, ("CLIP",)),
    "TripleCLIPLoader": Spec({"clip_name1": FILE, "clip_name2": FILE, "clip_name3": FILE}, ("CLIP",)),
    "LoraLoader": Spec(
        {**_links(model="MODEL", clip="CLIP"), **_LORA, "strength_clip": In("FLOAT", 1.0, low=-100, high=100)},
        ("MODEL", "CLIP"),
    ),
    "LoraLoaderModelOnly": Spec({**_links(model="MODEL"), **_LORA}, ("MODEL",)),
    "ModelSamplingFlux": Spec(
        {**_links(model="MODEL"), "max_shift": NUMBER, "base_shift": NUMBER, "width": SIDE, "height": SIDE}, ("MODEL",)
    ),
    "ModelSamplingSD3": Spec({**_links(model="MODEL"), "shift": NUMBER}, ("MODEL",)),
    # prompts
    "CLIPTextEncode": Spec({"text": TEXT, **_links(clip="CLIP")}, ("CONDITIONING",)),
    "CLIPTextEncodeFlux": Spec(
        {**_links(clip="CLIP"), "clip_l": TEXT, "t5xxl": TEXT, "guidance": In("FLOAT", 3.5, low=0, high=100)},
        ("CONDITIONING",),
    ),
    "CLIPSetLastLayer": Spec({**_links(clip="CLIP"), "stop_at_clip_layer": In("INT", -1, low=-24, high=-1)}, ("CLIP",)),
    "ConditioningCombine": Spec(
        _links(conditioning_1="CONDITIONING", conditioning_2="CONDITIONING"), ("CONDITIONING",)
    ),
    "ConditioningZeroOut": Spec(_links(conditioning="CONDITIONING"), ("CONDITIONING",)),
    "FluxGuidance": Spec(
        {**_links(conditioning="CONDITIONING"), "guidance": In("FLOAT", 3.5, low=0, high=100)}, ("CONDITIONING",)
    ),
    # latents
    "EmptyLatentImage": Spec(_EMPTY, _LATENT),
    "EmptySD3LatentImage": Spec(_EMPTY, _LATENT),
    "VAEEncode": Spec(_links(pixels="IMAGE", vae="VAE"), _LATENT),
    "VAEEncodeForInpaint": Spec(
        {**_links(pixels="IMAGE", vae="VAE", mask="MASK"), "grow_mask_by": In("INT", 6, low=0, high=64)}, _LATENT
    ),
    "VAEDecode": Spec(_links(samples="LATENT", vae="VAE"), _IMAGE),
    "VAEDecodeTiled": Spec(_links(samples="LATENT", vae="VAE"), _IMAGE),
    "SetLatentNoiseMask": Spec(_links(samples="LATENT", mask="MASK"), _LATENT),
    "LatentUpscale": Spec(
        {
            **_links(samples="LATENT"),
            "upscale_method": In("COMBO", choices=UPSCALES),
            "width": SIDE,
            "height": SIDE,
            "crop": CROP,
        },
        _LATENT,
    ),
    "LatentUpscaleBy": Spec(
        {
            **_links(samples="LATENT"),
            "upscale_method": In("COMBO", choices=UPSCALES),
            "scale_by": In("FLOAT", 1.5, low=0.01, high=8),
        },
        _LATENT,
    ),
    # sampling
    "KSampler": Spec(
        {**_GUIDED, **_links(latent_image="LATENT"), "seed": _SEED, "steps": _STEPS, "cfg": _CFG, **_SAMPLER}
        | {"denoise": _DENOISE},
        _LATENT,
    ),
    "KSamplerAdvanced": Spec(
        {**_GUIDED, **_links(latent_image="LATENT"), "noise_seed": _SEED, "steps": _STEPS, "cfg": _CFG, **_SAMPLER}
        | {
            "add_noise": In("COMBO", "enable", choices=("enable", "disable")),
            "start_at_step": In("INT", 0, low=0, high=10000),
            "end_at_step": In("INT", 10000, low=0, high=10000),
            "return_with_leftover_noise": In("COMBO", "disable", choices=("disable", "enable")),
        },
        _LATENT,
    ),
    "RandomNoise": Spec({"noise_seed": _SEED}, ("NOISE",)),
    "KSamplerSelect": Spec({"sampler_name": In("COMBO")}, ("SAMPLER",)),
    "BasicScheduler": Spec(
        {**_links(model="MODEL"), "scheduler": In("COMBO"), "steps": _STEPS, "denoise": _DENOISE}, ("SIGMAS",)
    ),
    "BasicGuider": Spec(_links(model="MODEL", conditioning="CONDITIONING"), ("GUIDER",)),
    "CFGGuider": Spec({**_GUIDED, "cfg": _CFG}, ("GUIDER",)),
    "SamplerCustomAdvanced": Spec(
        _links(noise="NOISE", guider="GUIDER", sampler="SAMPLER", sigmas="SIGMAS", latent_image="LATENT"),
        ("LATENT", "LATENT"),
    ),
    # pictures
    "LoadImage": Spec({"image": FILE}, ("IMAGE", "MASK")),
    "LoadImageMask": Spec(
        {"image": FILE, "channel": In("COMBO", "alpha", choices=("alpha", "red", "green", "blue"))}, ("MASK",)
    ),
    "ImageScale": Spec(
        {
            **_links(image="IMAGE"),
            "upscale_method": In("COMBO", choices=IMAGE_UPSCALES),
            "width": SIDE,
            "height": SIDE,
            "crop": CROP,
        },
        _IMAGE,
    ),
    "ImageScaleBy": Spec(
        {
            **_links(image="IMAGE"),
            "upscale_method": In("COMBO", choices=IMAGE_UPSCALES),
            "scale_by": In("FLOAT", 1.0, low=0.01, high=8),
        },
        _IMAGE,
    ),
    "ImageToMask": Spec(
        {**_links(image="IMAGE"), "channel": In("COMBO", "red", choices=("red", "green", "blue", "alpha"))}, ("MASK",)
    ),
    "MaskToImage": Spec(_links(mask="MASK"), _IMAGE),
    "InvertMask": Spec(_links(mask="MASK"), ("MASK",)),
    "SaveImage": Spec({**_links(images="IMAGE"), "filename_prefix": In("STRING", "ComfyUI")}, (), is_output=True),
    "PreviewImage": Spec(_links(images="IMAGE"), (), is_output=True),
    # values
    "PrimitiveString": Spec({"value": TEXT}, ("STRING",)),
    "PrimitiveStringMultiline": Spec({"value": TEXT}, ("STRING",)),
    "PrimitiveInt": Spec({"value": In("INT")}, ("INT",)),
    "PrimitiveFloat": Spec({"value": NUMBER}, ("FLOAT",)),
    "PrimitiveBoolean": Spec({"value": In("BOOLEAN")}, ("BOOLEAN",)),
}

NOT_YET: dict[str, str] = {
    "CLIPTextEncodeSDXL": "sizes and crops of SDXL that differ from the picture's own are not passed on",
    "CLIPVisionLoader": "pictures as prompts are not encoded",
    "CLIPVisionEncode": "pictures as prompts are not encoded",
    "ControlNetLoader": "control nets are not run",
    "ControlNetApply": "control nets are not run",
    "ControlNetApplyAdvanced": "control nets are not run",
    "ImageUpscaleWithModel": "upscaling models are not run",
    "UpscaleModelLoader": "upscaling models are not run",
    "ConditioningConcat": "prompts are not joined",
    "ConditioningAverage": "prompts are not mixed",
    "ConditioningSetArea": "prompts hold for the whole picture",
    "ConditioningSetMask": "prompts hold for the whole picture",
    "ConditioningSetTimestepRange": "prompts hold for all steps",
    "ModelSamplingDiscrete": "what a model predicts is read from its own configuration",
    "ModelSamplingAuraFlow": "the shift of a model's noise levels is read from its own configuration",
    "SamplerCustom": "noise levels are not passed as a list",
    "ImageBatch": "pictures are not batched",
    "RepeatLatentBatch": "latents are not batched, but by EmptyLatentImage",
    "LatentFromBatch": "latents are not batched, but by EmptyLatentImage",
    "SaveAnimatedWEBP": "videos are not made",
    "SaveAnimatedPNG": "videos are not made",
    "ImageOnlyCheckpointLoader": "videos are not made",
    "EmptyHunyuanLatentVideo": "videos are not made",
    "EmptyMochiLatentVideo": "videos are not made",
    "EmptyHunyuanImageLatent": "models of this kind are not run",
    "TextEncodeQwenImageEdit": "models of this kind are not run",
    "TextEncodeQwenImageEditPlus": "models of this kind are not run",
    "SolidMask": "masks come from pictures",
    "MaskComposite": "masks come from pictures",
    "GrowMask": "masks grow where they are used",
}
"""Classes of ComfyUI itself that are known and not translated, with the reason."""
