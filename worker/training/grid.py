"""Draws a sheet of the model's pictures, one row a place and one column a shape: `python -m training.grid FILE`."""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image

from training import captions
from training.evaluate import defaults, generate, load_pipeline
from training.scene import COLOURS, PLACES, SHAPES, SIZES, Scene
from training.settings import IMAGE_SIZE, MODEL_FOLDER

GAP = 4


def scenes() -> list[Scene]:
    """Forty scenes, row by row, that between them show every attribute."""
    pairs = list(pairwise([*COLOURS, *list(COLOURS)[::3], *list(COLOURS)[::-1]]))
    chosen = []
    for row, place in enumerate(PLACES):
        for column, shape in enumerate(SHAPES):
            colour, background = pairs[(3 * row + column) % len(pairs)]
            chosen.append(Scene(shape, colour, background, SIZES[(row + column) % 2], place))
    return chosen


def sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """The pictures in rows of `columns`, with grey between them."""
    step = IMAGE_SIZE + GAP
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * step + GAP, rows * step + GAP), (200, 200, 200))
    for index, picture in enumerate(pictures):
        page.paste(picture, (GAP + index % columns * step, GAP + index // columns * step))
    return page


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline, how = load_pipeline(arguments.model), defaults(arguments.model)
    wanted = scenes()
    pictures: list[Image.Image] = []
    for start in range(0, len(wanted), len(SHAPES)):
        prompts = [captions.plain_caption(scene) for scene in wanted[start : start + len(SHAPES)]]
        pictures += generate(pipeline, prompts, range(start, start + len(prompts)), how)
    sheet(pictures, len(SHAPES)).save(arguments.file, optimize=True)


if __name__ == "__main__":
    main()
