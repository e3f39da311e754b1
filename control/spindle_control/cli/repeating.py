"""`spindle fork`: what is to be different from a run that has ended, read from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spindle_control.cli import document
from spindle_control.cli.inputs import read_inputs
from spindle_control.cli.session import Session
from spindle_control.cli.views import accepted
from spindle_control.client import Client

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What a person wants different: nodes that run again, a patch or a whole document in a file, inputs."""

    nodes: Sequence[str]
    patch: str | None
    workflow: str | None
    inputs: Sequence[str]
    dry_run: bool


async def fork(session: Session, run_id: str, change: Change) -> None:
    """Fork a run, or only tell what would be re-used and what would run."""
    patch = document.read_json(change.patch) if change.patch else None
    workflow = document.read(change.workflow).workflow if change.workflow else None
    async with session.client() as client:
        inputs = await _inputs(client, run_id, change.inputs) if change.inputs else None
        wish: Json = {"nodes": list(change.nodes), "patch": patch, "workflow": workflow, "inputs": inputs}
        if not change.dry_run:
            accepted(session, await client.fork(run_id, **wish))
            return
        plan = await client.fork_plan(run_id, **wish)
    if session.json:
        session.print_json(plan)
        return
    for words, paths in (("re-used", plan["reuse"]), ("run", plan["run"]), ("skipped", plan["skip"])):
        session.out.print(f"{words:8} {', '.join(paths) or '-'}", markup=False, soft_wrap=True)


async def _inputs(client: Client, run_id: str, given: Sequence[str]) -> Json:
    """Read inputs in the likeness of those that the run had: its document may be nowhere else."""
    had = (await client.get(run_id)).get("inputs", {})
    specs = {pair.partition("=")[0]: _like(had.get(pair.partition("=")[0])) for pair in given}
    return await read_inputs(given, specs, client)


def _like(value: Any) -> Json:
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, list) and value and "artifact" in _like(value[0]):
        return {"type": "array", "items": _like(value[0])}
    return {"artifact": "*/*"} if isinstance(value, dict) and "digest" in value else {}
