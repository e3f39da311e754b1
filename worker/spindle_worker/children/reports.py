"""What a node in a child reports: ticks thinned out, previews encoded beside the node's path, bytes handed over."""

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

from spindle_common.contracts import Artifact
from spindle_worker.children.link import Link
from spindle_worker.previews import preview_data

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_TICK_SECONDS = 0.02


class Ticks:
    """One call's progress: what comes faster than 50 a second waits, the newest only, and is never lost."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent, self._newest = 0.0, dict[str, Any]()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def put(self, tick: dict[str, Any]) -> None:
        """Take a tick."""
        with self._lock:
            self._newest = tick
            if time.monotonic() - self._sent >= _TICK_SECONDS:
                self._send()
            elif self._timer is None:
                self._timer = threading.Timer(_TICK_SECONDS, self._later)
                self._timer.daemon = True
                self._timer.start()

    def _later(self) -> None:
        with self._lock:
            self._timer = None
            self._send()

    def _send(self) -> None:
        if self._newest:
            self._sent = time.monotonic()
            self._link.tell({"tell": "progress", "tick": self._newest})
            self._newest = {}

    def close(self) -> None:
        """Send what waits; the call is over."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._send()


class Previews:
    """Encodes a call's pictures in a thread that ends when none waits; a newer one replaces one that waits."""

    def __init__(self, link: Link, call: int) -> None:
        self._link, self._call = link, call
        self._lock = threading.Lock()
        self._waiting: Picture | None = None
        self._works = False

    def put(self, picture: "Picture") -> None:
        """Take a picture."""
        with self._lock:
            self._waiting = picture
            if not self._works:
                self._works = True
                threading.Thread(target=self._encode, name="previews", daemon=True).start()

    def _encode(self) -> None:
        while True:
            with self._lock:
                picture, self._waiting = self._waiting, None
                if picture is None:
                    self._works = False
                    return
            self._link.tell({"tell": "preview", "call": self._call, "preview": preview_data(picture)})


class LinkArtifacts:
    """A node's view of the object store, which the worker serves."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes; blocks. Raises ArtifactNotFound, StoreUnavailable."""
        return self._link.ask({"ask": "read", "artifact": artifact.model_dump(mode="json")}).body

    def write(self, data: bytes, media_type: str) -> Artifact:
        """Name the bytes and hand them over; the worker uploads them."""
        artifact = Artifact(digest="sha256:" + hashlib.sha256(data).hexdigest(), media_type=media_type, size=len(data))
        self._link.tell({"tell": "write", "artifact": artifact.model_dump(mode="json")}, data)
        return artifact
