"""The caption grammar: writes captions in its many spellings and reads them back.

    [a|an] [small|large] COLOUR SHAPE [PLACE] on [a|an] COLOUR background [PLACE] [.]
    PLACE = (at|on) the (left|right|top|bottom) | (in|at) the (centre|center|middle) | [,] (centred|centered)

The place stands before or after the background, never both; case does not matter.
"""

import random
import re
from collections.abc import Collection

from training.scene import COLOURS, PLACES, SHAPES, SIZES, Scene

CENTRE_WORDS = ("centre", "center", "middle", "centred", "centered")
WORDS = (
    *("a", "an", "on", "at", "in", "the", "background", ".", ","),
    *COLOURS,
    *SHAPES,
    *SIZES,
    *PLACES,
    *CENTRE_WORDS,
)
"""Everything the grammar can say, each once but for `centre`."""

_CENTRES = (
    *("in the centre", "in the center") * 3,
    *("at the centre", "at the center", "in the middle"),
    *(", centred", ", centered", "centred", "centered"),
)


def caption(scene: Scene, rng: random.Random, told: Collection[str] = ("size", "place", "background")) -> str:
    """A caption of the scene in a spelling drawn from `rng`, which leaves out the optional attributes not `told`."""
    phrases = [_with_article([*([scene.size] if "size" in told else []), scene.colour, scene.shape], rng)]
    if "background" in told:
        phrases.append("on " + _with_article([scene.background, "background"], rng))
    if "place" in told:
        phrases.insert(rng.choice((1, 2)), _place(scene.place, rng))
    text = " ".join(phrases).replace(" ,", ",")
    return text + ("." if rng.random() < 0.1 else "")


def plain_caption(scene: Scene, *, place_last: bool = True) -> str:
    """The commonest spelling, with all five attributes."""
    place = "in the centre" if scene.place == "centre" else f"on the {scene.place}"
    noun = f"{_article(scene.size)} {scene.size} {scene.colour} {scene.shape}"
    background = f"on {_article(scene.background)} {scene.background} background"
    return " ".join((noun, background, place) if place_last else (noun, place, background))


def read(text: str) -> dict[str, str]:
    """The attributes a caption names, by `Scene` field; what it leaves out is absent.

    Raises ValueError where it names no shape or no colour.
    """
    words = re.findall(r"[a-z]+", text.lower())
    colours = [word for word in words if word in COLOURS]
    shapes = [word for word in words if word in SHAPES]
    if not colours or not shapes:
        raise ValueError(f"caption names no coloured shape: {text!r}")
    found = {"shape": shapes[0], "colour": colours[0]}
    if len(colours) > 1:
        found["background"] = colours[1]
    for word in words:
        if word in SIZES:
            found["size"] = word
        elif word in CENTRE_WORDS or word in PLACES:
            found["place"] = "centre" if word in CENTRE_WORDS else word
    return found


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _with_article(words: list[str], rng: random.Random) -> str:
    return " ".join(words if rng.random() < 0.12 else [_article(words[0]), *words])


def _place(place: str, rng: random.Random) -> str:
    if place == "centre":
        return rng.choice(_CENTRES)
    comma = ", " if rng.random() < 0.08 else ""
    return f"{comma}{rng.choice(('at', 'on'))} the {place}"
