"""Control flow: what maps, loops, calls and approvals do with frames and people. Each returns its node's outcome.

    map       items through a window, each in a frame of its own -> every output a list, in the items' order
    loop      one frame after another, outputs carried on, until the expression holds or the bound is reached
    call      one frame: the stored workflow
    approve   the question stands in the ledger; an answer is a commit, like a worker's

An instance that ended is in the ledger itself (`vars[3]`), so that nothing inside it is looked at again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput, TimedOut
from spindle_common.stopping import stop
from spindle_common.values import Outcome
from spindle_control.binding import bind, others
from spindle_control.compiler import PlanFlow
from spindle_control.frames import Frame

if TYPE_CHECKING:
    from spindle_control.walking import Walking

Values = Mapping[str, Any]
Run = Callable[["Walking", Frame, PlanFlow, dict[str, Any]], Awaitable[Outcome]]


async def run_map(walking: "Walking", frame: Frame, flow: PlanFlow, values: dict[str, Any]) -> Outcome:
    """Run the body once for each item, so many at a time."""
    items = values["over"]
    if not isinstance(items, list):
        raise BadInput(f"`over` must give a list; it gave {type(items).__name__}")
    if len(items) > walking.settings.max_items:
        raise BadInput(f"`over` gave {len(items)} items; {walking.settings.max_items} are allowed")
    given = await walking.kept(bind(flow, values.get("with", {}), others(flow, "item", "index")))
    ends: list[Outcome | None] = [None] * len(items)
    waiting = iter(range(len(items)))
    stops = flow.settings["on_item_error"] == "fail"

    async def window() -> None:
        for index in waiting:
            end = ends[index] = await _item(walking, frame, flow, index, given, items[index])
            if stops and end["status"] == "failed":
                for _ in waiting:
                    pass

    await _together(window() for _ in range(min(flow.settings["concurrency"], len(items))))
    return await _collected(walking, frame, flow, [end for end in ends if end is not None])


async def _item(walking: "Walking", frame: Frame, flow: PlanFlow, index: int, given: Values, item: Any) -> Outcome:
    name = f"{flow.id}[{index}]"
    if name in frame.board.outcomes:
        return frame.board.outcomes[name]
    try:
        own = await walking.kept(bind(flow, {"item": item, "index": index}, ("item", "index")))
        end = await walking.inside(frame, flow, name, {**given, **own})
    except BadInput as error:
        end = _failed(frame, name, error)
    await walking.settle(frame, {name: end})
    return end


async def _collected(walking: "Walking", frame: Frame, flow: PlanFlow, ends: list[Outcome]) -> Outcome:
    rule = flow.settings["on_item_error"]
    failed = next((end for end in ends if end["status"] == "failed"), None)
    if failed is not None and rule == "fail":
        return {"status": "failed", "problem": failed["problem"]}
    kept = [end for end in ends if rule == "null" or end["status"] == "completed"]
    found: dict[str, list[Any]] = {name: [] for name in (flow.body.outputs if flow.body else ())}
    for end in kept:
        outputs = await walking.patiently(partial(walking.spill.whole, end.get("outputs", {})))
        for name, values in found.items():
            values.append(outputs.get(name))
    for index in range(len(ends)):
        frame.board.outcomes.pop(f"{flow.id}[{index}]", None)
    return {"status": "completed", "outputs": await walking.kept(found)}


async def run_loop(walking: "Walking", frame: Frame, flow: PlanFlow, values: dict[str, Any]) -> Outcome:
    """Run the body again and again; what it gives under the names of `carry` goes into the next iteration."""
    carry = dict(values.get("carry", {}))
    given = await walking.kept(bind(flow, values.get("with", {}), others(flow, "index", *carry)))
    outputs: dict[str, Any] = {}
    for index in range(flow.settings["max_iterations"]):
        own = await walking.kept(bind(flow, {**carry, "index": index}, ("index", *carry)))
        end = await _iteration(walking, frame, flow, index, {**given, **own})
        if end["status"] == "failed":
            return end
        outputs = await walking.patiently(partial(walking.spill.whole, end["outputs"]))
        if outputs.pop("reached", False):
            return await _looped(walking, outputs, index + 1, reached=True)
        carry |= {name: outputs[name] for name in carry if name in outputs}
    return await _looped(walking, outputs, flow.settings["max_iterations"], reached=False)


async def _iteration(walking: "Walking", frame: Frame, flow: PlanFlow, index: int, inputs: Values) -> Outcome:
    name = f"{flow.id}[{index}]"
    if name in frame.board.outcomes:
        return frame.board.outcomes[name]
    try:
        end = await walking.inside(frame, flow, name, inputs, flow.settings.get("until"))
    except BadInput as error:
        end = _failed(frame, name, error)
    await walking.settle(frame, {name: end})
    return end


def _failed(frame: Frame, name: str, error: BadInput) -> Outcome:
    """How an instance ends that was given, or gave, what cannot be: the problem says which one it was."""
    return {"status": "failed", "problem": {**error.problem(), "instance": f"/nodes/{frame.path(name)}"}}


async def _looped(walking: "Walking", outputs: Values, iterations: int, *, reached: bool) -> Outcome:
    kept = await walking.kept(outputs)
    return {"status": "completed", "outputs": {**kept, "iterations": iterations, "reached": reached}}


async def run_call(walking: "Walking", frame: Frame, flow: PlanFlow, values: dict[str, Any]) -> Outcome:
    """Run the workflow that is called."""
    return await walking.inside(frame, flow, flow.id, await walking.kept(bind(flow, values.get("inputs", {}))))


async def run_approve(walking: "Walking", frame: Frame, flow: PlanFlow, values: dict[str, Any]) -> Outcome:
    """Ask, and wait for the answer or the deadline; whichever the ledger gets first counts."""
    path, run = frame.path(flow.id), walking.identity.run
    known = (await walking.patiently(partial(walking.queue.nodes, run, [path]))).get(path, {})
    question = known.get("question") or await _ask(walking, flow, path, values.get("show", {}))
    deadline = question.get("deadline_at")
    walking.doings.asked.add(path)
    try:
        while flow.id not in frame.board.outcomes:
            left = None if deadline is None else (deadline - await walking.patiently(walking.queue.time)) / 1000
            if left is not None and left <= 0:
                await walking.say(path, _unanswered(flow))
                frame.board.put({flow.id: (await walking.patiently(partial(walking.queue.nodes, run, [path])))[path]})
                break
            await _waited(frame, flow.id, left)
        return frame.board.outcomes[flow.id]
    finally:
        walking.doings.asked.discard(path)


async def _ask(walking: "Walking", flow: PlanFlow, path: str, show: Values) -> dict[str, Any]:
    question: dict[str, Any] = {"show": await walking.kept(show), "answer": flow.settings["answer"]}
    if "deadline" in flow.settings:
        now = await walking.patiently(walking.queue.time)
        question["deadline_at"] = now + int(flow.settings["deadline"] * 1000)
    await walking.say(path, {"status": "waiting", "for": "answer", "question": question}, question)
    return question


async def _waited(frame: Frame, id_: str, seconds: float | None) -> None:
    waiting = asyncio.ensure_future(frame.board.wait([id_]))
    try:
        await asyncio.wait({waiting}, timeout=seconds)
    finally:
        await stop([waiting])


def _unanswered(flow: PlanFlow) -> Outcome:
    if "default" in flow.settings:
        return {"status": "completed", "outputs": {"answer": flow.settings["default"], "answered": False}}
    problem = TimedOut("nobody answered before the deadline").problem()
    if flow.node.get("on_error") == "skip":
        return {"status": "skipped", "reason": "error", "problem": problem}
    return {"status": "failed", "problem": problem}


async def _together(coroutines: Iterable[Awaitable[None]]) -> None:
    """Await all; the first exception stops the rest and is raised."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await stop(tasks)


FLOWS: Mapping[str, Run] = {
    "flow.map@1": run_map,
    "flow.loop@1": run_loop,
    "flow.call@1": run_call,
    "flow.approve@1": run_approve,
}
