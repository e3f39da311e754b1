"""A TCP proxy that breaks connections as networks do, between a client and a server that know nothing of it.

client <--> Proxy (a thread with a loop of its own) <--> server

cut      nothing passes in either direction until `heal`; what was sent meanwhile arrives then, as TCP would have it
refuse   connections are closed, new ones at once after they were made
freeze   what is connected now passes nothing any more and is never closed: a machine between vanished
lag      each piece takes so many seconds longer
swallow  the next answers are not handed on: the request was carried out, the client sees a closed connection
tear     a connection is closed once the client has sent so many bytes on it: a torn upload
fail     the next HTTP requests are answered with 500 by the proxy itself, each on a connection that is then closed
"""

import asyncio
import contextlib
import threading
from typing import Any

_PIECE = 64 * 1024


class Proxy:
    """Forwards connections on a port of its own to one server; its methods are called from any thread."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._refusing = False
        self._lag = 0.0
        self._swallow = self._fail = 0
        self._tear: int | None = None
        self._frozen = 0
        self.swallowed = self.torn = self.failed = self.connections = 0
        self._thread.start()
        self._server = self._call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        self._open.set()
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    # Breaking and mending ------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Let nothing pass, and nobody know."""
        self._call(self._set(gate=False))

    def refuse(self) -> None:
        """Close every connection, and each new one."""
        self._call(self._set(refusing=True))

    def freeze(self) -> None:
        """Let nothing pass on what is connected now, for ever; new connections are well."""
        self._frozen = self.connections

    def lag(self, seconds: float) -> None:
        """Make every piece late."""
        self._lag = seconds

    def swallow(self, answers: int) -> None:
        """Swallow the next answers, and close their connections."""
        self._swallow = answers

    def tear(self, after: int | None) -> None:
        """Close connections on which a client has sent more than so many bytes; None: no longer."""
        self._tear = after

    def fail(self, requests: int) -> None:
        """Answer the next requests with 500; connections of before are closed, so that new ones are made."""
        self._fail = requests
        self._call(self._set(refusing=True))
        self._call(self._set(refusing=False))

    def heal(self) -> None:
        """Let everything pass again."""
        self._lag, self._swallow, self._fail, self._tear = 0.0, 0, 0, None
        self._call(self._set(gate=True, refusing=False))

    async def _set(self, *, gate: bool | None = None, refusing: bool | None = None) -> None:
        if gate is not None:
            (self._open.set if gate else self._open.clear)()
        if refusing is not None:
            self._refusing = refusing
            if refusing:
                for writer in list(self._writers):
                    writer.transport.abort()

    def close(self) -> None:
        """End it; connections are closed."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._open.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Forwarding ----------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections = number = self.connections + 1
        writers = {writer}
        self._writers.add(writer)
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._refusing:
                return
            await self._open.wait()
            if self._fail > 0:
                await self._answer_500(reader, writer)
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            writers.add(far_writer)
            self._writers.add(far_writer)
            pumps = [
                asyncio.ensure_future(self._up(reader, far_writer, number)),
                asyncio.ensure_future(self._down(far_reader, writer, number)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await self._open.wait()  # an end travels no further than data does
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers -= writers
            for each in writers:
                each.transport.abort()

    async def _answer_500(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            if b"expect: 100-continue" not in head:
                await reader.readexactly(int(length or 0))
            self._fail, self.failed = self._fail - 1, self.failed + 1
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        sent = 0
        while piece := await reader.read(_PIECE):
            await self._pass(number)
            if self._tear is not None and sent + len(piece) > self._tear:
                self.torn += 1
                writer.write(piece[: max(0, self._tear - sent)])
                with contextlib.suppress(OSError):
                    await writer.drain()
                return
            sent += len(piece)
            writer.write(piece)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while piece := await reader.read(_PIECE):
            await self._pass(number)
            if self._swallow > 0:
                self._swallow -= 1
                self.swallowed += 1
                return
            writer.write(piece)
            await writer.drain()

    async def _pass(self, number: int) -> None:
        await self._open.wait()
        if number <= self._frozen:
            await asyncio.Event().wait()
        if self._lag:
            await asyncio.sleep(self._lag)
