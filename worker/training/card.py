"""Writes the model card from measured figures, so that card and weights cannot drift apart."""

from pathlib import Path
from typing import Any

from training.scene import COLOURS, PLACES, SHAPES
from training.settings import IMAGE_SIZE, SEED

_ROWS = ("background", "colour", "size", "place", "shape")

_TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# Spindle tiny

A text-to-image model of {megabytes:.1f} MB that draws one flat shape on a plain background, {width} x {width} pixels,
in {seconds:.2f} CPU seconds. It is an ordinary `StableDiffusionPipeline` folder, and it exists so that examples, tests
and a first run need no download and no accelerator, yet show a real sampler at work.

It is not a general image model: it knows {shapes} shapes, {colours} colours and the words below, and says nothing
about how good a large model's pictures are. Other words are ignored or confuse it; other sizes than {width} x {width}
work but are not what it learned. Its autoencoder keeps the palette and plain shapes, not photographs.

## Captions

`[a|an] [small|large] COLOUR SHAPE [PLACE] on [a|an] COLOUR background [PLACE]`, the place before or after the
background, in any case, with or without a final dot.

* shapes: {shape_names}
* colours: {colour_names}; the two differ
* places: {place_names}, as in `on the left`, `at the top`, `in the centre`, `, centred`

What a caption leaves out is the model's choice.

## Use

{steps} steps and a guidance scale of {guidance} (`spindle.json` has these defaults) with the folder's DDIM
scheduler.

## Data and training

Only pictures drawn by `worker/training`, 150 jittered drawings of each of 80 (shape, size, place) triples, coloured as
they are used; no other data. A tenth of the 4,480 attribute combinations was kept out of training. `worker/training`
holds all of it: `python -m training.all` in `worker/` rebuilds the model, seed {seed}. Floating point differs between
machines, so a rebuilt model is alike, not equal, to this one.

* autoencoder: `AutoencoderTiny`, 8 x 8 pixels to a latent cell of 4 numbers. The latents are not learned: mean red,
  green and blue of the cell, and the squashed distance to the shape's edge
* text encoder: CLIP text model, 2 layers of 64, whole words as tokens, 24 tokens
* denoiser: `UNet2DConditionModel` (32, 64, 96), stored in half precision; v-prediction, zero terminal SNR

## Figures

{count} captions of held-out combinations with all five attributes, one picture each (seeds 0 to {last}), judged by the
pixel classifier of `training/classify.py`. `control` judges each picture by another's caption.

| right | model | classifier on true drawings | control |
|---|---|---|---|
{rows}
| **all five** | **{all_model}** | {all_classifier} | {all_control} |

With the size left out of the caption, {without_size} of {half} pictures have everything told; with the place left out,
{without_place}.

## Weights

| file | SHA-256 |
|---|---|
{hashes}

Licence: Apache-2.0.
"""


def write(model: Path, figures: dict[str, Any]) -> None:
    """Writes `MODEL_CARD.md` into the model folder from the figures of `evaluate.evaluate`."""
    (model / "MODEL_CARD.md").write_text(text(figures))


def text(figures: dict[str, Any]) -> str:
    """The card as Markdown."""
    columns = [figures[name] for name in ("model", "classifier", "control")]
    rows = [" | ".join([f"| {name}", *(_percent(column[name]) for column in columns)]) + " |" for name in _ROWS]
    return _TEXT.format(
        megabytes=figures["bytes"] / 1e6,
        width=IMAGE_SIZE,
        seconds=figures["cpu_seconds_per_image"],
        shapes=len(SHAPES),
        colours=len(COLOURS),
        shape_names=", ".join(SHAPES),
        colour_names=", ".join(f"{name} {rgb}" for name, rgb in COLOURS.items()),
        place_names=", ".join(PLACES),
        steps=figures["steps"],
        guidance=figures["guidance"],
        seed=SEED,
        count=figures["count"],
        last=figures["count"] - 1,
        half=figures["count"] // 2,
        rows="\n".join(rows),
        all_model=_percent(figures["model"]["all"]),
        all_classifier=_percent(figures["classifier"]["all"]),
        all_control=_percent(figures["control"]["all"]),
        without_size=_percent(figures["without_size"]["all"]),
        without_place=_percent(figures["without_place"]["all"]),
        hashes="\n".join(f"| `{name}` | `{digest}` |" for name, digest in figures["sha256"].items()),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
