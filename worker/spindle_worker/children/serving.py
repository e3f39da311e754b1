"""A child's life: one call after the other, handles kept until the attempt is over.

    call -> {"do": "call", "call": n, type, inputs, handles, run, node, attempt, trace}
            {"do": "stop", "call": n}    {"do": "forget"}    {"do": "answer", "to": k, …} + bytes
    said <- {"tell": "progress" | "preview" | "write" | "model", …} + bytes
            {"ask": "read" | "provenance" | "room", "id": k, …}
            {"end": n, values, handles} | {"end": n, "error": …} | {"end": n, "cancelled": true}

The main thread runs nodes; one more reads the socket, so that a stop and answers arrive while a node runs.
"""

import json
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spindle_common.problems import NodeFailed, SpindleError
from spindle_common.telemetry import current_trace
from spindle_worker import calling
from spindle_worker.children.link import Link
from spindle_worker.children.rearing import Rearing
from spindle_worker.children.relay import packed
from spindle_worker.children.reports import LinkArtifacts, Previews, Ticks
from spindle_worker.context import Cancelled, Context, Sinks
from spindle_worker.models import CacheEvent, CacheOptions, ModelCache, ModelLibrary
from spindle_worker.node import NodeSpec

log = logging.getLogger(__name__)


def serve(sock: socket.socket, rearing: Rearing, specs: Mapping[str, NodeSpec], model_memory: int) -> None:
    """Serve the worker at the other end until it hangs up."""
    _draw_anew()
    link = Link(sock)
    _Server(link, specs, _models(rearing, link, model_memory)).run()


def _models(rearing: Rearing, link: Link, model_memory: int) -> ModelCache:
    def tell(event: CacheEvent) -> None:
        link.tell({"tell": "model", "kind": event.kind, "model": event.model, "seconds": event.seconds})

    def room(held: int) -> bool:
        return bool(link.ask({"ask": "room", "bytes": held}).header["granted"])

    folder = Path(rearing.data_dir) if rearing.data_dir else None
    library = ModelLibrary(rearing.models, rearing.default_model, folder)
    options = CacheOptions(model_memory, rearing.device, rearing.dtype, rearing.threads, listener=tell, room=room)
    return ModelCache(library, options)


def _draw_anew() -> None:
    """Children must not share the state of global random generators; `random` sees to itself."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()


class _Server:
    def __init__(self, link: Link, specs: Mapping[str, NodeSpec], models: ModelCache) -> None:
        self._link, self._specs, self._models = link, specs, models
        self._handles: dict[int, Any] = {}
        self._last_handle = 0

    def run(self) -> None:
        for header in self._link.orders():
            if header["do"] == "forget":
                self._handles.clear()
            else:
                self._finish(header["call"], self._answer(header))

    def _answer(self, header: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._call(header)
        except Cancelled:
            return {"cancelled": True}
        except SpindleError as error:
            return {"error": packed(error)}

    def _finish(self, number: int, answer: dict[str, Any]) -> None:
        try:
            self._link.tell({"end": number} | answer)
        except ValueError as error:
            self._link.tell({"end": number, "error": packed(NodeFailed(f"its outputs cannot travel: {error}"))})

    def _call(self, header: Mapping[str, Any]) -> dict[str, Any]:
        current_trace.set(header["trace"])
        ticks = Ticks(self._link)
        inputs = header["inputs"] | {port: self._kept(number) for port, number in header["handles"].items()}
        try:
            returned = calling.call_native(self._specs[header["type"]], inputs, self._context(header, ticks))
        finally:
            ticks.close()
        return {"values": returned.values, "handles": {port: self._keep(it) for port, it in returned.handles.items()}}

    def _kept(self, number: int) -> Any:
        if number not in self._handles:
            raise NodeFailed("the attempt that made this handle is over")
        return self._handles[number]

    def _keep(self, handle: Any) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = handle
        return self._last_handle

    def _context(self, header: Mapping[str, Any], ticks: Ticks) -> Context:
        stop = self._link.stop_of(header["call"])
        previews = Previews(self._link, header["call"])
        sinks = Sinks(
            lambda _node, tick: ticks.put(tick), lambda _node, picture: previews.put(picture), self._provenance
        )
        about = header["run"], header["node"], header["attempt"]
        return Context(*about, LinkArtifacts(self._link), sinks, models=self._models, stop=stop)

    def _provenance(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self._link.ask({"ask": "provenance"}).body)
        return found
