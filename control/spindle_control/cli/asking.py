"""`spindle answer` and `spindle why`: what a run asks people, and what people ask about its nodes."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spindle_control.cli.inputs import read_inputs
from spindle_control.cli.panels import table
from spindle_control.cli.session import Refusal, Session
from spindle_control.client import Client

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person answers: JSON text, yes or no, or the members of an object."""

    text: str | None
    yes: bool | None
    inputs: Sequence[str]


async def answer(session: Session, run_id: str, node: str, reply: Reply) -> None:
    """Answer a node that waits for a person; the run goes on."""
    given = [reply.text is not None, reply.yes is not None, bool(reply.inputs)]
    if sum(given) > 1:
        raise Refusal("That is more than one answer.", "Give JSON, or --yes, or --no, or -i name=value.")
    async with session.client() as client:
        schema = await _asked(client, run_id, node)
        if not any(given):
            raise Refusal(
                f"{node} asks for an answer that fits {json.dumps(schema, ensure_ascii=False)}.",
                f"Give it: {command(run_id, node, schema)}",
            )
        record = await client.answer(run_id, node, await _read(client, reply, schema))
    if session.json:
        session.print_json(record)
    else:
        session.err.print(f"✓ {node} is answered; the run goes on", style="green", markup=False)


async def why(session: Session, run_id: str, node: str) -> None:
    """Say why a node is as it is."""
    async with session.client() as client:
        found = await client.why(run_id, node)
    if session.json:
        session.print_json(found)
        return
    session.out.print(f"{found['path']} is {found['status']}: {found['because']}", markup=False, soft_wrap=True)
    if found["waits_for"]:
        session.out.print(table(("waits for", "status"), ((w["node"], w["status"]) for w in found["waits_for"])))
    if found.get("history"):
        rows = ((str(h["attempt"]), h["cause"], h.get("worker", ""), h["time"]) for h in found["history"])
        session.out.print(table(("attempt", "ended by", "worker", "at"), rows))
    if "question" in found:
        schema = found["question"]["answer"]
        session.err.print(f"Answer it: {command(run_id, node, schema)}", style="dim", markup=False, soft_wrap=True)


def command(run_id: str, node: str, schema: Any) -> str:
    """Return the command that answers, to be pasted."""
    said = "--yes (or --no)" if _switch(schema) is not None else "'" + json.dumps(_example(schema)) + "'"
    return f"spindle answer {run_id} {shlex.quote(node)} {said}"


async def _asked(client: Client, run_id: str, node: str) -> Any:
    """Return the schema of the answer that a node waits for."""
    found = (await client.why(run_id, node)).get("question")
    if found is None:
        raise Refusal(f"{node} asks nothing.", f"`spindle why {run_id} {shlex.quote(node)}` says how it stands.")
    return found["answer"]


async def _read(client: Client, reply: Reply, schema: Any) -> Any:
    if reply.inputs:
        properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
        return await read_inputs(reply.inputs, properties, client)
    if reply.yes is not None:
        switch = _switch(schema)
        if switch is None:
            raise Refusal("The question is not one of yes or no.", "Give JSON, or -i name=value.")
        return {switch: reply.yes} if switch else reply.yes
    try:
        return json.loads(reply.text or "")
    except ValueError:
        if isinstance(schema, dict) and schema.get("type") == "string":
            return reply.text
        raise Refusal(f"{reply.text!r} is not JSON.", "A text is written '\"like this\"'.") from None


def _switch(schema: Any) -> str | None:
    """Return the member that yes or no goes into, "" where they are the whole answer; None: there is no such."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "boolean":
        return ""
    properties = schema.get("properties", {})
    switches = [name for name, one in properties.items() if isinstance(one, dict) and one.get("type") == "boolean"]
    needed = {*schema.get("required", ())} - {*switches}
    return switches[0] if len(switches) == 1 and not needed else None


def _example(schema: Any) -> Any:
    """Something of the right kind."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "object":
        return {name: _example(one) for name, one in schema.get("properties", {}).items()}
    if isinstance(schema, dict) and schema.get("enum"):
        return schema["enum"][0]
    return {"string": "…", "integer": 0, "number": 0, "boolean": True, "array": []}.get(str(kind))
