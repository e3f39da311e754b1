"""`spindle run` and `spindle watch`: submit, follow, save.

Ctrl-C stops the watching, never the run: it goes on, and the message says how to come back to it or cancel it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from spindle_control.cli import document
from spindle_control.cli.inputs import read_inputs
from spindle_control.cli.outputs import Target, read_targets, save
from spindle_control.cli.panels import outputs_table, problems_of, seconds, status_text
from spindle_control.cli.progress import view_of
from spindle_control.cli.session import Refusal, Session, Status
from spindle_control.cli.views import accepted
from spindle_control.cli.workflows import stored
from spindle_control.client import Client

_STATUS = {"completed": Status.OK, "failed": Status.FAILED, "cancelled": Status.CANCELLED}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked `run` for."""

    file: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    wait: bool


async def run(session: Session, wish: Wish) -> int:
    """Submit a workflow; unless told otherwise follow it to its end and save its outputs."""
    if wish.outputs and not wish.wait:
        raise Refusal("--no-wait leaves nothing to save yet.", "Drop -o, or --no-wait.")
    async with session.client() as client:
        found = await stored(client, wish.file)
        submission = document.Submission(found[0]) if found else document.read(wish.file)
        targets = read_targets(wish.outputs, submission.workflow)
        given = await read_inputs(wish.inputs, submission.input_specs, client)
        workflow = found[1] if found else submission.workflow
        record = await client.submit(workflow, submission.inputs | given, seeds_from=submission.seeds_from)
        if not wish.wait:
            accepted(session, record)
            return Status.OK
        return await _follow(session, client, record, targets)


async def watch(session: Session, run_id: str) -> int:
    """Follow a run to its end, however long it is paused; with --json every event is a line."""
    async with session.client() as client:
        record = await client.get(run_id)
        if session.json:
            async for event in client.events(run_id):
                session.print_json(event)
            return _STATUS[(await client.get(run_id))["status"]]
        return await _follow(session, client, record, [])


async def _follow(session: Session, client: Client, record: dict[str, Any], targets: Sequence[Target]) -> int:
    run_id = record["id"]
    try:
        with view_of(session.err, quiet=session.json) as view:
            async for event in client.events(run_id):
                view.show(event)
        record = await client.wait(run_id)
    except BaseException:
        # Ctrl-C arrives as a cancellation of this task; the server going away as a problem.
        _say_how_to_come_back(session, run_id)
        raise
    saved = await save(targets, record.get("outputs", {}), client) if record["status"] == "completed" else []
    _show_end(session, record)
    for path in saved:
        if not session.json:
            session.err.print(f"saved {shlex.quote(str(path))}", markup=False)
    return _STATUS[record["status"]]


def _say_how_to_come_back(session: Session, run_id: str) -> None:
    session.err.print(
        f"The run goes on without us.\n  spindle watch {run_id}    follow it\n  spindle cancel {run_id}   end it",
        markup=False,
    )


def _show_end(session: Session, record: dict[str, Any]) -> None:
    if session.json:
        session.print_json(record)
        return
    name = record["workflow"]["name"]
    line = Text.assemble(status_text(record["status"]), f" {name} {seconds(record)}", (f"  run {record['id']}", "dim"))
    session.err.print(line)
    if record.get("outputs"):
        session.out.print(outputs_table(record["outputs"]))
    for panel in problems_of(record):
        session.err.print(panel)
