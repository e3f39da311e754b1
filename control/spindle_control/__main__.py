"""`python -m spindle_control` serves the control plane until SIGTERM or SIGINT.

One process, one event loop: uvloop, httptools, WebSockets without compression (previews are JPEG already).
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import ValidationError

from spindle_common.problems import SpindleError
from spindle_common.telemetry import configure_logging
from spindle_control.api_keys import ApiKeys
from spindle_control.app import create_app
from spindle_control.service import open_services
from spindle_control.settings import ControlSettings
from spindle_control.streams import Streams

_DRAIN_SECONDS = 5
_LARGEST_MESSAGE = 64 * 1024


class Refused(Exception):
    """Serving like this would be unsafe, or cannot work."""


class _Server(uvicorn.Server):
    """Tells every open stream goodbye before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn would raise it again afterwards, and the services would not be closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._streams.stopping.set()
        await super().shutdown(sockets)


def main() -> int:
    """Serve; the exit status is 0 after a signal, 2 when the settings are refused, 1 when a needed part is away."""
    try:
        settings = ControlSettings()
        configure_logging(settings.log_level, settings.log_format)
        check(settings)
        uvloop.run(serve(settings))
    except (Refused, ValidationError) as refusal:
        return _say(str(refusal), 2)
    except SpindleError as error:
        return _say(f"{error.title}: {error}", 1)
    except KeyboardInterrupt:
        return 0
    return 0


def check(settings: ControlSettings) -> None:
    """Refuse to listen beyond this machine without keys."""
    keys = ApiKeys(settings.keys_file)
    if not settings.loopback and not keys.usable:
        raise Refused(
            f"Refusing to listen on {settings.host}: whoever reaches this address could run anything.\n"
            f"Make an API key first with `spindle keys create` (kept in {_shown(keys.path)}), or listen on 127.0.0.1."
        )


async def serve(settings: ControlSettings) -> None:
    """Serve until a signal. Raises what the services raise when something needed is away."""
    async with open_services(settings) as services:
        app = create_app(services)
        await _Server(configuration(app, settings), app.state.streams).serve()


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


def _shown(path: Path) -> str:
    return str(path.absolute())


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"spindle: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
