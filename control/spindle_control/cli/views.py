"""The commands that look and change, one request each: runs, show, cancel, pause, retry, validate, nodes, …"""

from typing import Any, Literal

from spindle_control.cli import document
from spindle_control.cli.panels import mistakes, run_view, seconds, status_text, table, when
from spindle_control.cli.session import Refusal, Session, Status

Json = dict[str, Any]


async def validate(session: Session, file: str) -> int:
    """Check a workflow; exit status 2 with every mistake if it is not valid."""
    submission = document.read(file)
    async with session.client() as client:
        found = await client.validate(submission.workflow)
    if session.json:
        session.print_json(found)
    else:
        if found.get("warnings"):
            session.err.print(mistakes(found["warnings"]))
        if found.get("errors"):
            session.err.print(mistakes(found["errors"]))
        else:
            size = _size(found["plan"]["level"])
            session.out.print(f"✓ {submission.name} is valid: {size}", style="green", markup=False)
    return Status.OK if found.get("valid", True) else Status.INVALID


def _size(level: Json) -> str:
    """Say how many nodes there are in how many tasks, bodies included; what is called counts as its own nodes."""
    nodes = tasks = 0
    levels = [level]
    while levels:
        one = levels.pop()
        nodes += len({node for task in one["tasks"] for node in task["nodes"]}) + len(one["flows"])
        tasks += len(one["tasks"])
        levels += [flow["body"] for flow in one["flows"] if flow.get("body")]
    return f"{nodes} {'node' if nodes == 1 else 'nodes'} in {tasks} {'task' if tasks == 1 else 'tasks'}"


async def runs(session: Session, status: str | None, limit: int) -> None:
    """List runs, newest first."""
    async with session.client() as client:
        page = await client.runs(status=status, limit=limit)
    if session.json:
        session.print_json(page)
        return
    rows = (
        (run["id"], run["workflow"]["name"], status_text(run["status"]), when(run["created_at"]), seconds(run))
        for run in page["runs"]
    )
    session.out.print(table(("run", "workflow", "status", "submitted", "took"), rows))


async def show(session: Session, run_id: str) -> None:
    """Show a run."""
    async with session.client() as client:
        record = await client.get(run_id)
    if session.json:
        session.print_json(record)
    else:
        session.out.print(run_view(record))


async def change(session: Session, step: Literal["cancel", "pause", "resume"], run_id: str) -> None:
    """Cancel, pause or resume a run; cancelling one that has ended leaves it as it ended."""
    async with session.client() as client:
        steps = {"cancel": client.cancel, "pause": client.pause, "resume": client.resume}
        record = await steps[step](run_id)
    if session.json:
        session.print_json(record)
    else:
        session.out.print(status_text(record["status"]))


async def repeat(session: Session, step: Literal["retry", "redrive"], name: str) -> None:
    """Repeat a run, or the run of a dead letter; prints the new run's id."""
    async with session.client() as client:
        record = await (client.retry(name) if step == "retry" else client.redrive(name))
    accepted(session, record)


def accepted(session: Session, record: Json) -> None:
    """Print the id of a run that was accepted, and how to follow it."""
    if session.json:
        session.print_json(record)
    else:
        session.out.print(record["id"])
        session.err.print(f"Follow it: spindle watch {record['id']}", style="dim", markup=False)


async def dead_letters(session: Session, limit: int) -> None:
    """List dead letters, newest first."""
    async with session.client() as client:
        page = await client.dead_letters(limit=limit)
    if session.json:
        session.print_json(page)
        return
    rows = (
        (
            one["id"],
            one["run"],
            ", ".join(one["nodes"]),
            str(one["attempts"]),
            when(one["time"]),
            str(one["problem"].get("detail") or one["problem"]["title"]),
        )
        for one in page["dead_letters"]
    )
    session.out.print(table(("letter", "run", "nodes", "attempts", "given up", "why"), rows))


async def nodes(session: Session, node_type: str | None) -> None:
    """List node types, or show the ports of one."""
    async with session.client() as client:
        known = sorted(await client.node_types(), key=lambda one: str(one["type"]))
    if node_type is not None:
        known = [one for one in known if node_type in (one["type"], one["type"].partition("@")[0])]
        if not known:
            raise Refusal(f"No worker has announced {node_type}.", "`spindle nodes` lists what there is.")
    if session.json:
        session.print_json(known)
    elif node_type is None:
        rows = ((one["type"], ", ".join(one.get("queues", ())) or "-", one.get("title", "")) for one in known)
        session.out.print(table(("node type", "queue", "what it does"), rows))
    else:
        for one in known:
            _show_node(session, one)


async def workers(session: Session) -> None:
    """List workers."""
    async with session.client() as client:
        there = await client.workers()
    if session.json:
        session.print_json(there)
        return
    rows = (
        (
            one["id"],
            ", ".join(f"{queue} {slots}" for queue, slots in one.get("slots", {}).items()),
            ", ".join(model["name"] for model in one.get("models", ())) or "-",
            one.get("host", ""),
        )
        for one in there
    )
    session.out.print(table(("worker", "slots", "models", "host"), rows))


def _show_node(session: Session, one: Json) -> None:
    session.out.print(f"{one['type']}  {one.get('title', '')}", style="bold", markup=False)
    if one.get("description"):
        session.out.print(one["description"], markup=False)
    for direction in ("inputs", "outputs"):
        rows = (
            (name, _kind(port), "" if port.get("required", True) else "optional", port.get("description", ""))
            for name, port in one.get(direction, {}).items()
        )
        session.out.print(table((direction, "kind", "", ""), rows))


def _kind(port: Json) -> str:
    if port["kind"] == "handle":
        return f"handle {port.get('handle') or ''}"
    schema = port.get("schema") or {}
    if port["kind"] == "artifact":
        listed = schema.get("items", {}).get("artifact") if schema.get("type") == "array" else None
        return f"list of {listed}" if listed else str(port.get("media_type") or "file")
    return _value_kind(schema)


def _value_kind(schema: Json) -> str:
    """Return a value's schema in a few words; that it may be null says only that it is optional."""
    choices = [one for one in schema.get("anyOf", (schema,)) if one.get("type") != "null"]
    words = " or ".join(_one_kind(choice) for choice in choices) or "any"
    default = schema.get("default")
    return words if default in (None, "") else f"{words}, default {default}"


def _one_kind(schema: Json) -> str:
    if "enum" in schema:
        return "one of " + " ".join(map(str, schema["enum"]))
    if "x-type-of" in schema:
        return f"the type of {schema['x-type-of']}"
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {_value_kind(schema['items'])}"
    kinds = schema.get("type", "any")
    words = kinds if isinstance(kinds, str) else " or ".join(map(str, kinds))
    return words + "".join(f", {sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
