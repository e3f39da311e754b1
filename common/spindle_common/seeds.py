"""Seeds that nobody gave: drawn from run and path, so that every attempt, and every plane, draws the same."""

import hashlib

SEED_BITS = 32


def draw_seed(run: str, path: str, name: str = "seed") -> int:
    """Return a seed in 0 to 2**32 - 1."""
    return int.from_bytes(hashlib.sha256(f"{run}/{path}/{name}".encode()).digest()[: SEED_BITS // 8], "big")
