"""The autoencoder between pictures and the written-down latents of `latents.py`.

The decoder learns to draw from latents with noise and colour drift on them, so that what the denoiser gets slightly
wrong comes out as a flat palette colour and a sharp edge. The encoder learns the latents themselves, from pictures.
"""

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss, max_pool2d, mse_loss

from training.dataset import Pool
from training.foreign import AutoencoderTiny
from training.optimise import Plan, channels_last, minimise
from training.scene import Scene
from training.settings import CELL, LATENT_CHANNELS

WIDTH = 32
NOISE = 0.2
"""Largest spread of the noise put on each latent value while the decoder learns."""
DRIFT = 0.1
"""Spread of the shift put on a whole channel of a picture."""
EDGE_WEIGHT = 4.0
PART = 10
"""Cells a side of the part of a picture that holds the shape whole."""


def create() -> Any:
    """An untrained `AutoencoderTiny`, 128 x 128 x 3 to 16 x 16 x 4."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 1, 1, 4),
        num_decoder_blocks=(4, 3, 1, 1),
        latent_channels=LATENT_CHANNELS,
    )


def train_decoder(decoder: nn.Module, pool: Pool, scenes: list[Scene], plan: Plan, batch: int = 8) -> None:
    """Teaches an autoencoder's decoder to draw `scenes`."""
    rng = random.Random(plan.seed)

    def loss() -> Tensor:
        pictures, codes = pool.batch(rng.choices(scenes, k=batch), rng)
        return _drawing_loss(decoder(_disturb(codes)), pictures)

    channels_last(decoder)
    minimise(decoder, loss, plan)


def sharpen_decoder(decoder: nn.Module, pool: Pool, scenes: list[Scene], plan: Plan, batch: int = 8) -> None:
    """Teaches a trained decoder finer edges on the part of each picture that has the shape, with half the noise."""
    rng = random.Random(plan.seed)

    def loss() -> Tensor:
        pictures, codes = _around_shapes(*pool.batch(rng.choices(scenes, k=batch), rng), rng)
        return _drawing_loss(decoder(_disturb(codes, NOISE / 2)), pictures)

    channels_last(decoder)
    minimise(decoder, loss, plan)


def train_encoder(encoder: nn.Module, pool: Pool, scenes: list[Scene], plan: Plan, batch: int = 8) -> None:
    """Teaches an autoencoder's encoder the latents of pictures of `scenes`."""
    rng = random.Random(plan.seed)

    def loss() -> Tensor:
        pictures, codes = pool.batch(rng.choices(scenes, k=batch), rng)
        noisy = pictures + torch.randn_like(pictures) * 0.02
        return mse_loss(encoder(noisy), codes)

    channels_last(encoder)
    minimise(encoder, loss, plan)


def _around_shapes(pictures: Tensor, codes: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """The `PART` x `PART` cells of each picture and its latents about the cell that is deepest in the shape."""
    parts = []
    for picture, code in zip(pictures, codes, strict=True):
        row, column = divmod(int(code[-1].argmax()), code.shape[-1])
        top, left = (_part_start(middle + rng.randint(-1, 1), code.shape[-1]) for middle in (row, column))
        code_part = code[:, top : top + PART, left : left + PART]
        bottom, right = (top + PART) * CELL, (left + PART) * CELL
        parts.append((picture[:, top * CELL : bottom, left * CELL : right], code_part))
    return torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])


def _part_start(middle: int, cells: int) -> int:
    """Where a part about the cell `middle` begins, so that it stays within the picture."""
    return min(max(middle - PART // 2, 0), cells - PART)


def _disturb(codes: Tensor, noise: float = NOISE) -> Tensor:
    """Latents as a denoiser might leave them: each picture with its own amount of noise, and its channels shifted."""
    amount = torch.rand(len(codes), 1, 1, 1) * noise
    drift = torch.randn(len(codes), codes.shape[1], 1, 1) * DRIFT * torch.rand(len(codes), 1, 1, 1)
    return codes + torch.randn_like(codes) * amount + drift


def _drawing_loss(drawn: Tensor, pictures: Tensor) -> Tensor:
    """Mean absolute error, with pixels near an edge counting more."""
    contrast = (pictures - avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)).abs().amax(1, keepdim=True)
    near_edge = max_pool2d((contrast > 0.02).float(), 5, 1, 2)
    weight = 1 + EDGE_WEIGHT * near_edge
    return (l1_loss(drawn, pictures, reduction="none") * weight).mean()
