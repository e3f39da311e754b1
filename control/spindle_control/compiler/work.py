"""What checking a document may cost, and what each part of it is reckoned to cost.

A document of 1 MiB can hold fifty thousand references, a hundred thousand literals or two thousand patterns that each
take a hundredth of a second to compile. Limits for each of these would meet good documents before they stopped bad
ones, so all draw on one budget, reckoned before the work is done, and by the text alone: the same document is always
judged alike, however fast the machine or full its caches. A unit is about a microsecond of a 2.5 GHz processor.
Nodes cost nothing here, they have a limit of their own, and each brings what the references of an ordinary node take: a
workflow is not too much because it is large.
"""

import re
from collections import Counter

MAX_WORK = 76_000
MAX_FOLLOWED = 40_000
"""Of it, what may go into types that follow other types; beyond it types are not known before a run."""

NODE = 45
"""What each node brings for references alone: five inside lists, or two dozen plain ones."""

LEVEL, PORT, REFERENCE, MIXED_REFERENCE, AFTER, VALUE, MISTAKE = 65, 2, 2, 9, 1, 2, 15
READING, WRONG_EXPRESSION = 6, 40
MIXTURE, FLOW_PORT, FOLLOWED = 11, 6, 5
BYTES, PARTS = 40, 3
"""Bytes, lists and objects of a document that are read in a unit."""
SCHEMA, SCHEMA_PART, COMPARISON, VALUES = 60, 16, 11, 50
_LONG_POINTER = 400
_EXPRESSION, _TOKEN, _FOREIGN = 30, 5, 12
_PATTERN, _OF_PATTERN, _CLASS, _UNICODE = 60, 3, 6, 500
_CEL_PART = re.compile(r"\w+|[^\w\s]")
_TIMES = re.compile(r"\{(?:[0-9]*,)?([0-9]{1,6})")
_CLASSES = re.compile(r"\.|\[\^|\\[WDS]")
_FAMILIES = re.compile(r"\\[pP]")


class Work:
    """What is left of the budget; the check of a called workflow draws on the same."""

    def __init__(self, left: int = MAX_WORK) -> None:
        self.left = left
        self.brought = 0
        self.followed = MAX_FOLLOWED
        self.by: Counter[str] = Counter()

    def bring(self, nodes: int) -> None:
        """Add what so many nodes bring."""
        self.brought += NODE * nodes

    def spend(self, units: int, what: str) -> bool:
        """Take so much for something; whether there was as much left."""
        self.by[what] += units
        if what == "references":
            brought = min(units, self.brought)
            self.brought -= brought
            units -= brought
        self.left -= units
        return self.left >= 0

    def follow(self, units: int) -> bool:
        """Take so much for types that follow others; whether there was as much left for them."""
        self.followed -= units
        self.left -= units
        self.by["types"] += units
        return self.followed >= 0


def pointer_cost(pointer: str) -> int:
    """What it takes to write a pointer down: keys may be long, and stand above thousands of values."""
    return len(pointer) // _LONG_POINTER


def expression_cost(text: str) -> int:
    """What it takes to parse an expression: 5 µs a token; the parser's time grows with what is not ASCII."""
    foreign = 0 if text.isascii() else sum(character > "\x7f" for character in text)
    patterns = text.count("matches")
    cost = _EXPRESSION + _TOKEN * len(_CEL_PART.findall(text)) + _FOREIGN * foreign
    return cost + patterns * pattern_cost(text, 3500) if patterns else cost


def pattern_cost(pattern: str, most: int) -> int:
    r"""What it takes to compile a regular expression, or to find that it is too large, which takes `most`.

    A family such as `\pL` takes half a millisecond, what is not a letter or a range of letters 6 µs, each time that it
    is repeated.
    """
    families, classes = len(_FAMILIES.findall(pattern)), len(_CLASSES.findall(pattern))
    foreign = 0 if pattern.isascii() else sum(character > "\x7f" for character in pattern)
    repeated = 1
    for times in _TIMES.findall(pattern):
        repeated = min(repeated * max(int(times), 1), 100_000)
    cost = _PATTERN + _OF_PATTERN * len(pattern) + repeated // 3
    return min(cost + repeated * (_UNICODE * families + _CLASS * (classes + foreign)), most + cost)
