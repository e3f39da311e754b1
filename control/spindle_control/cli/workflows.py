"""`spindle workflows`: what is stored by name, in versions that never change."""

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from spindle_control.cli.session import Refusal, Session, command

if TYPE_CHECKING:
    from spindle_control.client import Client

Json = dict[str, Any]
_STORED = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?:@([1-9][0-9]{0,8}))?")
_OPTIONS_OF_THE_GROUP = ("-h", "--help")


class _Listing(TyperGroup):
    """Lists where no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in _OPTIONS_OF_THE_GROUP):
            args = ["list", *args]
        return super().parse_args(ctx, args)


workflows = typer.Typer(
    help="Stored workflows: list them (the default), show, put, compare, export, remove.", cls=_Listing
)

_Stored = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A stored workflow; else its newest version.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the workflow.")]
_Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many.")]
_IfMatch = Annotated[
    str | None, typer.Option("--if-match", metavar="DIGEST", help="Only if the newest version has this digest.")
]


@command(workflows, "list")
def list_workflows(session: Session, limit: _Limit = 20) -> Coroutine[Any, Any, None]:
    """List stored workflows, newest change first."""

    async def work() -> None:
        from spindle_control.cli.panels import table, when

        async with session.client() as client:
            page = await client.workflows(limit=limit)
        if session.json:
            session.print_json(page)
            return
        rows = (
            (one["name"], str(one["version"]), when(one["updated_at"]), _first_line(one)) for one in page["workflows"]
        )
        session.out.print(table(("workflow", "version", "changed", "what it makes"), rows))

    return work()


@command(workflows)
def show(session: Session, workflow: _Stored, limit: _Limit = 20) -> Coroutine[Any, Any, None]:
    """Show a workflow: its inputs, nodes, outputs and versions."""

    async def work() -> None:
        name, version = _split(workflow)
        async with session.client() as client:
            record = await client.workflow(name, version)
            versions = (await client.workflow_versions(name, limit=limit))["versions"]
        if session.json:
            session.print_json(record | {"versions": versions})
        else:
            _show(session, record, versions)

    return work()


@command(workflows)
def put(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Workflow as JSON, or a PNG that carries one; -: stdin.")],
    name: Annotated[str | None, typer.Option(help="Name to store it under; unset: its own.")] = None,
    if_match: _IfMatch = None,
    new: Annotated[bool, typer.Option("--new", help="Only if there is none of that name.")] = False,
) -> Coroutine[Any, Any, None]:
    """Store a workflow: a new version, unless it is the newest one already."""

    async def work() -> None:
        from spindle_control.cli import document

        found = document.read(file).workflow
        called = name or found.get("name")
        if not isinstance(called, str):
            raise Refusal("The workflow has no name.", "Give one with --name, or write it into the document.")
        async with session.client() as client:
            record = await client.put_workflow(called, found | {"name": called}, if_match=if_match, if_new=new)
        if session.json:
            session.print_json(record)
            return
        session.out.print(f"{record['name']}@{record['version']}", markup=False)
        session.err.print(f"Run it: spindle run {record['name']}@{record['version']}", style="dim", markup=False)

    return work()


@command(workflows)
def diff(
    session: Session,
    name: _Name,
    before: Annotated[int | None, typer.Argument(metavar="[FROM]", help="Else the version before TO.")] = None,
    after: Annotated[int | None, typer.Argument(metavar="[TO]", help="Else the newest version.")] = None,
) -> Coroutine[Any, Any, None]:
    """Show what changed from one version to another; --json gives a JSON Patch."""

    async def work() -> None:
        async with session.client() as client:
            found = await client.diff_workflow(name, before, after)
        if session.json:
            session.print_json(found)
            return
        session.out.print(f"{name}@{found['from']['version']} → {name}@{found['to']['version']}", markup=False)
        for what, sign, style in (("added", "+", "green"), ("removed", "-", "red"), ("changed", "~", "yellow")):
            for node in found["nodes"][what]:
                session.out.print(f"{sign} node {node} {what}", style=style, markup=False)
        for change in found["patch"]:
            session.out.print(_change(change), style="dim", markup=False, soft_wrap=True)

    return work()


@command(workflows)
def export(
    session: Session,
    workflow: _Stored,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write; else standard output.")] = None,
) -> Coroutine[Any, Any, None]:
    """Write the document of a version, as `put` takes it."""

    async def work() -> None:
        import json

        async with session.client() as client:
            text = json.dumps(await client.export_workflow(*_split(workflow)), indent=2, ensure_ascii=False)
        if output is None:
            typer.echo(text)
            return
        try:
            output.write_text(text + "\n")
        except OSError as error:
            raise Refusal(f"Cannot write {output}: {error.strerror}.") from None

    return work()


@command(workflows)
def rm(session: Session, name: _Name, if_match: _IfMatch = None) -> Coroutine[Any, Any, None]:
    """Take a workflow off the lists. Its versions can still be run by number; storing it again brings it back."""

    async def work() -> None:
        async with session.client() as client:
            record = await client.hide_workflow(name, if_match=if_match)
        if session.json:
            session.print_json(record)
        else:
            session.out.print(f"hidden {name}; its versions up to {name}@{record['version']} stay", markup=False)

    return work()


def split_name(text: str) -> tuple[str, int | None] | None:
    """Read "poster@3", or "poster" for the newest version; None where it is neither."""
    found = _STORED.fullmatch(text)
    return (found[1], int(found[2]) if found[2] else None) if found else None


async def stored(client: "Client", text: str) -> tuple[Json, str] | None:
    """Return the document that "poster@3" or "poster" names, and its name with its version; None for a file."""
    named = split_name(text)
    if named is None or Path(text).exists():
        return None
    record = await client.workflow(*named)
    return record["workflow"], f"{record['name']}@{record['version']}"


def _split(text: str) -> tuple[str, int | None]:
    named = split_name(text)
    if named is None:
        raise Refusal(f"{text!r} names no stored workflow.", "Write NAME or NAME@VERSION, such as poster@3.")
    return named


def _show(session: Session, record: Json, versions: list[Json]) -> None:
    from spindle_control.cli.panels import size, table, when

    document = record["workflow"]
    session.out.print(f"{record['name']}@{record['version']}  {record['digest']}", style="bold", markup=False)
    if record.get("description"):
        session.out.print(record["description"], markup=False)
    inputs = ((name, _wanted(spec)) for name, spec in document.get("inputs", {}).items())
    session.out.print(table(("input", ""), inputs))
    nodes = ((id_, node["type"], node.get("title", "")) for id_, node in document["nodes"].items())
    session.out.print(table(("node", "type", ""), nodes))
    session.out.print(table(("output",), ((name,) for name in document.get("outputs", {}))))
    rows = ((str(one["version"]), when(one["created_at"]), size(one["size"]), _first_line(one)) for one in versions)
    session.out.print(table(("version", "stored", "size", "what it makes"), rows))


def _wanted(spec: Json) -> str:
    kind = spec.get("artifact") or spec.get("type") or "any"
    words = kind if isinstance(kind, str) else " or ".join(map(str, kind))
    if "default" in spec:
        return f"{words}, default {spec['default']}"
    return f"{words}, optional" if spec.get("optional") else words


def _first_line(record: Json) -> str:
    return str(record.get("description", "")).partition("\n")[0]


def _change(change: Json) -> str:
    from spindle_control.cli.panels import short

    value = f" {short(change['value'])}" if "value" in change else ""
    return f"  {change['op']} {change['path']}{value}"
