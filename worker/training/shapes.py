"""The outlines of the eight shapes and the exact distance of a point to them.

An outline is a list of closed contours, each `[N, 2]` as (x, y) with y downwards, filled by the even-odd rule. The
origin is the centre of area, and a unit is about half the width, so that all eight look equally large.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def outline(shape: str) -> list[Array]:
    """The contours of one of `scene.SHAPES`. Raises KeyError for any other name."""
    contours = _OUTLINES[shape]
    return [contour - _centroid(contours[0]) for contour in contours]


def signed_distance(points: Array, contours: list[Array]) -> Array:
    """How far inside (positive) or outside (negative) each of `points` `[P, 2]` is, in the contours' unit: `[P]`."""
    distance = np.full(len(points), np.inf)
    inside = np.zeros(len(points), dtype=bool)
    for contour in contours:
        start, end = contour, np.roll(contour, -1, axis=0)
        distance = np.minimum(distance, _distance_to_segments(points, start, end))
        inside ^= _crossings(points, start, end) % 2 == 1
    return np.where(inside, distance, -distance)


def _distance_to_segments(points: Array, start: Array, end: Array) -> Array:
    along = end - start
    offset = points[:, None] - start[None]
    share = np.clip((offset * along).sum(-1) / (along**2).sum(-1), 0.0, 1.0)
    nearest: Array = np.linalg.norm(offset - share[..., None] * along, axis=-1).min(1)
    return nearest


def _crossings(points: Array, start: Array, end: Array) -> NDArray[np.int64]:
    """How many edges a ray from each point to the right crosses."""
    y = points[:, None, 1]
    spans = (start[None, :, 1] > y) != (end[None, :, 1] > y)
    rise = np.where(spans, end[:, 1] - start[:, 1], 1.0)
    x = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    crossed: NDArray[np.int64] = (spans & (points[:, None, 0] < x)).sum(1)
    return crossed


def _centroid(contour: Array) -> Array:
    following = np.roll(contour, -1, axis=0)
    cross = contour[:, 0] * following[:, 1] - following[:, 0] * contour[:, 1]
    centre: Array = ((contour + following) * cross[:, None]).sum(0) / (3 * cross.sum())
    return centre


def _polygon(*radii: float, corners: int) -> Array:
    """A contour whose corners, the first on top, lie at the given radii in turn."""
    angles = np.arange(corners) * 2 * math.pi / corners - math.pi / 2
    radius = np.resize(np.array(radii), corners)
    return np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)


def _square(half: float) -> Array:
    return np.array([[-half, -half], [half, -half], [half, half], [-half, half]])


def _cross(reach: float, half: float) -> Array:
    quarter = np.array([[half, -reach], [half, -half], [reach, -half]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, n) for n in range(4)])


def _heart(width: float) -> Array:
    t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([16 * np.sin(t) ** 3, y], axis=1) * width / 16


_OUTLINES: dict[str, list[Array]] = {
    "circle": [_polygon(0.98, corners=96)],
    "square": [_square(0.88)],
    "triangle": [_polygon(1.08, corners=3)],
    "star": [_polygon(1.1, 0.48, corners=10)],
    "diamond": [_polygon(1.06, corners=4)],
    "cross": [_cross(0.98, 0.33)],
    "ring": [_polygon(1.0, corners=96), _polygon(0.54, corners=96)],
    "heart": [_heart(1.02)],
}
