"""One method for each thing that the API offers, over httpx."""

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from spindle_control.client.events import TERMINAL, Feed, follow
from spindle_control.client.problems import Json, SpindleProblem, Unreachable, problem_of

DEFAULT_URL = "http://127.0.0.1:8420"
LONGEST_WAIT = 10.0
FIRST_PAUSE = 0.2
_TRY_AGAIN = frozenset({429, 503})


class Client:
    """Speaks with one Spindle; `patience` bounds in seconds how long it waits for one that is away or full."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, *, patience: float = 30.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._patience = patience
        self._answered = False
        timeout = httpx.Timeout(60.0, connect=5.0)
        self._http = httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Runs

    async def submit(
        self,
        workflow: Json | str,
        inputs: Json | None = None,
        *,
        priority: int = 0,
        seeds_from: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Accept a run of a document, or of a stored workflow ("poster@3", "poster"); returns its record.

        `seeds_from`: a run that drew the seeds which nobody gave, so that this one draws the same.
        """
        source = "workflow_ref" if isinstance(workflow, str) else "workflow"
        body: Json = {source: workflow, "inputs": inputs or {}}
        if priority:
            body["priority"] = priority
        if seeds_from:
            body["seeds_from"] = seeds_from
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return await self._json("POST", "/api/v1/runs", json=body, headers=headers)

    async def run_and_wait(self, workflow: Json | str, inputs: Json | None = None) -> Json:
        """Submit a run and return its record once it has ended, however it ended."""
        return await self.wait((await self.submit(workflow, inputs))["id"])

    async def wait(self, run: str) -> Json:
        """Return the record of a run once it has ended."""
        while True:
            record = await self._json("GET", _run(run), params={"wait": "20s"})
            if f"run.{record['status']}" in TERMINAL:
                return record

    async def get(self, run: str) -> Json:
        """Record of a run as it is now."""
        return await self._json("GET", _run(run))

    async def runs(self, *, status: str | None = None, after: str | None = None, limit: int = 20) -> Json:
        """Return a page of runs, newest first: {"runs": […], "next": cursor or null}."""
        params = {"status": status, "after": after, "limit": limit}
        return await self._json("GET", "/api/v1/runs", params={k: v for k, v in params.items() if v is not None})

    async def cancel(self, run: str) -> Json:
        """Cancel a run; returns its record."""
        return await self._json("POST", _run(run) + ":cancel")

    async def pause(self, run: str) -> Json:
        """Let what runs end and start nothing else; returns the run's record."""
        return await self._json("POST", _run(run) + ":pause")

    async def resume(self, run: str) -> Json:
        """Go on with a paused run; returns its record."""
        return await self._json("POST", _run(run) + ":resume")

    async def retry(self, run: str, *, idempotency_key: str | None = None) -> Json:
        """Repeat a run that has ended; returns the new run's record. Nodes that it completed are re-used."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return await self._json("POST", _run(run) + ":retry", headers=headers)

    async def fork(self, run: str, *, idempotency_key: str | None = None, **wish: Any) -> Json:
        """Repeat a run that has ended with something changed; returns the new run's record.

        The wish: `nodes` (paths of those to run again), `workflow` or `patch` (RFC 7396), `inputs`, `priority`.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return await self._json("POST", _run(run) + ":fork", json=_wish(wish), headers=headers)

    async def fork_plan(self, run: str, **wish: Any) -> Json:
        """Return the paths that such a fork would re-use, run and skip: {"reuse", "run", "skip"}."""
        return await self._json("POST", _run(run) + ":fork", json=_wish(wish), params={"dry_run": "true"})

    async def nodes(self, run: str, **given: str | int | None) -> Json:
        """Return a page of a run's nodes and instances; `under`, `status`, `after`, `limit`."""
        params = {name: value for name, value in given.items() if value is not None}
        return await self._json("GET", _run(run) + "/nodes", params=params)

    async def why(self, run: str, node: str) -> Json:
        """Why a node is as it is: {"status", "because", "waits_for", "queue", …}."""
        return await self._json("GET", f"{_run(run)}/nodes/{quote(node, safe='')}/why")

    async def answer(self, run: str, node: str, answer: object) -> Json:
        """Answer a node that waits for a person; returns the run's record."""
        return await self._json("POST", f"{_run(run)}/nodes/{quote(node, safe='')}:answer", json={"answer": answer})

    async def dead_letters(self, *, after: str | None = None, limit: int = 50) -> Json:
        """Return a page of tasks that used up their budget: {"dead_letters": […], "next": cursor or null}."""
        params = {"limit": limit} | ({"after": after} if after else {})
        return await self._json("GET", "/api/v1/dead-letters", params=params)

    async def redrive(self, letter: str) -> Json:
        """Repeat the run of a dead letter and forget the letter; returns the new run's record."""
        return await self._json("POST", f"/api/v1/dead-letters/{quote(letter, safe='')}:redrive")

    def events(self, run: str, after: str | None = None) -> AsyncIterator[Json]:
        """Events of a run, from the cursor `after` (default: all) to its end, each durable one once and in order.

        Lossy ones (`node.progress`, `node.preview`) have no `id`. A lost connection is taken up again from the last
        id; an event of type `gap` says that some were lost for good.
        """
        url = self._url.replace("http", "ws", 1) + _run(run) + "/ws"
        return follow(Feed(url, self._headers, self._patience, lambda: self._has_ended(run)), after)

    async def _has_ended(self, run: str) -> bool:
        return f"run.{(await self.get(run))['status']}" in TERMINAL

    async def validate(self, workflow: Json, inputs: Json | None = None) -> Json:
        """Check a workflow, and inputs if given, without running it: {"valid", "warnings", "plan", "mermaid"}."""
        body = workflow if inputs is None else {"workflow": workflow, "inputs": inputs}
        return await self._json("POST", "/api/v1/workflows:validate", json=body)

    async def import_document(self, document: object, dialect: str | None = None, **options: Json) -> Json:
        """Make a workflow of another program's: {"workflow", "notes", "dialect"}; `options`: models, services."""
        body = {"document": document, **options} | ({"dialect": dialect} if dialect else {})
        return await self._json("POST", "/api/v1/workflows:import", json=body)

    # Stored workflows

    async def workflows(self, *, after: str | None = None, limit: int = 50) -> Json:
        """Return a page of stored workflows, newest change first: {"workflows": […], "next": cursor or null}."""
        params = {"limit": limit} | ({"after": after} if after else {})
        return await self._json("GET", "/api/v1/workflows", params=params)

    async def put_workflow(
        self, name: str, workflow: Json, *, if_match: str | None = None, if_new: bool = False
    ) -> Json:
        """Store a document as the next version of a name; returns that version's record.

        `if_match` is the digest that the newest version must have, `if_new` wants that there is none: otherwise the
        problem is `precondition-failed`.
        """
        headers = {"If-Match": f'"{if_match}"'} if if_match else {}
        headers |= {"If-None-Match": "*"} if if_new else {}
        return await self._json("PUT", _workflow(name), json=workflow, headers=headers)

    async def workflow(self, name: str, version: int | None = None) -> Json:
        """Record of a version, by default the newest, with its document under `workflow`."""
        return await self._json("GET", _workflow(name), params=_given(version=version))

    async def workflow_versions(self, name: str, *, after: str | None = None, limit: int = 50) -> Json:
        """Return a page of a workflow's versions, newest first: {"versions": […], "next": cursor or null}."""
        params = {"limit": limit} | ({"after": after} if after else {})
        return await self._json("GET", _workflow(name) + "/versions", params=params)

    async def export_workflow(self, name: str, version: int | None = None) -> Json:
        """Bare document of a version, by default the newest."""
        return await self._json("GET", _workflow(name) + "/document", params=_given(version=version))

    async def diff_workflow(self, name: str, before: int | None = None, after: int | None = None) -> Json:
        """Return what changed between two versions, by default the last change: {"nodes", "patch", "from", "to"}."""
        return await self._json("GET", _workflow(name) + ":diff", params=_given(**{"from": before, "to": after}))

    async def hide_workflow(self, name: str, *, if_match: str | None = None) -> Json:
        """Take a workflow off the lists; its versions stay."""
        headers = {"If-Match": f'"{if_match}"'} if if_match else {}
        return await self._json("DELETE", _workflow(name), headers=headers)

    # Artifacts

    async def upload(self, content: bytes, media_type: str) -> Json:
        """Keep bytes; returns the artifact that names them."""
        return await self._json("POST", "/api/v1/artifacts", content=content, headers={"Content-Type": media_type})

    async def artifact(self, digest: str) -> Json:
        """Return the artifact of a digest: media type and size."""
        return await self._json("GET", f"/api/v1/artifacts/{quote(digest)}")

    async def download(self, artifact: Mapping[str, Any] | str) -> bytes:
        """Bytes of an artifact, or of a digest."""
        digest = artifact if isinstance(artifact, str) else artifact["digest"]
        return (await self._request("GET", f"/api/v1/artifacts/{quote(digest)}/content")).content

    async def whole(self, outputs: Mapping[str, Any]) -> Json:
        """Outputs of a run or a node, those fetched that were too large for its record (`{"$spilled": artifact}`)."""
        return {name: await self._whole(value) for name, value in outputs.items()}

    async def _whole(self, value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() != {"$spilled"}:
            return value
        return json.loads(await self.download(value["$spilled"]))

    # What there is

    async def node_types(self) -> list[Json]:
        """Return the node types that workers have announced."""
        return _listed(await self._any("GET", "/api/v1/node-types"), "node_types")

    async def workers(self) -> list[Json]:
        """Workers that are there now."""
        return _listed(await self._any("GET", "/api/v1/workers"), "workers")

    async def kept(self) -> Json:
        """What the content cache keeps, and how often it helped: entries, bytes, hits, misses, hit_rate."""
        return await self._json("GET", "/api/v1/cache")

    async def purge_cache(self, node_type: str | None = None) -> Json:
        """Forget kept results, of one node type or all; returns how many `entries` went."""
        return await self._json("DELETE", "/api/v1/cache", params={"type": node_type} if node_type else {})

    async def ready(self) -> bool:
        """Whether the control plane takes work; false also where nothing answers."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    # The wire

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        found = await self._any(method, path, **options)
        if not isinstance(found, dict):
            raise SpindleProblem({"title": "The server sent something else than an object", "status": 502})
        return found

    async def _any(self, method: str, path: str, **options: Any) -> Any:
        response = await self._request(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise SpindleProblem({"title": "The server did not send JSON; is it Spindle?", "status": 502}) from None

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        give_up = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                problem: SpindleProblem = Unreachable(self._url, _reason(error))
                wanted, again = pause, self._answered
            else:
                self._answered = True
                if response.is_success:
                    return response
                problem = SpindleProblem(problem_of(response.status_code, response.reason_phrase, response.content))
                wanted, again = _retry_after(response, pause), response.status_code in _TRY_AGAIN
            if not again or time.monotonic() + wanted > give_up:
                raise problem
            await asyncio.sleep(wanted)
            pause = min(pause * 2, 2.0)


def _run(run: str) -> str:
    return f"/api/v1/runs/{quote(run, safe='')}"


def _wish(given: Json) -> Json:
    wish = {"from" if name == "nodes" else name: value for name, value in given.items() if value is not None}
    return {name: value for name, value in wish.items() if name != "from" or value}


def _workflow(name: str) -> str:
    return f"/api/v1/workflows/{quote(name, safe='')}"


def _given(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def _listed(found: Any, key: str) -> list[Json]:
    return list(found[key] if isinstance(found, dict) else found)


def _retry_after(response: httpx.Response, fallback: float) -> float:
    try:
        return min(LONGEST_WAIT, max(0.05, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return fallback


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, ssl.SSLError):
            return str(cause.reason or cause)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
