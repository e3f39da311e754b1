"""Drawn shapes kept in memory; colours are put on when a batch is made, so every colour pair costs nothing.

A pool holds a number of jittered drawings of each of the 80 (shape, size, place) triples. A batch takes scenes from the
training split, a drawing for each, and lays the scene's two colours on it.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.latents import distance_latent, latents
from training.render import contours, coverage, placement
from training.scene import COLOURS, PLACES, SHAPES, SIZES, Scene
from training.settings import CELL, SEED

_TRIPLES = [(shape, size, place) for shape in SHAPES for size in SIZES for place in PLACES]
_PALETTE = {name: torch.tensor(rgb) / 127.5 - 1 for name, rgb in COLOURS.items()}


@dataclass(frozen=True)
class Pool:
    """K drawings of each triple.

    `coverage` `[80, K, 128, 128]` as bytes, `cells` `[80, K, 16, 16]` its means per latent cell from 0 to 1, and
    `distance` `[80, K, 16, 16]`, the last latent channel.
    """

    coverage: Tensor
    cells: Tensor
    distance: Tensor

    def batch(self, scenes: list[Scene], rng: random.Random) -> tuple[Tensor, Tensor]:
        """Pictures `[B, 3, 128, 128]` in -1 to 1 and their latents `[B, 4, 16, 16]`, drawings of `rng`'s choice."""
        drawn = self._choose(scenes, rng)
        pictures = _paint(scenes, self.coverage[drawn] / 255)
        return pictures, latents(_paint(scenes, self.cells[drawn]), self.distance[drawn])

    def latents(self, scenes: list[Scene], rng: random.Random) -> Tensor:
        """Latents alone, `[B, 4, 16, 16]`, without the cost of the pictures."""
        drawn = self._choose(scenes, rng)
        return latents(_paint(scenes, self.cells[drawn]), self.distance[drawn])

    def _choose(self, scenes: list[Scene], rng: random.Random) -> tuple[Tensor, Tensor]:
        triples = [_TRIPLES.index((s.shape, s.size, s.place)) for s in scenes]
        drawings = [rng.randrange(self.coverage.shape[1]) for _ in scenes]
        return torch.tensor(triples), torch.tensor(drawings)


def _paint(scenes: list[Scene], share: Tensor) -> Tensor:
    """Colours `[B, 3, H, W]` in -1 to 1 of shapes that cover the share `[B, H, W]` of each point."""
    colour = torch.stack([_PALETTE[s.colour] for s in scenes])[:, :, None, None]
    background = torch.stack([_PALETTE[s.background] for s in scenes])[:, :, None, None]
    return background + (colour - background) * share[:, None]


def build(drawings: int, seed: int = SEED) -> Pool:
    """Draws every triple `drawings` times, about 4 ms each."""
    rng = random.Random(seed)
    masks, distances = [], []
    for shape, size, place in _TRIPLES:
        for _ in range(drawings):
            where = placement(size, place, rng)
            masks.append(np.asarray(coverage(shape, where)))
            distances.append(distance_latent(contours(shape, where)))
    side = masks[0].shape[0]
    covered = torch.from_numpy(np.stack(masks)).reshape(len(_TRIPLES), drawings, side, side)
    return Pool(
        coverage=covered,
        cells=torch.stack([avg_pool2d(drawn / 255, CELL) for drawn in covered]),
        distance=torch.from_numpy(np.stack(distances)).reshape(len(_TRIPLES), drawings, *distances[0].shape),
    )


def load_or_build(work: Path, drawings: int = 150) -> Pool:
    """The pool kept in `work`, drawn first where there is none."""
    path = work / f"pool-{drawings}.pt"
    if not path.exists():
        pool = build(drawings)
        work.mkdir(parents=True, exist_ok=True)
        torch.save(vars(pool), path)
    return Pool(**torch.load(path, weights_only=True))
