"""Frames: the levels of a run that are being walked, each with its inputs and the outcomes of its nodes.

    ""                the workflow itself
    "vars[3]."        the body of the map `vars`, for its fourth item       "refine[0]."   a loop's first iteration
    "sub."            the workflow that `sub` calls                         "a[1].b[0]."   a body within a body

A node's path is its frame's prefix and its id. News of a path finds its frame by the prefix; news of one that is not
open yet (another driver got that far) is kept until it opens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spindle_common.graph import Board
from spindle_common.values import Outcome, Scope
from spindle_control.compiler import PlanLevel


@dataclass(frozen=True)
class Frame:
    """One level being walked; its board knows outcomes by id."""

    prefix: str
    level: PlanLevel
    inputs: Mapping[str, Any]
    board: Board

    def path(self, id_: str) -> str:
        """The path of a node in this frame."""
        return self.prefix + id_

    @property
    def scope(self) -> Scope:
        """What references in it see."""
        return Scope(self.inputs, self.board.outcomes)


class Frames:
    """The open frames of a run."""

    def __init__(self) -> None:
        self._open: dict[str, Frame] = {}
        self._early: dict[str, dict[str, Outcome]] = {}

    def open(self, prefix: str, level: PlanLevel, inputs: Mapping[str, Any]) -> Frame:
        """Open a frame, with what is known of its nodes already."""
        frame = Frame(prefix, level, inputs, Board(self._early.pop(prefix, {})))
        self._open[prefix] = frame
        return frame

    def close(self, frame: Frame) -> None:
        """Forget a frame: what came of it is known to the one around it."""
        self._open.pop(frame.prefix, None)
        self._early.pop(frame.prefix, None)

    def put(self, outcomes: Mapping[str, Outcome]) -> None:
        """Take in outcomes by path."""
        found: dict[str, dict[str, Outcome]] = {}
        for path, outcome in outcomes.items():
            at = path.rfind(".") + 1
            found.setdefault(path[:at], {})[path[at:]] = outcome
        for prefix, known in found.items():
            if prefix in self._open:
                self._open[prefix].board.put(known)
            else:
                self._early.setdefault(prefix, {}).update(known)

    def forget(self, path: str) -> None:
        """Drop what came too late of frames inside a node that has ended."""
        inside = (f"{path}[", f"{path}.")
        for prefix in [prefix for prefix in self._early if prefix.startswith(inside)]:
            del self._early[prefix]
