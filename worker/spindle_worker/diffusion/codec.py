"""Between words, pictures and tensors: text encoders and the VAE, for models of every layout."""

from typing import TYPE_CHECKING, Any

from PIL import Image

from spindle_common.problems import BadInput, NodeFailed
from spindle_worker.diffusion.requests import Conditioning, LatentBatch
from spindle_worker.diffusion.words import PLAIN, Wording, encode_words
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


def encode_text(
    model: LoadedModel, prompt: str, negative_prompt: str = "", *, guided: bool = True, how: Wording = PLAIN
) -> Conditioning:
    """Encode a prompt, and with `guided` a negative one; models that own their loop get the words as they are."""
    if model.layout == "vae":
        raise BadInput(f"The model {model.name} is a VAE alone: it encodes no prompts")
    words: dict[str, Any] = {"recipe": model.recipe, "prompt": prompt, "negative_prompt": negative_prompt}
    if model.layout == "pipeline":
        if how.layer is not None:
            raise BadInput("This model's own pipeline encodes its prompts: no layer can be chosen")
        return Conditioning(**words)
    if how != PLAIN:
        positive, pooled = encode_words(model, prompt, how)
        negative, negative_pooled = encode_words(model, negative_prompt, how)
        return Conditioning(
            **words, positive=positive, negative=negative, pooled=pooled, negative_pooled=negative_pooled
        )
    return Conditioning(**words, **_encoded(model, words, guided))


def _encoded(model: LoadedModel, words: dict[str, Any], guided: bool) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        encoded = model.pipe.encode_prompt(
            prompt=words["prompt"],
            device=torch.device(model.device),
            num_images_per_prompt=1,
            do_classifier_free_guidance=guided,
            negative_prompt=words["negative_prompt"] or None,
        )
    return dict(zip(("positive", "negative", "pooled", "negative_pooled"), encoded, strict=False))


def encode_picture(model: LoadedModel, picture: Image.Image, generator: "Generator | None" = None) -> LatentBatch:
    """Encode an RGB picture; a VAE that gives a distribution is sampled with `generator`, else its mode is taken."""
    import torch

    vae = _vae(model)
    with torch.inference_mode():
        encoded = vae.encode(_pixels(picture).to(device=model.device, dtype=vae.dtype))
        if hasattr(encoded, "latents"):
            latents = encoded.latents
        elif hasattr(encoded, "latent"):
            latents = encoded.latent
        else:
            spread = encoded.latent_dist
            latents = spread.mode() if generator is None else spread.sample(generator)
        scaled = _scale(model, latents.to(model.dtype))
    return LatentBatch(model.recipe, scaled, picture.width, picture.height, space=latent_space(model))


def latent_space(model: LoadedModel) -> tuple[object, ...]:
    """What says whether two models' latents mean the same, as far as their configurations tell: channels, scale."""
    config = getattr(getattr(model.pipe, "vae", None), "config", None)
    names = ("latent_channels", "scaling_factor", "shift_factor")
    return (model.scale, *(getattr(config, name, None) for name in names))


def decode_latents(model: LoadedModel, latents: LatentBatch) -> Image.Image:
    """Decode latents to an RGB picture. Raises NodeFailed where they are no numbers."""
    import torch

    if not torch.isfinite(latents.tensor).all():
        raise NodeFailed("The model gave latents that are no numbers; another dtype or scheduler may help")
    with torch.inference_mode():
        return to_picture(decode_tensor(model, latents))


def decode_tensor(model: LoadedModel, latents: LatentBatch) -> "Tensor":
    """Decode to (3, height, width) in [-1, 1]; called in inference mode."""
    vae, tensor = _vae(model), latents.tensor.to(model.device)
    if tensor.ndim == 3:
        tensor = unpacked(model, tensor, latents.width, latents.height)
    decoded = vae.decode(_unscale(model, tensor).to(vae.dtype), return_dict=False)[0]
    if decoded.ndim != 4:
        raise BadInput("This model makes no single pictures")
    return decoded[0]  # type: ignore[no-any-return]


def unpacked(model: LoadedModel, tensor: "Tensor", width: int, height: int) -> "Tensor":
    """Lay a sequence of patches (FLUX: 2 x 2 cells each) out as (1, channels, rows, columns)."""
    unpack = getattr(model.pipe, "_unpack_latents", None)
    if unpack is None:
        raise BadInput("This model's latents cannot be decoded apart from its own pipeline: use image.generate")
    return unpack(tensor, height, width, model.scale)  # type: ignore[no-any-return]


def to_picture(decoded: "Tensor") -> Image.Image:
    """Turn (3, height, width) in [-1, 1] into a picture."""
    import torch

    pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def _pixels(picture: Image.Image) -> "Tensor":
    """Turn a picture into (1, 3, height, width) in [-1, 1]."""
    import numpy as np
    import torch

    values = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(values).permute(2, 0, 1)[None] * 2.0 - 1.0


def _vae(model: LoadedModel) -> Any:
    vae = getattr(model.pipe, "vae", None)
    if vae is None:
        raise BadInput("This model has no VAE of its own: use image.generate")
    return vae


def _scale(model: LoadedModel, latents: "Tensor") -> "Tensor":
    """From the VAE's range to the loop's: `scaling_factor`, with SDXL's per-channel statistics or SD 3's shift."""
    config = model.pipe.vae.config
    mean, spread = _statistics(model, latents)
    if mean is not None and spread is not None:
        return (latents - mean) * config.scaling_factor / spread  # type: ignore[no-any-return]
    return (latents - _shift(config)) * config.scaling_factor  # type: ignore[no-any-return]


def _unscale(model: LoadedModel, latents: "Tensor") -> "Tensor":
    config = model.pipe.vae.config
    mean, spread = _statistics(model, latents)
    if mean is not None and spread is not None:
        return latents * spread / config.scaling_factor + mean  # type: ignore[no-any-return]
    return latents / config.scaling_factor + _shift(config)  # type: ignore[no-any-return]


def _shift(config: Any) -> float:
    return float(getattr(config, "shift_factor", None) or 0.0)


def _statistics(model: LoadedModel, like: "Tensor") -> tuple["Tensor | None", "Tensor | None"]:
    config = model.pipe.vae.config
    mean, spread = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if model.layout != "sdxl" or mean is None or spread is None:
        return None, None
    return like.new_tensor(mean).view(1, -1, 1, 1), like.new_tensor(spread).view(1, -1, 1, 1)
