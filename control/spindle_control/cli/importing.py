"""`spindle import`: another program's workflow as one of ours, or everything that is in the way.

The server checks it against what its workers offer. Where none answers it is translated here, unchecked, which is said.
"""

import json
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from spindle_control.cli.session import Refusal, Session, command

_File = Annotated[str, typer.Argument(metavar="FILE", help="Foreign workflow as JSON, or a PNG; - for stdin.")]
_Out = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write; else to stdout.")]
_Dialect = Annotated[str | None, typer.Option(help="comfyui or langgraph; else it is recognised.")]
_Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="FILE=NAME", help="What a model's file is called here.")
]
_Services = Annotated[str | None, typer.Option(metavar="FILE", help="Mapping of services, for langgraph (JSON).")]


def register_import(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "import")(import_)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked `import` for."""

    document: object
    dialect: str | None
    models: dict[str, str]
    services: dict[str, Any]


def import_(
    session: Session,
    file: _File,
    output: _Out = None,
    dialect: _Dialect = None,
    model: _Models = None,
    services: _Services = None,
) -> Coroutine[Any, Any, None]:
    """Import a workflow of ComfyUI (API format, or a picture it made) or a langgraph.v1 graph."""
    mapping = _json(services, _content(services)) if services else {}
    document, is_picture = _read(file)
    wish = Wish(document, "comfyui" if is_picture else dialect, _mapped(model or ()), mapping)
    return _import(session, wish, output)


async def _import(session: Session, wish: Wish, output: str | None) -> None:
    found = await _imported(session, wish)
    text = json.dumps(found["workflow"], indent=2, ensure_ascii=False) + "\n"
    if found["notes"] and not session.json:
        from spindle_control.cli.panels import mistakes

        session.err.print(mistakes(found["notes"]))
    if output:
        _write(output, text)
    if session.json:
        session.print_json(found)
    elif not output:
        sys.stdout.write(text)
    else:
        count = len(found["workflow"]["nodes"])
        session.err.print(f"✓ {output} has {count} nodes, {len(found['notes'])} notes", style="green", markup=False)


async def _imported(session: Session, wish: Wish) -> dict[str, Any]:
    from spindle_control.client import Unreachable

    options = {"models": wish.models, "services": wish.services}
    try:
        async with session.client() as client:
            return await client.import_document(wish.document, wish.dialect, **options)
    except Unreachable:
        return _here(wish)


def _here(wish: Wish) -> dict[str, Any]:
    from spindle_control.importers import Options, import_document

    found = import_document(wish.document, wish.dialect, Options(wish.models, wish.services))
    notes = [note.model_dump(mode="json") for note in found.notes]
    return {"workflow": found.workflow, "notes": notes, "dialect": found.dialect}


def _read(file: str) -> tuple[object, bool]:
    """Read a file; return its document, and whether a picture kept it."""
    from spindle_control.importers import graph_in_png
    from spindle_control.png import SIGNATURE

    content = _content(file)
    if content.startswith(SIGNATURE):
        return graph_in_png(content), True
    return _json(file, content), False


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Refusal(f"Cannot read {file}: {error.strerror}.") from None


def _json(file: str, content: bytes) -> Any:
    from spindle_common.problems import InvalidRequest
    from spindle_control.bodies import parse_json

    try:
        found = parse_json(content)
    except InvalidRequest as problem:
        raise Refusal(f"{file} is not JSON: {problem.errors[0].detail}") from None
    if not isinstance(found, dict):
        raise Refusal(f"{file} is no workflow: a JSON object is needed.")
    return found


def _mapped(models: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in models:
        file, is_given, name = each.rpartition("=")
        if not is_given or not file or not name:
            raise Refusal(f"--model {each} does not say what is what.", "Write --model FILE=NAME.")
        found[file] = name
    return found


def _write(output: str, text: str) -> None:
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refusal(f"Cannot write {output}: {error.strerror}.") from None
