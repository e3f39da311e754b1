"""What a node may touch while it runs: progress, previews, artifacts, models, cancellation, its logger.

A node sees only this. Node code may run in a thread, so every method here may be called from one: nothing awaits,
nothing blocks but `artifacts.read`. What must reach the event loop goes through the sinks that the attempt gave.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from spindle_common.contracts import Artifact
from spindle_common.seeds import draw_seed

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PREVIEW_INTERVAL = 0.2


class Cancelled(BaseException):
    """Raised inside a node whose attempt is to stop; not an Exception, so that `except Exception` lets it pass."""


class Artifacts(Protocol):
    """A node's view of the object store."""

    def read(self, artifact: Artifact) -> bytes:
        """Return the artifact's bytes; blocks. Raises ArtifactNotFound, StoreUnavailable."""
        ...

    def write(self, data: bytes, media_type: str) -> Artifact:
        """Name the bytes at once and upload them behind the node's back; the commit waits for it."""
        ...


@dataclass(frozen=True)
class Sinks:
    """Where a node's reports go; each must return at once and be safe to call from a thread."""

    progress: Callable[[str, dict[str, Any]], None]
    preview: Callable[[str, "Picture"], None]
    provenance: Callable[[], Mapping[str, Any]]


@dataclass
class Context:
    """Handed to every node function beside its inputs."""

    run: str
    node: str
    attempt: int
    artifacts: Artifacts
    sinks: Sinks
    models: Any = None
    stop: threading.Event = field(default_factory=threading.Event)
    _previewed: float = 0.0

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries run, node and attempt."""
        about = {"run": self.run, "node": self.node, "attempt": self.attempt}
        return logging.LoggerAdapter(logging.getLogger("spindle.node"), about)

    def seed_for(self, name: str = "seed") -> int:
        """Draw a seed in 0..2**32-1 from run and path, so that every attempt draws the same."""
        return draw_seed(self.run, self.node, name)

    def progress(self, done: int, total: int, message: str | None = None) -> None:
        """Report how far it is. Raises Cancelled when the attempt is to stop."""
        self.check_cancelled()
        tick: dict[str, Any] = {"done": done, "total": total}
        self.sinks.progress(self.node, tick if message is None else tick | {"message": message})

    def wants_preview(self) -> bool:
        """Whether a preview now would be shown: at most five a second are."""
        return time.monotonic() - self._previewed >= PREVIEW_INTERVAL

    def preview(self, image: "Picture") -> None:
        """Show an unfinished picture; dropped if the last one was less than 0.2 s ago."""
        if self.wants_preview():
            self._previewed = time.monotonic()
            self.sinks.preview(self.node, image)

    def check_cancelled(self) -> None:
        """Raise Cancelled when the attempt is to stop."""
        if self.stop.is_set():
            raise Cancelled

    def provenance(self) -> Mapping[str, Any]:
        """Return {run, workflow, inputs, versions}, read-only: what a picture needs to be made again."""
        return self.sinks.provenance()
