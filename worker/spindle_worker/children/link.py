"""A child's end of its socket: orders come in, reports and questions go out, from any thread."""

import itertools
import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from spindle_worker.children import framing
from spindle_worker.children.framing import Frame
from spindle_worker.children.relay import unpacked


class Link:
    """Reads in a thread of its own; when the worker is gone, so is this process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stops: dict[int, threading.Event] = {}
        self._asked: dict[int, queue.SimpleQueue[Frame]] = {}
        self._numbers = itertools.count(1)
        self._busy = False
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def orders(self) -> Iterator[dict[str, Any]]:
        """Give calls, and words to forget, in order until the worker hangs up."""
        while order := self._orders.get():
            self._busy = True
            yield order
            self._busy = False
            self._stops.pop(order.get("call", 0), None)

    def stop_of(self, call: int) -> threading.Event:
        """Return the flag that a stop of this call sets."""
        return self._stops[call]

    def tell(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a report; blocks only while the worker does not read."""
        with self._sending:
            framing.send(self._sock, header, body)

    def ask(self, header: dict[str, Any]) -> Frame:
        """Ask the worker and wait for its answer. Raises the SpindleError that it answers with."""
        number = next(self._numbers)
        answers = self._asked[number] = queue.SimpleQueue[Frame]()
        try:
            self.tell(header | {"id": number})
            answer = answers.get()
        finally:
            del self._asked[number]
        if "error" in answer.header:
            raise unpacked(answer.header["error"])
        return answer

    def _read(self) -> None:
        try:
            while frame := framing.receive(self._sock):
                self._sort(frame)
        except (OSError, framing.BadFrame):
            pass
        if self._busy:
            os.kill(os.getpid(), signal.SIGKILL)  # nobody waits for what a node does here
        self._orders.put(None)

    def _sort(self, frame: Frame) -> None:
        do = frame.header["do"]
        if do == "answer":
            self._asked[frame.header["to"]].put(frame)
        elif do == "stop":
            if stop := self._stops.get(frame.header["call"]):
                stop.set()
        else:
            if do == "call":
                self._stops[frame.header["call"]] = threading.Event()
            self._orders.put(frame.header)
