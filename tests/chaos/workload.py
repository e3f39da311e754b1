"""The workload: submits runs of many shapes, each request twice, cancels some, lets watchers come and go.

A client as people write them: it repeats a request with its Idempotency-Key until it is accepted or refused for good,
asks another control each time, and never forgets what it was promised (202). Everything goes into the history.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from chaos.history import History
from chaos.shapes import Shape, draw
from chaos.watchers import Watcher

Json = dict[str, Any]
_PATIENCE = 60.0
_TIMEOUT = httpx.Timeout(15.0, connect=3.0)


class Workload:
    """Everything that clients do; `urls` tells where controls are now."""

    def __init__(self, urls: Callable[[], list[str]], history: History, seed: int, *, rate: float = 2.0) -> None:
        self._urls, self._history = urls, history
        self._rng = random.Random(f"workload {seed}")
        self._rate = rate
        self._http = httpx.AsyncClient(timeout=_TIMEOUT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers, self._name = 0, secrets.token_hex(4)  # controls remember the keys of an earlier try
        self.accepted: list[str] = []

    def _url(self) -> str:
        return self._rng.choice(self._urls())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._history.note("stuck-client", task=f"{task.get_coro()}: {error!r}")

    async def run(self, seconds: float) -> None:
        """Submit for so long; then wait for what clients still do."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if self._rng.random() < 0.05:
                for _ in range(10):
                    self._spawn(self._client(draw(self._rng), storm=True))
            else:
                self._spawn(self._client(draw(self._rng)))
            await asyncio.sleep(self._rng.expovariate(self._rate))

    async def finish(self, patience: float) -> None:
        """Wait for clients and watchers to come to their ends; what does not is noted by `stuck`."""
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=patience)
            for task in late:
                self._history.note("stuck-client", task=str(task.get_coro()))
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._http.aclose()

    # One client ----------------------------------------------------------------------------------------------------

    async def _client(self, shape: Shape, *, storm: bool = False) -> None:
        self._numbers += 1
        number = self._numbers
        key = f"{self._name}-{number}"
        self._history.note("submit", key=key, shape=shape.to_json())
        twice = await asyncio.gather(self._submit(key, shape), self._submit(key, shape, self._rng.choice((0, 0.1))))
        run = twice[0] or twice[1]
        if run is None:
            return
        self.accepted.append(run)
        chance = self._rng.random()
        if chance < 0.35:
            watcher = Watcher(self._url, self._history, random.Random(f"watch {number}"), number)
            self._spawn(watcher.follow(run, "sse" if number % 3 == 0 else "ws"))
        if storm or 0.35 <= chance < 0.5 or (shape.name == "sleeper" and chance > 0.7):
            await asyncio.sleep(0 if storm else self._rng.uniform(0, 2))
            await asyncio.gather(*(self._cancel(run) for _ in range(self._rng.randint(1, 3))))

    async def _submit(self, key: str, shape: Shape, delay: float = 0.0) -> str | None:
        await asyncio.sleep(delay)
        body = {"workflow": shape.document}
        answer = await self._patiently("POST", "/api/v1/runs", json=body, headers={"Idempotency-Key": key})
        self._history.note("submitted", key=key, **_told(answer))
        return str(answer.json()["id"]) if answer is not None and answer.status_code == 202 else None

    async def _cancel(self, run: str) -> None:
        answer = await self._patiently("POST", f"/api/v1/runs/{run}:cancel")
        self._history.note("cancelled", **(_told(answer) | {"run": run}))

    async def _patiently(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Repeat a request while no control answers, or answers 429 or 503; None when patience is at its end."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            url = self._url()
            try:
                answer = await self._http.request(method, url + path, **options)
            except httpx.TransportError as error:
                self._history.note("no-answer", url=url, path=path, error=type(error).__name__)
            else:
                if answer.status_code not in (429, 503):
                    return answer
                self._history.note(
                    "refused", url=url, path=path, status=answer.status_code, retry=answer.headers.get("Retry-After")
                )
            await asyncio.sleep(self._rng.uniform(0.2, 0.6))
        return None


def _told(answer: httpx.Response | None) -> Json:
    if answer is None:
        return {"status": None}
    body = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
    return {
        "status": answer.status_code,
        "run": body.get("id"),
        "run_status": body.get("status"),
        "type": body.get("type"),
    }
