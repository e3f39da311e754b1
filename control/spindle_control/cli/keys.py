"""`spindle keys`: make, list and revoke API keys, in the file on this machine that the server reads."""

from pathlib import Path
from typing import Annotated

import typer

from spindle_control.cli.session import Session, command

keys = typer.Typer(help="API keys, kept hashed in a file on this machine.", no_args_is_help=True)

_File = Annotated[
    Path | None,
    typer.Option("--file", help="File of the keys; unset: SPINDLE_API_KEYS_FILE, else in the data directory."),
]


@command(keys)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    tenant: Annotated[str, typer.Option(help="Whose runs and artifacts it reaches.")] = "default",
    file: _File = None,
) -> None:
    """Make a key and print it, this once. From the first key on, every request needs one."""
    from spindle_control.api_keys import ApiKeys

    key, text = ApiKeys(_path(file)).create(tenant, name)
    if session.json:
        session.print_json({"id": key.id, "tenant": key.tenant, "name": key.name, "key": text})
        return
    session.err.print(f"Key {key.id} for tenant {key.tenant}; it is shown this once.", markup=False)
    typer.echo(text)


@command(keys, "list")
def list_keys(session: Session, file: _File = None) -> None:
    """List keys; their secrets are not kept."""
    from spindle_control.api_keys import ApiKeys
    from spindle_control.cli.panels import table, when

    found = ApiKeys(_path(file)).all()
    if session.json:
        kept = ("id", "tenant", "name", "created_at", "revoked_at")
        session.print_json([{name: getattr(key, name) for name in kept} for key in found])
        return
    rows = ((key.id, key.tenant, key.name, when(key.created_at), when(key.revoked_at)) for key in found)
    session.out.print(table(("id", "tenant", "name", "made", "revoked"), rows))


@command(keys)
def revoke(
    session: Session, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")], file: _File = None
) -> None:
    """Revoke a key for good; a running server notices at once."""
    from spindle_control.api_keys import ApiKeys

    key = ApiKeys(_path(file)).revoke(key_id)
    if session.json:
        session.print_json({"id": key.id, "revoked_at": key.revoked_at})
    else:
        session.out.print(f"revoked {key.id}", markup=False)


def _path(given: Path | None) -> Path:
    from spindle_control.settings import ControlSettings

    return given or ControlSettings().keys_file
