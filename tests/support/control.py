"""A whole control plane inside the test's own loop, behind a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from spindle_control.app import create_app
from spindle_control.service import Services, open_services
from spindle_control.serving import Server, configuration
from spindle_control.settings import ControlSettings
from spindle_control.streams import Streams

API = "/api/v1"


@dataclass(frozen=True)
class Control:
    """One that serves; `http` speaks with it."""

    url: str
    services: Services
    streams: Streams
    http: httpx.AsyncClient

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1)


@contextlib.asynccontextmanager
async def serving(data_dir: Path, redis_url: str, **settings: Any) -> AsyncIterator[Control]:
    """Serve on a free port of loopback until the block ends."""
    chosen = ControlSettings.model_validate({"data_dir": data_dir, "redis_url": redis_url, **settings})
    async with open_services(chosen) as services:
        app = create_app(services)
        server = Server(configuration(app, chosen), app.state.streams)
        bound = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        serve = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            while not server.started:
                assert not serve.done(), serve.exception()
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                yield Control(url, services, app.state.streams, http)
        finally:
            server.should_exit = True
            await serve
