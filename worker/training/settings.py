"""Sizes and seeds that several stages share; lengths are in pixels of the finished picture."""

from pathlib import Path

SEED = 20261121
"""Seeds the held-out split, the drawings, the initial weights and every training batch."""

IMAGE_SIZE = 128
CELL = 8
"""Pixels a side that one latent cell stands for."""
LATENT_SIZE = IMAGE_SIZE // CELL
LATENT_CHANNELS = 4

TEXT_LENGTH = 24
"""Tokens a caption is padded to, begin and end marks included."""

WORK_FOLDER = Path("build/tiny")
"""Where stages leave checkpoints, relative to the folder they run in."""

MODEL_FOLDER = Path(__file__).resolve().parents[1] / "spindle_worker" / "tiny"
