"""Health and metrics of a worker, on a port of their own: /livez, /readyz, /metrics.

Beyond loopback the metrics need the key of the setting `metrics_key`, as `Authorization: Bearer`.
"""

import hmac
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from pydantic import SecretStr

from spindle_worker import metrics

Start = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""


class Health:
    """A small server in a thread of its own, so that a busy worker still answers.

    `trouble` says why the worker is not ready, in words; nothing when it is.
    """

    def __init__(self, host: str, port: int, trouble: Callable[[], str], key: SecretStr | None) -> None:
        self._trouble, self._key = trouble, key
        self._metrics = make_wsgi_app(metrics.registry)
        self._server: WSGIServer = make_server(host, port, self._answer, handler_class=_Quiet)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/livez":
            return _text(start, "200 OK", "alive")
        if path == "/readyz":
            trouble = self._trouble()
            return _text(start, *(("503 Service Unavailable", trouble) if trouble else ("200 OK", "ready")))
        if path == "/metrics":
            if not self._allowed(environ.get("HTTP_AUTHORIZATION", "")):
                return _text(start, "401 Unauthorized", "an API key is needed")
            body: Iterable[bytes] = self._metrics(environ, start)
            return body
        return _text(start, "404 Not Found", "there is /livez, /readyz and /metrics")

    def _allowed(self, header: str) -> bool:
        if self._key is None:
            return True
        return hmac.compare_digest(header.encode(), f"Bearer {self._key.get_secret_value()}".encode())


def _text(start: Start, status: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
