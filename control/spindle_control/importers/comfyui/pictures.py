"""Pictures, masks and latents: loading, encoding, resizing, decoding, saving."""

import re
from dataclasses import replace
from typing import Any

from spindle_control.importers.builder import ref
from spindle_control.importers.comfyui import tables
from spindle_control.importers.comfyui.call import Call
from spindle_control.importers.comfyui.graph import Link
from spindle_control.importers.comfyui.things import Const, Latents, Mask, Pictures, Piece, Vae
from spindle_control.importers.names import slug

MAX_BATCH = 64
CELL = 8
_USUAL_TITLES = {"Load Image", "LoadImage", "Load Image (as Mask)"}

Json = dict[str, Any]


def empty_latent(call: Call) -> tuple[Any, ...]:
    """Latents of nothing: a size, and how many pictures."""
    count = call.whole("batch_size")
    if count > MAX_BATCH:
        raise call.refusal("batch_size", "too-large", f"at most {MAX_BATCH} pictures are made at once", "use flow.map")
    width, height = (call.whole(side) // CELL * CELL for side in ("width", "height"))
    family = "sd3" if call.node.class_type == "EmptySD3LatentImage" else ""
    return (Latents(tuple(Piece(None, "", width, height, at) for at in range(count)), family),)


def load_image(call: Call) -> tuple[Any, ...]:
    """A picture, which becomes an input of the workflow; its mask is taken from it where that is used."""
    given = _file(call)
    if not _reads(call, 1):
        return Pictures((given,)), Mask({})
    return Pictures((given,)), Mask(_mask_from(call, given, "alpha", "mask"))


def load_image_mask(call: Call) -> tuple[Any, ...]:
    """A mask from a picture, which becomes an input of the workflow."""
    return (Mask(_mask_from(call, _file(call), call.text("channel"))),)


def _file(call: Call) -> Json:
    file = call.text("image")
    wanted = "image" if call.title in _USUAL_TITLES or not call.node.title else call.title
    about = f"A picture, to be uploaded; ComfyUI's file is called {file[:300]}."
    spec = {"artifact": "image/*", "description": about}
    return call.work.builder.input(slug(wanted, "image"), spec, call.at("image"), shared=file)


def _reads(call: Call, output: int) -> bool:
    """Whether any node reads this output of the node."""
    link, graph = Link(call.node.id, output), call.work.graph
    return any(graph.nodes[id_].inputs.get(name) == link for id_, name in graph.readers.get(call.node.id, ()))


def _mask_from(call: Call, image: Json, channel: str, suffix: str = "") -> Json:
    return ref(call.emit("image.mask@1", {"image": image, "channel": channel}, {"channel": "channel"}, suffix), "mask")


def image_to_mask(call: Call) -> tuple[Any, ...]:
    """A mask from a picture."""
    return (Mask(_mask_from(call, _single(call, "image"), call.text("channel"))),)


def mask_to_image(call: Call) -> tuple[Any, ...]:
    """A mask is a picture."""
    return (Pictures((call.mask("mask").ref,)),)


def invert_mask(call: Call) -> tuple[Any, ...]:
    """Black for white."""
    given = {"image": call.mask("mask").ref, "channel": "red", "invert": True}
    return (Mask(ref(call.emit("image.mask@1", given), "mask")),)


def vae_encode(call: Call) -> tuple[Any, ...]:
    """Pictures to latents."""
    return (_encoded(call, {}),)


def vae_encode_inpaint(call: Call) -> tuple[Any, ...]:
    """Pictures to latents of which a part is to be painted anew."""
    return (_encoded(call, {"mask": call.mask("mask").ref, "grow_mask": call.whole("grow_mask_by")}),)


def _encoded(call: Call, more: Json) -> Latents:
    base = call.vae().base
    pieces = []
    for at, picture in enumerate(call.pictures("pixels").refs):
        given = {"image": picture, "model": call.work.recipes.use("vae", base)} | more
        id_ = call.emit("image.encode@1", given, {"grow_mask": "grow_mask_by"})
        pieces.append(Piece(ref(id_, "latents"), base, index=at))
    return Latents(tuple(pieces))


def vae_decode(call: Call) -> tuple[Any, ...]:
    """Latents to pictures."""
    if call.node.class_type == "VAEDecodeTiled":
        call.note(None, "ignored", "the picture is decoded as a whole, not in tiles")
    refs = [_decoded(call, piece, call.vae()) for piece in call.latents("samples").pieces]
    return (Pictures(tuple(refs)),)


def _decoded(call: Call, piece: Piece, vae: Vae) -> Json:
    if piece.ref is None:
        raise call.refusal("samples", "not-yet", "empty latents are not decoded", "sample first")
    other = None if piece.base == vae.base else call.work.recipes.use("vae", vae.base)
    return ref(call.emit("image.decode@1", {"latents": piece.ref, "vae": other}), "image")


def noise_mask(call: Call) -> tuple[Any, ...]:
    """Latents of which a part is to be changed."""
    pieces = []
    for piece in call.latents("samples").pieces:
        if piece.ref is None:
            raise call.refusal("samples", "not-yet", "empty latents carry no mask", "encode a picture first")
        id_ = call.emit("latent.mask@1", {"latents": piece.ref, "mask": call.mask("mask").ref})
        pieces.append(replace(piece, ref=ref(id_, "latents")))
    return (replace(call.latents("samples"), pieces=tuple(pieces)),)


def latent_upscale(call: Call) -> tuple[Any, ...]:
    """Latents in another size."""
    method = _method(call, tables.LATENT_METHODS)
    size = _size(call)
    latents = call.latents("samples")
    if not size:
        return (latents,)
    return (replace(latents, pieces=tuple(_resized(call, piece, method, size) for piece in latents.pieces)),)


def _resized(call: Call, piece: Piece, method: str, size: Json) -> Piece:
    if piece.ref is not None:
        id_ = call.emit("latent.upscale@1", {"latents": piece.ref, "method": method, **size}, _SIZE_ORIGINS)
        return replace(piece, ref=ref(id_, "latents"))
    if "scale" in size:
        width, height = (round(side * size["scale"]) for side in (piece.width, piece.height))
    else:
        shape = (piece.width or 1) / (piece.height or 1)
        width = size.get("width") or round(size["height"] * shape)
        height = size.get("height") or round(width / shape)
    return replace(piece, width=width // CELL * CELL, height=height // CELL * CELL)


def image_scale(call: Call) -> tuple[Any, ...]:
    """Pictures in another size."""
    method, size = _method(call, tables.IMAGE_METHODS), _size(call)
    if not size:
        return (call.pictures("image"),)
    if method in {"bilinear", "bicubic"}:
        detail = f"image.resize filters what it makes smaller; ComfyUI's {method} does not"
        call.note("upscale_method", "differs", detail)
    refs = [
        ref(call.emit("image.resize@1", {"image": picture, "method": method, **size}, _SIZE_ORIGINS), "image")
        for picture in call.pictures("image").refs
    ]
    return (Pictures(tuple(refs)),)


_SIZE_ORIGINS = {"width": "width", "height": "height", "scale": "scale_by", "method": "upscale_method"}


def _method(call: Call, known: dict[str, str]) -> str:
    name = call.text("upscale_method")
    if name not in known:
        raise call.refusal("upscale_method", "not-yet", f"{name!r} is not made", "there are: " + ", ".join(known))
    return known[name]


def _size(call: Call) -> Json:
    """The new size as our nodes take it: a side of 0 follows the other; both 0 change nothing."""
    if "scale_by" in call.arguments:
        return {"scale": call.number("scale_by")}
    sides = {side: call.whole(side) for side in ("width", "height") if call.whole(side)}
    fit = tables.FITS[call.text("crop")]
    return sides | ({"fit": fit} if fit and len(sides) == 2 else {})


def save_image(call: Call) -> tuple[Any, ...]:
    """Pictures as files, which become an output of the workflow."""
    saved = [
        ref(call.emit("image.save@1", {"image": picture}, suffix=""), "image")
        for picture in call.pictures("images").refs
    ]
    last = re.split(r"[/\\]", call.text("filename_prefix"))[-1]
    plain = re.sub(r"%[^%]*%", "", last)
    wanted = "image" if plain in {"", "ComfyUI"} else plain
    call.work.builder.output(slug(wanted, "image"), saved[0] if len(saved) == 1 else saved, call.node.path)
    return ()


def preview_image(call: Call) -> tuple[Any, ...]:
    """Pictures that become an output of the workflow."""
    refs = list(call.pictures("images").refs)
    call.work.builder.output("preview", refs[0] if len(refs) == 1 else refs, call.node.path)
    return ()


def primitive(call: Call) -> tuple[Any, ...]:
    """A value."""
    return (Const(call.arguments["value"]),)


def _single(call: Call, name: str) -> Json:
    refs = call.pictures(name).refs
    if len(refs) != 1:
        raise call.refusal(name, "not-yet", "one picture is wanted here, not a batch")
    return refs[0]
