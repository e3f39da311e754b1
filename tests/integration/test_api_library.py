"""Stored workflows over HTTP: stored under conditions, shown, compared, hidden, brought back, run."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonpatch
import jsonschema
import pytest

from spindle_common.digests import digest
from spindle_control.api_keys import ApiKeys
from support.control import API, Control, serving
from support.documents import noop
from support.library import SHELF, ended, poster, put
from support.redis_server import RedisServer

RUNS = f"{API}/runs"
Json = dict[str, Any]


async def get(control: Control, path: str, status: int = 200, **headers: str) -> Json:
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    response = await control.http.get(f"{SHELF}/{path}", headers=given)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
    found: Json = response.json() if response.content else {}
    return found


async def test_a_workflow_is_stored_shown_and_exported(staffed: Control) -> None:
    document = poster(description="It makes posters.")
    response = await put(staffed, document)
    record = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"{SHELF}/poster?version=1"
    assert response.headers["ETag"] == f'"{digest(document)}"'
    assert (record["name"], record["version"], record["digest"]) == ("poster", 1, digest(document))
    assert record["workflow"] == document
    assert await get(staffed, "poster") == record == await get(staffed, "poster?version=1")
    assert await get(staffed, "poster/document") == document
    again = await put(staffed, document)
    assert (again.status_code, again.json()) == (200, record)
    second = await put(staffed, poster(2))
    assert (second.status_code, second.json()["version"]) == (201, 2)
    assert (await get(staffed, "poster"))["version"] == 2
    assert await get(staffed, "poster/document?version=1") == document
    for path in ("poster?version=3", "poster/document?version=3", "flyer", "flyer/versions", "flyer/document"):
        assert (await get(staffed, path, 404))["type"] == "urn:spindle:problem:not-found"
    for path in ("poster?version=0", "poster?version=x", "poster?version=9999999999", "Poster", "a%00b"):
        await get(staffed, path, 400)


async def test_a_name_is_added_where_it_is_missing_and_must_agree_where_it_is_not(staffed: Control) -> None:
    bare = poster()
    del bare["name"]
    stored = (await put(staffed, bare, "flyer")).json()["workflow"]
    assert stored == poster() | {"name": "flyer"}
    assert list(stored)[:2] == ["schema", "name"]
    wrong = poster() | {"nodes": {"a": {"type": "no.such@1"}, "b": {"type": "test.noop@1", "when": "1 +"}}}
    refused = await put(staffed, wrong, "flyer")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:spindle:problem:invalid-workflow")
    pointers = {(each["pointer"], each["code"]) for each in refused.json()["errors"]}
    assert {("/name", "other-name"), ("/nodes/a/type", "unknown-type"), ("/nodes/b/when", "bad-expression")} <= pointers
    for other in ("poster", 7, None):
        refused = await put(staffed, poster() | {"name": other}, "flyer")
        assert [each["code"] for each in refused.json()["errors"]] == ["other-name"]
    assert (await get(staffed, "flyer"))["version"] == 1


async def test_conditions_guard_against_lost_updates(staffed: Control) -> None:
    assert (await put(staffed, poster(), If_Match="*")).status_code == 412
    first = await put(staffed, poster(), If_None_Match="*")
    assert first.status_code == 201
    stale = await put(staffed, poster(), If_None_Match="*")
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:spindle:problem:precondition-failed")
    etag = first.headers["ETag"]
    racing = await asyncio.gather(*(put(staffed, poster(number), If_Match=etag) for number in range(2, 8)))
    assert sorted(response.status_code for response in racing) == [201] + [412] * 5
    assert (await get(staffed, "poster"))["version"] == 2
    newest = (await staffed.http.get(f"{SHELF}/poster")).headers["ETag"]
    assert (await put(staffed, poster(9), If_Match=etag)).status_code == 412
    assert (await put(staffed, poster(9), If_Match=f"{etag}, {newest}")).status_code == 201
    for wrong in ("sha256:1", "", '"a" "b"'):
        refused = await put(staffed, poster(), If_Match=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "bad-etag")


async def test_who_has_it_is_told_so(staffed: Control) -> None:
    etag = (await put(staffed, poster())).headers["ETag"]
    for path in ("poster", "poster?version=1", "poster/document", "poster/document?version=1"):
        response = await staffed.http.get(f"{SHELF}/{path}", headers={"If-None-Match": f'"x", {etag}'})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", etag)
        assert (await staffed.http.get(f"{SHELF}/{path}", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_hidden_workflow_keeps_its_versions_and_comes_back_with_the_next_number(staffed: Control) -> None:
    etag = (await put(staffed, poster())).headers["ETag"]
    await put(staffed, noop(), "noop")
    refused = await staffed.http.delete(f"{SHELF}/poster", headers={"If-Match": '"sha256:0"'})
    assert refused.status_code == 412
    hidden = await staffed.http.delete(f"{SHELF}/poster", headers={"If-Match": etag})
    assert (hidden.status_code, hidden.json()["hidden"], hidden.json()["version"]) == (200, True, 1)
    assert (await staffed.http.delete(f"{SHELF}/poster")).status_code == 404
    await get(staffed, "poster", 404)
    await get(staffed, "poster:diff", 404)
    assert [each["name"] for each in (await staffed.http.get(SHELF)).json()["workflows"]] == ["noop"]
    assert (await get(staffed, "poster?version=1"))["workflow"] == poster()
    assert [each["version"] for each in (await get(staffed, "poster/versions"))["versions"]] == [1]
    assert (await staffed.http.post(f"{SHELF}/poster:execute", json={})).status_code == 404
    run = await ended(staffed, await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 1}))
    assert (run["status"], run["outputs"]) == ("completed", {"value": 1})
    back = await put(staffed, poster(), If_None_Match="*")
    assert (back.status_code, back.json()["version"]) == (201, 2)


async def test_workflows_and_versions_are_listed_page_by_page(staffed: Control) -> None:
    for number, name in enumerate(("a", "b", "c", "b")):
        await put(staffed, poster(number) | {"name": name, "description": f"{number}"}, name)
        await asyncio.sleep(0.002)
    first = (await staffed.http.get(SHELF, params={"limit": 2})).json()
    rest = (await staffed.http.get(SHELF, params={"limit": 2, "after": first["next"]})).json()
    listed = first["workflows"] + rest["workflows"]
    assert [(each["name"], each["version"], each["description"]) for each in listed] == [
        ("b", 2, "3"),
        ("c", 1, "2"),
        ("a", 1, "0"),
    ]
    assert listed[0]["created_at"] < listed[0]["updated_at"]
    assert rest["next"] is None
    newest = await get(staffed, "b/versions?limit=1")
    oldest = await get(staffed, f"b/versions?limit=1&after={newest['next']}")
    assert [each["version"] for each in newest["versions"] + oldest["versions"]] == [2, 1]
    assert "workflow" not in newest["versions"][0]
    for path in ("?after=x", "/b/versions?after=x", "?limit=0"):
        assert (await staffed.http.get(SHELF + path)).status_code == 400


async def test_versions_are_compared(staffed: Control) -> None:
    one, two = poster(1), poster(2) | {"on_failure": "stop"}
    two["nodes"]["b"] = {"type": "test.noop@1"}
    for document in (one, two, noop() | {"name": "poster"}):
        await put(staffed, document)
    found = await get(staffed, "poster:diff?from=1&to=2")
    assert found["nodes"] == {"added": ["b"], "removed": [], "changed": ["a"]}
    assert (found["from"], found["to"]["version"]) == ({"version": 1, "digest": digest(one)}, 2)
    assert jsonpatch.apply_patch(one, found["patch"]) == two
    last = await get(staffed, "poster:diff")
    assert (last["from"]["version"], last["to"]["version"]) == (2, 3)
    assert (await get(staffed, "poster:diff?from=2&to=1"))["nodes"]["removed"] == ["b"]
    await get(staffed, "poster:diff?from=4", 404)
    await get(staffed, "poster:diff?to=0", 400)


async def test_every_answer_is_as_the_openapi_document_says(staffed: Control) -> None:
    described = (await staffed.http.get("/openapi.json")).json()
    await put(staffed, poster(1))
    requests = [
        ("PUT", "/poster", "/{name}", poster(2, description="two")),
        ("GET", "", "", None),
        ("GET", "/poster", "/{name}", None),
        ("GET", "/poster/versions", "/{name}/versions", None),
        ("GET", "/poster/document", "/{name}/document", None),
        ("GET", "/poster:diff", "/{name}:diff", None),
        ("POST", "/poster:execute", "/{name}:execute", {}),
        ("DELETE", "/poster", "/{name}", None),
        ("GET", "/poster", "/{name}", None),
    ]
    for method, path, template, body in requests:
        response = await staffed.http.request(method, SHELF + path, json=body)
        operation = described["paths"][SHELF + template][method.lower()]
        content = operation["responses"][str(response.status_code)]["content"]
        schema = content[response.headers["Content-Type"]]["schema"]
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": described["components"]}
        problems = list(jsonschema.Draft202012Validator(whole | {"allOf": [schema]}).iter_errors(response.json()))
        assert problems == [], (method, path)


# Bounds and owners ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def small(tmp_path: Path, redis_server: RedisServer, staffed: Control) -> AsyncIterator[Control]:
    """A control beside the other one, which knows the same node types, with narrow bounds."""
    assert staffed.url
    settings = {"max_workflow_versions": 2, "max_document_bytes": 4096}
    async with serving(tmp_path / "small", redis_server.url, **settings) as control:
        yield control


async def test_versions_and_sizes_are_bounded(small: Control) -> None:
    assert [(await put(small, poster(number))).status_code for number in range(2)] == [201, 201]
    full = await put(small, poster(9))
    assert (full.status_code, full.json()["type"]) == (409, "urn:spindle:problem:too-many-versions")
    invalid = await put(small, poster(9) | {"nodes": {"a": {"type": "no.such@1"}}})
    assert invalid.status_code == 422
    assert (await put(small, poster(1))).status_code == 200
    assert (await put(small, poster(description="x" * 4096))).status_code == 413
    response = await small.http.put(f"{SHELF}/poster", content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


async def test_a_tenant_sees_only_its_own(staffed: Control, tmp_path: Path) -> None:
    await put(staffed, poster())
    keys = ApiKeys(staffed.services.settings.keys_file)
    mine, other = ({"Authorization": f"Bearer {keys.create(t, 'k')[1]}"} for t in ("default", "studio"))
    assert (await staffed.http.get(f"{SHELF}/poster", headers=mine)).status_code == 200
    for path in ("poster", "poster?version=1", "poster/versions", "poster/document?version=1", "poster:diff"):
        assert (await staffed.http.get(f"{SHELF}/{path}", headers=other)).status_code == 404
    assert (await staffed.http.get(SHELF, headers=other)).json() == {"workflows": [], "next": None}
    assert (await staffed.http.delete(f"{SHELF}/poster", headers=other)).status_code == 404
    assert (await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 1}, headers=other)).status_code == 404
    response = await staffed.http.post(RUNS, json={"workflow_ref": "poster@1"}, headers=other)
    assert response.status_code == 422
    first = await staffed.http.put(f"{SHELF}/poster", json=poster(5), headers=other | {"If-None-Match": "*"})
    assert (first.status_code, first.json()["version"]) == (201, 1)


async def test_only_what_an_address_takes_is_taken(staffed: Control) -> None:
    for path, allowed in (("poster", "DELETE, GET, PUT"), ("poster:execute", "POST"), ("poster:diff", "GET")):
        response = await staffed.http.patch(f"{SHELF}/{path}", json={})
        assert response.status_code == 405
        assert set(allowed.split(", ")) <= set(response.headers["Allow"].split(", "))
    document = copy.deepcopy(poster())
    assert (await put(staffed, document, "a:b")).status_code == 400
