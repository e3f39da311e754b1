"""Prompts: encoding, and what is done to an encoded one."""

import re
from dataclasses import replace
from typing import Any

from spindle_control.importers.builder import ref
from spindle_control.importers.comfyui.call import Call
from spindle_control.importers.comfyui.classes import CLASSES
from spindle_control.importers.comfyui.graph import Graph
from spindle_control.importers.comfyui.things import Words

MAX_PROMPT = 20_000
_WEIGHTS = re.compile(r"\([^()]*\)")


def encode(call: Call) -> tuple[Any, ...]:
    """A prompt, which becomes an input of the workflow."""
    return (_encoded(call, "text"),)


def encode_flux(call: Call) -> tuple[Any, ...]:
    """A prompt for both of FLUX's encoders, with its guidance."""
    if call.text("clip_l") not in {call.text("t5xxl"), ""}:
        raise call.refusal("clip_l", "not-yet", "both text encoders get the same words here", "write the same in both")
    words = _encoded(call, "t5xxl")
    return (_told(call, words, "guidance"),)


def _encoded(call: Call, name: str) -> Words:
    text, clip = call.text(name), call.clip()
    if "embedding:" in text:
        raise call.refusal(name, "not-yet", "words learnt as embeddings are not loaded", "leave `embedding:…` out")
    if _WEIGHTS.search(text) and clip.family in {"flux", "sd3"}:
        call.note(name, "differs", "words weigh the same for models of this kind: the parentheses are not passed on")
    given = {
        "prompt": _prompt(call, name, text),
        "model": call.work.recipes.use("text", clip.base, clip.adapters),
        "layer": clip.layer,
        "syntax": "weights",
    }
    id_ = call.emit("text.encode@1", given, {"prompt": name})
    return Words(ref(id_, "conditioning"), family=clip.family)


def _prompt(call: Call, name: str, text: str) -> dict[str, Any]:
    role = "negative_prompt" if _only_negative(call.work.graph, call.node.id) else "prompt"
    about = "What the picture does not show." if role == "negative_prompt" else "What the picture shows."
    spec = {"type": "string", "maxLength": MAX_PROMPT, "default": text, "description": about}
    return call.work.builder.input(role, spec, call.at(name), shared=text)


def _only_negative(graph: Graph, id_: str) -> bool:
    """Whether a prompt is used as a negative one and as nothing else."""
    seen, waiting, roles = {id_}, [id_], set()
    while waiting:
        for reader, name in graph.readers.get(waiting.pop(), ()):
            spec = CLASSES.get(graph.nodes[reader].class_type)
            if name in {"positive", "negative"}:
                roles.add(name)
            elif spec is not None and "CONDITIONING" in spec.outputs and reader not in seen:
                seen.add(reader)
                waiting.append(reader)
            elif spec is not None and "GUIDER" in spec.outputs:
                roles.add("positive")
    return roles == {"negative"}


def set_last_layer(call: Call) -> tuple[Any, ...]:
    """The layer of the text encoder whose output is used."""
    return (replace(call.clip(), layer=call.whole("stop_at_clip_layer")),)


def combine(call: Call) -> tuple[Any, ...]:
    """Two prompts at once."""
    one, other = call.words("conditioning_1"), call.words("conditioning_2")
    id_ = call.emit("conditioning.combine@1", {"conditioning": one.ref, "other": other.ref})
    return (replace(one, ref=ref(id_, "conditioning")),)


def zero_out(call: Call) -> tuple[Any, ...]:
    """A prompt that says nothing."""
    words = call.words("conditioning")
    id_ = call.emit("conditioning.zero@1", {"conditioning": words.ref})
    return (replace(words, ref=ref(id_, "conditioning")),)


def flux_guidance(call: Call) -> tuple[Any, ...]:
    """The guidance that a distilled model is told."""
    return (_told(call, call.words("conditioning")),)


def _told(call: Call, words: Words, suffix: str = "") -> Words:
    given = {"conditioning": words.ref, "guidance": call.number("guidance")}
    id_ = call.emit("conditioning.guidance@1", given, {"guidance": "guidance"}, suffix)
    return replace(words, ref=ref(id_, "conditioning"), guided=True)
