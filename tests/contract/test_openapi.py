"""The published documents are true: every operation answers as the OpenAPI document says, whatever it is sent.

schemathesis makes requests from the document and tries them on a whole control plane over a real socket: no answer may
be a 5xx but the documented ones, every status, media type and body must be documented, every problem a problem.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from spindle_common.contracts import Event
from spindle_control import asyncapi, openapi
from spindle_control.routes import documented
from support.control import API, serving
from support.redis_server import RedisServer

Json = dict[str, Any]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
OPERATIONS = 38


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[str]:
    """A control plane on a loop of its own, since schemathesis calls it from outside."""
    found: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(tmp_path_factory.mktemp("control"), own_redis.url) as control:
            found.append(control.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def document(url: str) -> Json:
    found: Json = httpx.get(f"{url}/openapi.json").json()
    return found


def operations(document: Json) -> list[tuple[str, str, Json]]:
    return [(path, method, op) for path, item in document["paths"].items() for method, op in item.items()]


def test_every_operation_is_described_with_examples(document: Json) -> None:
    found = operations(document)
    assert len(found) == OPERATIONS
    for path, method, operation in found:
        assert operation["summary"], path
        assert operation["description"], path
        replies = operation["responses"]
        good = [reply for status, reply in replies.items() if status.startswith("2") and "content" in reply]
        json_replies = [
            reply["content"]["application/json"] for reply in good if "application/json" in reply["content"]
        ]
        assert path.endswith("/content") or all("example" in reply for reply in json_replies), (method, path)
        assert path.endswith("/content") or json_replies, (method, path)


def test_examples_fit_their_schemas(document: Json) -> None:
    registry = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"]}
    for path, _, operation in operations(document):
        contents = [reply.get("content", {}) for reply in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for each in (media for content in contents for media in content.values() if "example" in media):
            schema = registry | {"allOf": [each["schema"]]}
            problems = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(each["example"])]
            assert problems == [], path


def test_every_reference_leads_somewhere(document: Json) -> None:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for each in value.values():
                yield from walk(each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(each)

    references = set(walk(document))
    assert len(references) > 20
    for reference in references:
        assert reference.startswith("#/"), "the document stands alone"
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in target, reference
            target = target[part]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_requests_made_from_the_document_are_answered_as_it_says(url: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    all_operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(all_operations) == OPERATIONS
    able = [each for each in all_operations if mode.is_positive or each.body or each.query]

    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for operation in able]))
    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: Any) -> None:
        response = case.call(base_url=url, timeout=20)
        case.validate_response(response, checks=CHECKS)

    attempt()


@pytest.mark.parametrize("path", [f"{API}/runs", f"{API}/workflows:validate", f"{API}/artifacts"])
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=a", ""]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_bytes_make_the_server_fail(url: str, path: str, body: bytes, kind: str) -> None:
    response = httpx.post(url + path, content=body, headers={"Content-Type": kind} if kind else {})
    assert response.status_code < 500
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


def test_the_asyncapi_document_describes_every_event_of_a_run(url: str) -> None:
    document = httpx.get(f"{url}/asyncapi.json").json()
    assert document["asyncapi"].startswith("3.")
    assert document["servers"]["websocket"]["host"] == url.removeprefix("http://")
    kinds = openapi.contract_schemas("#/")["Event"]["properties"]["type"]["enum"]
    without_run = {"model.status", "system.status", "error.notification"}
    assert set(document["components"]["messages"]) == set(kinds) - without_run
    for channel in document["channels"].values():
        assert set(channel["messages"]) == set(document["components"]["messages"])


def test_asyncapi_examples_are_events() -> None:
    document = asyncapi.document("0", "localhost")
    shown = set()
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", []):
            assert Event.model_validate_json(json.dumps(example["payload"])).type == name
            shown.add(name)
    assert {"run.queued", "node.progress", "bye"} <= shown, "one of each kind: durable, lossy, of the stream itself"


def test_the_documented_submission_is_what_the_readme_shows() -> None:
    path = Path(__file__).parents[2] / "examples" / "poster.json"
    assert documented.WORKFLOW["schema"] == json.loads(path.read_text())["schema"]
