"""image.save: the finished picture as a file, which carries how it was made.

A PNG gets two iTXt chunks (never compressed, so that ten lines in any language can read them):

    spindle      JSON {"schema": "spindle.provenance/v1", "workflow", "inputs", "run", "seeds_from", "versions",
                 "models": {name: digest}}; workflow, inputs and seeds_from make the same picture again
    parameters   prompt, negative prompt and settings in the text form that A1111 began, where they are known

JPEG and WebP carry pixels only.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from spindle_common.problems import SpindleError
from spindle_worker.node import Context, Field, Image, Inputs, ModelRef, Outputs, node
from spindle_worker.nodes.lineage import settings_of
from spindle_worker.nodes.sampling import MAX_PROMPT, MAX_SEED
from spindle_worker.pictures import flat_rgb, read_picture

SCHEMA = "spindle.provenance/v1"
KEYWORD = "spindle"
PNG_LEVEL = 6
"""zlib level of finished files, made once and kept."""


class SaveInputs(Inputs):
    """A picture and the file it shall be."""

    image: Image = Field(description="The picture to save.")
    format: Literal["png", "jpeg", "webp"] = Field("png", description="The file's format.")
    quality: int = Field(90, ge=1, le=100, description="Of JPEG and WebP; PNG loses nothing.")
    metadata: bool = Field(True, description="Whether a PNG carries how it was made.")
    prompt: str | None = Field(None, max_length=MAX_PROMPT, description="For the file's `parameters` text.")
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT, description="For the same text.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="For the same text.")
    model: ModelRef | None = Field(None, description="A model to be named, where the workflow does not show it.")


class SaveOutputs(Outputs):
    """A file."""

    image: Image = Field(description="The file.")


@node("image.save@1", queue="cpu", title="Save a picture", timeout="2m", deterministic=False, cacheable=False)
def save(inputs: SaveInputs, ctx: Context) -> SaveOutputs:
    """Writes a picture as PNG, JPEG or WebP; the PNG says how it was made and can be run again."""
    picture = read_picture(ctx, inputs.image)
    if inputs.format == "png":
        data = _png(picture, _chunks(inputs, ctx) if inputs.metadata else {})
    else:
        data = _lossy(picture, inputs.format, inputs.quality)
    return SaveOutputs(image=ctx.artifacts.write(data, f"image/{inputs.format}"))


def _png(picture: Pillow.Image, chunks: Mapping[str, str]) -> bytes:
    info, out = PngInfo(), io.BytesIO()
    for keyword, text in chunks.items():
        info.add_itxt(keyword, text)
    picture.save(out, "PNG", compress_level=PNG_LEVEL, pnginfo=info)
    return out.getvalue()


def _lossy(picture: Pillow.Image, kind: str, quality: int) -> bytes:
    out = io.BytesIO()
    if kind == "jpeg":
        flat_rgb(picture).save(out, "JPEG", quality=quality, optimize=True)
    else:
        picture.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def _chunks(inputs: SaveInputs, ctx: Context) -> dict[str, str]:
    known = dict(ctx.provenance())
    models = _models(inputs, ctx, known)
    body = {
        "schema": SCHEMA,
        "workflow": known.get("workflow", {}),
        "inputs": known.get("inputs", {}),
        "run": known.get("run", ctx.run),
        "seeds_from": known.get("seeds_from", ctx.run),
        "versions": known.get("versions", {}),
        "models": models,
    }
    chunks = {KEYWORD: json.dumps(body, ensure_ascii=False, separators=(",", ":"))}
    settings = settings_of(body["workflow"], body["inputs"], ctx.node) | _given(inputs)
    if "prompt" in settings:
        chunks["parameters"] = parameters_text(settings, models)
    return chunks


def _given(inputs: SaveInputs) -> dict[str, Any]:
    names = ("prompt", "negative_prompt", "seed")
    given = {name: getattr(inputs, name) for name in names if getattr(inputs, name) is not None}
    return given | ({"model": inputs.model["model"]} if inputs.model else {})


def parameters_text(settings: Mapping[str, Any], models: Mapping[str, str]) -> str:
    """Write settings the A1111 way: prompt, then `Negative prompt: …`, then `Name: value, …` in one line."""
    lines = [str(settings["prompt"])]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    pairs = [
        (label, settings[key])
        for key, label in (
            ("steps", "Steps"),
            ("scheduler", "Sampler"),
            ("guidance", "CFG scale"),
            ("seed", "Seed"),
            ("strength", "Denoising strength"),
            ("model", "Model"),
        )
        if settings.get(key) is not None
    ]
    if {"width", "height"} <= settings.keys():
        pairs.append(("Size", f"{settings['width']}x{settings['height']}"))
    if digest := models.get(str(settings.get("model"))):
        pairs.append(("Model hash", digest.removeprefix("sha256:")[:10]))
    return "\n".join([*lines, ", ".join(f"{label}: {value}" for label, value in pairs)])


def _models(inputs: SaveInputs, ctx: Context, known: Mapping[str, Any]) -> dict[str, str]:
    """Digests of every model that the workflow names; those that this worker does not know are left out."""
    found: dict[str, str] = {}
    for reference in [*_named_models(known), *([inputs.model] if inputs.model else [])]:
        name = reference if isinstance(reference, str) else str(reference.get("model"))
        digest = None if isinstance(reference, str) else reference.get("digest")
        try:
            found[name] = digest or ctx.models.recipe(name)["digest"]
        except (SpindleError, AttributeError):  # made elsewhere, or on a worker without models
            continue
    return found


def _named_models(known: Mapping[str, Any]) -> Iterator[str | dict[str, Any]]:
    inputs = known.get("inputs", {})
    for node_ in known.get("workflow", {}).get("nodes", {}).values():
        value = node_.get("inputs", {}).get("model")
        if isinstance(value, dict) and set(value) == {"$from"}:
            value = inputs.get(str(value["$from"]).removeprefix("inputs."))
        if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("model"), str)):
            yield value
