"""Previews: what the picture would be if the model stopped now.

Real decoding where it is cheap (AutoencoderTiny, few cells), else a linear map from a cell's channels to a colour. The
map is fitted once a model, on what its own VAE makes of a few smooth random latents, so any VAE will do.
"""

from typing import TYPE_CHECKING

from PIL import Image

from spindle_worker.diffusion.codec import decode_tensor, to_picture, unpacked
from spindle_worker.diffusion.requests import LatentBatch
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

CHEAP_CELLS = 16 * 16
"""As many latent cells as AutoencoderTiny decodes in about 10 ms on one CPU core."""
SIDE = 256
"""Pixels along the longer side of a preview that was not really decoded."""
_SAMPLES, _CELLS = 12, 8


def preview_picture(model: LoadedModel, latents: LatentBatch) -> Image.Image:
    """Picture the latents, quickly."""
    import torch

    with torch.inference_mode():
        tensor = latents.tensor
        if tensor.ndim == 3:
            tensor = unpacked(model, tensor, latents.width, latents.height)
        cells = tensor.shape[-1] * tensor.shape[-2]
        if type(model.pipe.vae).__name__ == "AutoencoderTiny" and cells <= CHEAP_CELLS:
            return to_picture(decode_tensor(model, latents))
        colours = torch.einsum("chw,cd->dhw", tensor[0].float(), _colour_map(model)[:-1])
        small = to_picture(colours + _colour_map(model)[-1][:, None, None])
    return small.resize(_preview_size(latents.width, latents.height), Image.Resampling.BILINEAR)


def _preview_size(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _colour_map(model: LoadedModel) -> "Tensor":
    """(channels + 1, 3): colours in [-1, 1] are latents @ map[:-1] + map[-1]."""
    if "colour_map" not in model.memo:
        model.memo["colour_map"] = _fit(model)
    return model.memo["colour_map"]  # type: ignore[no-any-return]


def _fit(model: LoadedModel) -> "Tensor":
    import torch
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    generator = torch.Generator("cpu").manual_seed(0)
    coarse = torch.randn((_SAMPLES, model.pipe.vae.config.latent_channels, 2, 2), generator=generator)
    latents = interpolate(coarse, size=_CELLS, mode="bilinear").to(device=model.device, dtype=model.dtype)
    side = _CELLS * model.scale
    decoded = [decode_tensor(model, LatentBatch({}, one[None], side, side)) for one in latents]
    colours = adaptive_avg_pool2d(torch.stack(decoded).float(), _CELLS).permute(0, 2, 3, 1).reshape(-1, 3)
    cells = latents.float().permute(0, 2, 3, 1).reshape(len(colours), -1)
    ones = torch.ones_like(cells[:, :1])
    fitted = torch.linalg.lstsq(torch.cat([cells, ones], dim=1).cpu(), colours.cpu()).solution
    return fitted.to(model.device)  # type: ignore[no-any-return]
