"""A control serves more watchers than the 1,024 files, or 256, that a shell lets a program open by itself."""

import asyncio
import contextlib
import resource
from pathlib import Path
from urllib.parse import urlsplit

from support.cluster import Cluster
from support.redis_server import RedisServer

_FEW, _MANY = 256, 600


async def livez(stack: contextlib.ExitStack, url: str) -> bytes:
    """Ask on a connection that stays open; returns the first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    stack.callback(writer.close)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


async def test_many_connections_are_served_where_few_files_may_be_open(tmp_path: Path, own_redis: RedisServer) -> None:
    cluster, stack = Cluster(tmp_path, own_redis), contextlib.ExitStack()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, before[1]))
        try:
            _, url = cluster.control()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert [await livez(stack, url) for _ in range(_MANY)] == [b"HTTP/1.1 200 OK"] * _MANY
    finally:
        stack.close()
        cluster.close()
