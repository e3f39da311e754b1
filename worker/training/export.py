"""Puts the trained parts into the folder that ships, in the ordinary diffusers format.

The UNet is stored in half precision, which is exact enough for pictures of 8 bits; everything is loaded as float32.
"""

import hashlib
import json
from pathlib import Path

import torch

from training import autoencoder, text, tokenizer
from training.denoiser import SCHEDULE, Denoiser
from training.foreign import DDIMScheduler, StableDiffusionPipeline
from training.optimise import load
from training.settings import IMAGE_SIZE

DEFAULTS = {"steps": 12, "guidance": 2.0, "width": IMAGE_SIZE, "height": IMAGE_SIZE, "name": "tiny"}


def export(work: Path, out: Path) -> None:
    """Writes the model folder and `spindle.json` to `out` from the checkpoints in `work`."""
    words = tokenizer.create()
    learned = load(Denoiser(text.create(words)), work / "settled.pt")
    pictures = autoencoder.create()
    load(pictures.decoder, work / "finished.pt")
    load(pictures.encoder, work / "encoder.pt")
    pipeline = StableDiffusionPipeline(
        vae=pictures,
        text_encoder=learned.text_encoder,
        tokenizer=words,
        unet=learned.unet.to(torch.float16),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
    for path in weight_files(out).values():
        path.chmod(0o644)
    (out / "spindle.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n")


def weight_files(model: Path) -> dict[str, Path]:
    """The weight files of a model folder by their path in it."""
    return {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*.safetensors"))}


def digests(model: Path) -> dict[str, str]:
    """The SHA-256 of each weight file of a model folder."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in weight_files(model).items()}
