"""The latent space, which is written down rather than learned.

Each of the 16 x 16 cells of a picture holds, for its 8 x 8 pixels, the mean red, green and blue, and the signed
distance of its centre to the shape's edge, squashed. Means tell colours, distance tells sharp edges and is smooth
enough for a small denoiser. Encoder, decoder and denoiser can therefore be trained apart from one another.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.settings import CELL, IMAGE_SIZE, LATENT_SIZE
from training.shapes import Array, signed_distance

COLOUR_SCALE = 1.4
"""Latent value of full white; black is its negative."""
REACH = 10.0
"""Pixels from the edge at which the distance is squashed to tanh(1)."""
DISTANCE_MEAN, DISTANCE_SPREAD = -0.6, 0.7


def distance_latent(contours: list[Array]) -> NDArray[np.float32]:
    """The distance channel `[16, 16]` of a shape given by its contours in pixels."""
    centres = np.arange(CELL / 2, IMAGE_SIZE, CELL)
    x, y = np.meshgrid(centres, centres)
    distance = signed_distance(np.stack([x.ravel(), y.ravel()], axis=1), contours)
    squashed = (np.tanh(distance / REACH) - DISTANCE_MEAN) / DISTANCE_SPREAD
    return squashed.reshape(LATENT_SIZE, LATENT_SIZE).astype(np.float32)


def latents(means: Tensor, distances: Tensor) -> Tensor:
    """Latents `[B, 4, 16, 16]` from mean colours `[B, 3, 16, 16]` in -1 to 1 and distance channels `[B, 16, 16]`."""
    return torch.cat([means * COLOUR_SCALE, distances[:, None]], dim=1)
