"""Answers of people to `flow.approve`: checked against the question's schema, then committed like a node's result.

answer -> question (ledger, or the row of a parked run) -> schema -> [parked: restore] -> script: first one counts
"""

from typing import Any

from spindle_common.problems import Conflict, InvalidRequest, NotFound, TooLarge, Unavailable, mistake
from spindle_common.queue import compact, outcome_text
from spindle_control.compiler import wrong_values
from spindle_control.operations import Operations, RunEnded
from spindle_control.tables import ENDED

Json = dict[str, Any]
_MAX_BYTES = 65_536


class NotWaiting(Conflict):
    """Nobody asks, or the question is answered."""

    code, title = "not-waiting", "The node does not wait for an answer"


async def give_answer(operations: Operations, run: str, tenant: str, path: str, body: Json) -> Json:
    """Answer a node's question; returns the run's record.

    Raises:
        InvalidRequest (it does not fit the schema), NotFound, NotWaiting, RunEnded, TooLarge, Unavailable.

    """
    if body.keys() != {"answer"}:
        raise InvalidRequest(errors=[mistake("/answer", "missing-member", "write the answer under `answer`")])
    row = await operations.parts.store.run(run, tenant)
    if row.status in ENDED:
        raise RunEnded(f"it is {row.status}")
    found = (row.nodes or {}) if row.parked else await operations.parts.queue.nodes(run, [path])
    outcome = found.get(path) or (await operations.parts.queue.nodes(run, [path])).get(path)
    if outcome is None:
        raise NotFound(f"No node {path[:200]!r} of this run asks anything.")
    if "question" not in outcome:
        raise NotWaiting(f"it is {outcome['status']}")
    _check(outcome["question"]["answer"], body["answer"])
    text = outcome_text("completed", outputs={"answer": body["answer"], "answered": True})
    data = compact({"outputs": {"answer": body["answer"], "answered": True}})
    answer = await operations.steady(run, lambda: operations.parts.queue.answer(run, path, text, data))
    if answer in ENDED:
        raise RunEnded(f"it is {answer}")
    if answer == "not-waiting":
        raise NotWaiting("it was answered, or its deadline passed")
    if answer != "ok":
        raise Unavailable(f"the answer could not be kept: {answer}", retry_after=2.0)
    if row.parked and not row.parked.get("asks"):  # a person paused it, so it stays paused
        await operations.parts.queue.pause(run)
    return await operations.record(run, tenant)


def _check(schema: Any, answer: Any) -> None:
    if len(compact(answer).encode()) > _MAX_BYTES:
        raise TooLarge(f"An answer has at most {_MAX_BYTES} bytes.")
    wrong = wrong_values(schema, answer, "/answer")
    if wrong:
        raise InvalidRequest("the answer does not fit what was asked", errors=wrong)
