"""The control plane behind a socket: one process, one event loop.

uvloop, httptools, and WebSockets without compression (previews are JPEG already).
"""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from spindle_common.warming import warm_up
from spindle_control.app import create_app
from spindle_control.service import open_services
from spindle_control.settings import ControlSettings
from spindle_control.streams import Streams

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DRAIN_SECONDS = 5
_LARGEST_MESSAGE = 64 * 1024


class Server(uvicorn.Server):
    """Tells every open stream goodbye before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn would raise it again afterwards, and the services would not be closed."""
        if threading.current_thread() is not threading.main_thread():
            yield  # no other thread can have them
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._streams.stopping.set()
        await super().shutdown(sockets)


async def serve(settings: ControlSettings) -> None:
    """Serve until a signal. Raises what the services raise when something needed is away."""
    async with open_services(settings) as services:
        app = create_app(services)
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
        await Server(configuration(app, settings), app.state.streams).serve()


def configuration(app: FastAPI, settings: ControlSettings) -> uvicorn.Config:
    """Return how uvicorn shall serve the app."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=_LARGEST_MESSAGE,
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        backlog=2048,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
