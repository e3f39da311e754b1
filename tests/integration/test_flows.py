"""Maps, loops, calls and approvals, over HTTP: real controls and a real worker on a Redis of their own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster import workflow
from support.control import API, Control
from support.manned import manned
from support.operating import RUNS, check_history, ended, history, node_is, parked, record, step, submit
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

Json = dict[str, Any]


@pytest.fixture(scope="module")
def own_worker(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path_factory.mktemp("worker"), own_redis.url) as process:
        yield process


@pytest.fixture
async def control(tmp_path: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(tmp_path, own_redis, own_worker) as control:
        yield control


def value(of: Any) -> Json:
    return {"type": "test.noop@1", "inputs": {"value": of}}


def doubling(**more: Any) -> Json:
    body = {
        "inputs": {"item": {"type": "integer"}, "plus": {"type": "integer", "default": 0}},
        "nodes": {"twice": value({"$expr": "inputs.item * 2 + inputs.plus"})},
        "outputs": {"twice": {"$from": "twice.value"}, "at": {"$from": "inputs.index"}},
    }
    return {"type": "flow.map@1", "over": [3, 1, 2], "body": body} | more


async def run(control: Control, nodes: Json, **more: Any) -> Json:
    found = await ended(control, await submit(control.http, workflow(nodes, **more)))
    check_history(await history(control, found["id"]))
    return found


async def completed(control: Control, nodes: Json, **more: Any) -> Json:
    found = await run(control, nodes, **more)
    assert found["status"] == "completed", found["problem"]
    outputs: Json = found["outputs"]
    return outputs


# Maps -----------------------------------------------------------------------------------------------------------------


async def test_a_map_gives_lists_in_the_order_of_its_items(control: Control) -> None:
    nodes = {"all": doubling(), "after": value({"$from": "all.twice"})}
    outputs = await completed(control, nodes, outputs={"all": {"$from": "after.value"}, "at": {"$from": "all.at"}})
    assert outputs == {"all": [6, 2, 4], "at": [0, 1, 2]}


async def test_a_map_is_given_what_its_body_needs(control: Control) -> None:
    nodes = {"ten": value(10), "all": doubling(**{"with": {"plus": {"$from": "ten.value"}}})}
    assert await completed(control, nodes, outputs={"all": {"$from": "all.twice"}}) == {"all": [16, 12, 14]}


async def test_a_map_over_nothing_gives_empty_lists(control: Control) -> None:
    nodes = {"none": value([]), "all": doubling(over={"$from": "none.value"})}
    assert await completed(control, nodes, outputs={"all": {"$from": "all.twice"}}) == {"all": []}


@pytest.mark.parametrize(("rule", "kept"), [("skip", [1, 3]), ("null", [1, None, 3])])
async def test_an_item_that_fails_is_left_out_or_null(control: Control, rule: str, kept: list[Any]) -> None:
    body = {
        "inputs": {"item": {"type": "integer"}},
        "nodes": {
            "bad": {"type": "test.fail@1", "when": "inputs.item == 2"},
            "good": {"type": "test.noop@1", "inputs": {"value": {"$from": "inputs.item"}}},
        },
        "outputs": {"v": {"$from": "good.value"}},
    }
    nodes = {"all": {"type": "flow.map@1", "over": [1, 2, 3], "on_item_error": rule, "body": body}}
    assert await completed(control, nodes, outputs={"v": {"$from": "all.v"}}) == {"v": kept}


async def test_a_failing_item_fails_its_map_by_the_path_of_what_failed(control: Control) -> None:
    body = {"nodes": {"bad": {"type": "test.fail@1", "when": "inputs.item == 2"}}}
    found = await run(control, {"all": {"type": "flow.map@1", "over": [1, 2, 3], "concurrency": 1, "body": body}})
    assert found["status"] == "failed"
    assert found["problem"]["instance"] == "/nodes/all[1].bad"
    paths = {event.get("node") for event in await history(control, found["id"])}
    assert "all[2].bad" not in paths, "after a failure no item is begun"


async def test_what_is_no_list_is_refused_when_it_is_known(control: Control) -> None:
    found = await run(control, {"n": value(7), "all": doubling(over={"$from": "n.value"})})
    assert found["status"] == "failed"
    assert "must give a list" in found["problem"]["detail"]


async def test_an_item_that_does_not_fit_its_input_fails(control: Control) -> None:
    found = await run(control, {"n": value([1, "x"]), "all": doubling(over={"$from": "n.value"})})
    assert found["status"] == "failed"
    assert "the input `item`" in found["problem"]["detail"]
    assert found["problem"]["instance"] == "/nodes/all[1]", "of ten thousand items it is this one"


async def test_an_iteration_whose_end_cannot_be_told_fails_by_its_path(control: Control) -> None:
    found = await run(control, {"count": counting(until="next.value + 1")})
    assert found["status"] == "failed"
    assert "`until` must give true or false" in found["problem"]["detail"]
    assert found["problem"]["instance"] == "/nodes/count[0]"


async def test_maps_in_maps_and_large_values(control: Control) -> None:
    inner = {
        "type": "flow.map@1",
        "over": {"$from": "inputs.item"},
        "with": {"long": {"$from": "inputs.long"}},
        "body": {
            "inputs": {"item": {"type": "integer"}, "long": {"type": "string"}},
            "nodes": {"size": value({"$expr": "size(inputs.long) + inputs.item"})},
            "outputs": {"size": {"$from": "size.value"}},
        },
    }
    outer = {
        "type": "flow.map@1",
        "over": [[1, 2], [3]],
        "with": {"long": {"$from": "long.value"}},
        "body": {
            "inputs": {"item": {"type": "array"}, "long": {"type": "string"}},
            "nodes": {"inner": inner},
            "outputs": {"sizes": {"$from": "inner.size"}},
        },
    }
    nodes = {"long": {"type": "value.const@1", "inputs": {"value": {"$from": "inputs.text"}}}, "outer": outer}
    document = workflow(nodes, outputs={"sizes": {"$from": "outer.sizes"}}, inputs={"text": {"type": "string"}})
    submitted = await submit(control.http, document, inputs={"text": "x" * 60_000})
    found = await ended(control, submitted)
    assert found["outputs"] == {"sizes": [[60_001, 60_002], [60_003]]}, found.get("problem")


async def test_instances_are_paged_under_their_node(control: Control) -> None:
    found = await run(control, {"all": doubling()})
    page = (await control.http.get(f"{RUNS}/{found['id']}/nodes", params={"under": "all"})).json()
    assert {node["path"] for node in page["nodes"]} == {
        "all",
        *(f"all[{at}]" for at in range(3)),
        *(f"all[{at}].twice" for at in range(3)),
    }
    assert {node["type"] for node in page["nodes"]} == {"flow.map@1", "test.noop@1"}


@pytest.mark.parametrize("over", [False, True], ids=["live", "archived"])
async def test_pages_of_instances_are_in_the_order_of_their_items(control: Control, *, over: bool) -> None:
    nodes = {"all": doubling(over=list(range(12))), "slow": {"type": "test.sleep@1", "inputs": {"seconds": 100}}}
    submitted = await submit(control.http, workflow(nodes))
    await node_is(control, submitted, "all", "completed")
    if over:
        await control.http.post(f"{RUNS}/{submitted}:cancel")
        await ended(control, submitted)
    paths: list[str] = []
    params: Json = {"limit": 5}
    while params.get("after", "") is not None:
        page = (await control.http.get(f"{RUNS}/{submitted}/nodes", params=params)).json()
        paths += [node["path"] for node in page["nodes"]]
        params["after"] = page["next"]
    assert paths == ["all", *(f"all[{at}]{end}" for at in range(12) for end in ("", ".twice")), "slow"]
    kept = {"status": "cancelled" if over else "running"}
    found = (await control.http.get(f"{RUNS}/{submitted}/nodes", params=kept)).json()
    assert [node["path"] for node in found["nodes"]] == ["slow"]
    refused = await control.http.get(f"{RUNS}/{submitted}/nodes", params={"status": "done"})
    assert refused.status_code == 400
    await control.http.post(f"{RUNS}/{submitted}:cancel")


# Loops ----------------------------------------------------------------------------------------------------------------


def counting(**more: Any) -> Json:
    body = {
        "inputs": {"n": {"type": "integer"}},
        "nodes": {"next": value({"$expr": "inputs.n + 1"})},
        "outputs": {"n": {"$from": "next.value"}, "at": {"$from": "inputs.index"}},
    }
    return {"type": "flow.loop@1", "carry": {"n": 0}, "max_iterations": 5, "body": body} | more


async def test_a_loop_ends_when_its_expression_holds(control: Control) -> None:
    outputs = {name: {"$from": f"count.{name}"} for name in ("n", "at", "iterations", "reached")}
    nodes = {"count": counting(until="next.value >= 3")}
    assert await completed(control, nodes, outputs=outputs) == {"n": 3, "at": 2, "iterations": 3, "reached": True}


async def test_a_loop_that_runs_out_has_not_failed(control: Control) -> None:
    outputs = {name: {"$from": f"count.{name}"} for name in ("n", "iterations", "reached")}
    nodes = {"count": counting(until="next.value >= 30")}
    assert await completed(control, nodes, outputs=outputs) == {"n": 5, "iterations": 5, "reached": False}


# Calls ----------------------------------------------------------------------------------------------------------------


async def test_a_call_runs_a_stored_workflow(control: Control) -> None:
    stored = workflow(
        {"twice": value({"$expr": "inputs.n * 2"})},
        inputs={"n": {"type": "integer", "default": 21}},
        outputs={"n": {"$from": "twice.value"}},
    )
    answer = await control.http.put(f"{API}/workflows/twice", json={**stored, "name": "twice"})
    assert answer.status_code == 201, answer.text
    nodes = {
        "five": {"type": "flow.call@1", "workflow_ref": "twice@1", "inputs": {"n": 5}},
        "usual": {"type": "flow.call@1", "workflow_ref": "twice@1"},
    }
    outputs = await completed(control, nodes, outputs={"a": {"$from": "five.n"}, "b": {"$from": "usual.n"}})
    assert outputs == {"a": 10, "b": 42}


# Approvals ------------------------------------------------------------------------------------------------------------

ASK: Json = {
    "type": "flow.approve@1",
    "show": {"what": {"$from": "made.value"}},
    "answer": {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]},
}


def asking(**more: Any) -> Json:
    nodes = {
        "made": value("a picture"),
        "ok": ASK | more,
        "then": value("big") | {"when": "ok.answer.yes"},
    }
    return workflow(nodes, outputs={"then": {"$from": "then.value"}, "answered": {"$from": "ok.answered"}})


async def answered(control: Control, run: str, answer: Any, node: str = "ok") -> Any:
    return await control.http.post(f"{RUNS}/{run}/nodes/{node}:answer", json={"answer": answer})


async def waits(control: Control, run: str) -> Json:
    async with asyncio.timeout(120):
        while (found := (await record(control, run))["nodes"]["ok"])["status"] != "waiting":
            await asyncio.sleep(0.02)
    node: Json = found
    return node


async def test_an_answer_goes_on_at_once(control: Control) -> None:
    submitted = await submit(control.http, asking())
    node = await waits(control, submitted)
    assert node["question"] == {"show": {"what": "a picture"}, "answer": ASK["answer"]}
    assert (await answered(control, submitted, {"yes": True})).status_code == 200
    assert (await ended(control, submitted))["outputs"] == {"then": "big", "answered": True}
    check_history(await history(control, submitted))
    again = await answered(control, submitted, {"yes": False})
    assert (again.status_code, again.json()["type"]) == (409, "urn:spindle:problem:run-ended")


async def test_an_answer_that_does_not_fit_changes_nothing(control: Control) -> None:
    submitted = await submit(control.http, asking())
    await waits(control, submitted)
    wrong = await answered(control, submitted, {"yes": "perhaps"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/answer/yes")
    assert (await answered(control, submitted, {"yes": True}, "made")).status_code == 409
    assert (await answered(control, submitted, {"yes": True}, "nothing")).status_code == 404
    assert (await answered(control, submitted, {"yes": False})).status_code == 200
    assert (await ended(control, submitted))["nodes"]["then"]["status"] == "skipped"


async def test_a_run_that_only_waits_is_parked_and_survives_an_emptied_redis(control: Control) -> None:
    submitted = await submit(control.http, asking())
    await parked(control, submitted)
    assert (await waits(control, submitted))["question"]["show"] == {"what": "a picture"}
    await control.services.driver._parts.queue.client.flushall()
    assert (await answered(control, submitted, {"yes": True})).status_code == 200
    found = await ended(control, submitted)
    assert (found["status"], found["outputs"]) == ("completed", {"then": "big", "answered": True})
    events = await history(control, submitted)
    check_history(events)
    assert [event["node"] for event in events if event["type"] == "node.waiting"] == ["ok"]


@pytest.mark.parametrize("deadline", ["100ms", "2s"])
async def test_the_default_is_taken_at_the_deadline(control: Control, deadline: str) -> None:
    submitted = await submit(control.http, asking(deadline=deadline, default={"yes": True}))
    found = await ended(control, submitted)
    assert (found["status"], found["outputs"]) == ("completed", {"then": "big", "answered": False}), found
    events = await history(control, submitted)
    check_history(events)
    (end,) = [event for event in events if event["type"] == "node.completed" and event["node"] == "ok"]
    assert end["data"]["outputs"] == {"answer": {"yes": True}, "answered": False}, "as every node's end tells"


async def test_without_a_default_the_deadline_fails_the_node(control: Control) -> None:
    found = await ended(control, await submit(control.http, asking(deadline="100ms")))
    assert (found["status"], found["problem"]["type"]) == ("failed", "urn:spindle:problem:timed-out")


async def test_a_run_that_a_person_paused_stays_paused_when_it_is_answered(control: Control) -> None:
    document = asking()
    document["nodes"]["slow"] = {"type": "test.sleep@1", "inputs": {"seconds": 0.5}}
    submitted = await submit(control.http, document)
    await waits(control, submitted)
    await step(control, submitted, "pause")
    await parked(control, submitted)
    assert (await answered(control, submitted, {"yes": True})).status_code == 200
    await parked(control, submitted)
    await step(control, submitted, "resume")
    assert (await ended(control, submitted))["outputs"]["then"] == "big"


async def test_an_answer_takes_effect_while_slow_siblings_run(control: Control) -> None:
    document = asking()
    document["nodes"]["slow"] = {"type": "test.sleep@1", "inputs": {"seconds": 100}}
    submitted = await submit(control.http, document)
    await waits(control, submitted)
    await answered(control, submitted, {"yes": True})
    await node_is(control, submitted, "then", "completed")
    assert (await record(control, submitted))["nodes"]["slow"]["status"] == "running"
    await control.http.post(f"{RUNS}/{submitted}:cancel")


async def test_cancelling_a_parked_question_ends_it(control: Control) -> None:
    submitted = await submit(control.http, asking())
    await parked(control, submitted)
    assert (await control.http.post(f"{RUNS}/{submitted}:cancel")).json()["status"] == "cancelled"


async def test_a_question_in_a_map_is_asked_by_its_path(control: Control) -> None:
    body = {
        "inputs": {"item": {"type": "string"}},
        "nodes": {
            "ok": {"type": "flow.approve@1", "show": {"it": {"$from": "inputs.item"}}, "answer": {"type": "string"}}
        },
        "outputs": {"said": {"$from": "ok.answer"}},
    }
    document = workflow(
        {"all": {"type": "flow.map@1", "over": ["a", "b"], "body": body}}, outputs={"said": {"$from": "all.said"}}
    )
    submitted = await submit(control.http, document)
    await parked(control, submitted)
    for at, said in ((1, "B"), (0, "A")):
        async with asyncio.timeout(120):
            while (reply := await answered(control, submitted, said, f"all[{at}].ok")).status_code != 200:
                assert reply.status_code == 404, reply.text
                await asyncio.sleep(0.05)
    assert (await ended(control, submitted))["outputs"] == {"said": ["A", "B"]}
