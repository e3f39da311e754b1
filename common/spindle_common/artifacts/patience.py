"""How long an S3 server may take: a timeout for each step forward, a few retries, and nothing that can hang.

urllib3 gives the sending of a whole body no more time than the making of a connection: a picture that takes three
seconds on its way up would never arrive. Here a body goes out in small pieces, each with that time for itself.
"""

import ssl
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

PIECE = 64 * 1024  # bytes that may take as long as a connection may


class _Http(HTTPConnection):
    def send(self, data: Any) -> None:
        for piece in _pieces(data):
            super().send(piece)


class _Https(HTTPSConnection):
    def send(self, data: Any) -> None:
        for piece in _pieces(data):
            super().send(piece)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


def _pieces(data: Any) -> list[Any]:
    if not isinstance(data, bytes):
        return [data]
    view = memoryview(data)
    return [view[start : start + PIECE] for start in range(0, len(view), PIECE)]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for a connection and each piece sent, seconds for each answer, retries, and calls at a time."""

    connect: float = 2.0
    read: float = 10.0
    retries: int = 2
    threads: int = 8

    def pool(self, secure: bool) -> urllib3.PoolManager:
        """Build the connection pool that keeps to this. A server's Retry-After may not stretch it."""
        retry = urllib3.Retry(
            total=self.retries,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            respect_retry_after_header=False,
        )
        pool = urllib3.PoolManager(
            maxsize=self.threads,
            timeout=urllib3.Timeout(connect=self.connect, read=self.read),
            retries=retry,
            ssl_context=ssl.create_default_context() if secure else None,
        )
        pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return pool
