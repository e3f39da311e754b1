"""`spindle cache`: what the content cache keeps of yours, and a purge."""

from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from spindle_control.cli.session import Session, command

cache = typer.Typer(help="Results kept so that nothing is computed twice.", no_args_is_help=True)


@command(cache)
def show(session: Session) -> Coroutine[Any, Any, None]:
    """Show how much is kept, and how often it was used."""
    return _show(session)


@command(cache)
def purge(
    session: Session,
    node_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only of this node type: image.generate, or with @1.")
    ] = None,
) -> Coroutine[Any, Any, None]:
    """Forget what is kept: from now on it is computed anew. Results of runs stay."""
    return _purge(session, node_type)


async def _show(session: Session) -> None:
    from spindle_control.cli.panels import size, table

    async with session.client() as client:
        kept = await client.kept()
    if session.json:
        session.print_json(kept)
        return
    rate = "" if kept["hit_rate"] is None else f"{kept['hit_rate']:.1%}"
    row = (str(kept["entries"]), size(kept["bytes"]), str(kept["hits"]), str(kept["misses"]), rate)
    session.out.print(table(("entries", "bytes", "hits", "misses", "hit rate"), [row]))


async def _purge(session: Session, node_type: str | None) -> None:
    async with session.client() as client:
        gone = await client.purge_cache(node_type)
    if session.json:
        session.print_json(gone)
    else:
        session.out.print(f"forgot {gone['entries']}", markup=False)
