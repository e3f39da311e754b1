"""The command line: one function a command, each importing what it needs only when it is called."""

from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from spindle_control.cli.cache import cache
from spindle_control.cli.importing import register_import
from spindle_control.cli.keys import keys
from spindle_control.cli.local import register_local
from spindle_control.cli.session import Session, command
from spindle_control.cli.workflows import workflows

app = typer.Typer(
    help="Spindle runs workflows of generative media: submit one, watch it, open what it made.",
    epilog="Exit status: 0 done, 1 the run failed, 2 wrong usage or a refusal, 3 the server is away, 4 cancelled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_File = Annotated[str, typer.Argument(metavar="FILE", help="Workflow as JSON, or a PNG that carries one; - for stdin.")]
_Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME@VERSION", help="Workflow as JSON, a PNG that carries one, or one that is stored."
    ),
]
_Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
_Node = Annotated[str, typer.Argument(metavar="NODE", help="Path of the node, such as image or vars[3].image.")]
_Inputs = Annotated[list[str] | None, typer.Option("-i", "--input", metavar="NAME=VALUE", help="Input; @FILE uploads.")]
_Outputs = Annotated[list[str] | None, typer.Option("-o", "--output", metavar="[NAME=]FILE", help="Where to save.")]
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.")]

register_local(app)
register_import(app)
app.add_typer(keys, name="keys")
app.add_typer(cache, name="cache")
app.add_typer(workflows, name="workflows")


@command(app)
def run(
    session: Session,
    file: _Source,
    inputs: _Inputs = None,
    outputs: _Outputs = None,
    wait: _Wait = True,
) -> Coroutine[Any, Any, int]:
    """Run a workflow, watch it, save what it makes. Ctrl-C leaves the run going."""
    from spindle_control.cli.submit import Wish
    from spindle_control.cli.submit import run as run_it

    return run_it(session, Wish(file, inputs or [], outputs or [], wait))


@command(app)
def watch(session: Session, run_id: _Run) -> Coroutine[Any, Any, int]:
    """Watch a run to its end; --json prints its events, one a line."""
    from spindle_control.cli.submit import watch as watch_it

    return watch_it(session, run_id)


@command(app)
def validate(
    session: Session,
    file: _File,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print its plan as a Mermaid flowchart.")] = False,
) -> Coroutine[Any, Any, int]:
    """Check a workflow without running it; every mistake at once."""
    from spindle_control.cli import charts, views

    return charts.mermaid(session, file) if mermaid else views.validate(session, file)


@command(app)
def runs(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
) -> Coroutine[Any, Any, None]:
    """List runs, newest first."""
    from spindle_control.cli import views

    return views.runs(session, status, limit)


@command(app)
def show(session: Session, run_id: _Run) -> Coroutine[Any, Any, None]:
    """Show a run: its nodes, outputs and problems."""
    from spindle_control.cli import views

    return views.show(session, run_id)


@command(app)
def cancel(session: Session, run_id: _Run) -> Coroutine[Any, Any, None]:
    """Cancel a run."""
    from spindle_control.cli import views

    return views.change(session, "cancel", run_id)


@command(app)
def pause(session: Session, run_id: _Run) -> Coroutine[Any, Any, None]:
    """Pause a run: what runs ends, nothing else starts. It may rest for as long as you like."""
    from spindle_control.cli import views

    return views.change(session, "pause", run_id)


@command(app)
def resume(session: Session, run_id: _Run) -> Coroutine[Any, Any, None]:
    """Go on with a paused run."""
    from spindle_control.cli import views

    return views.change(session, "resume", run_id)


@command(app)
def retry(session: Session, run_id: _Run) -> Coroutine[Any, Any, None]:
    """Repeat a run that has ended, as a new run; what it completed is re-used."""
    from spindle_control.cli import views

    return views.repeat(session, "retry", run_id)


@command(app)
def fork(
    session: Session,
    run_id: _Run,
    nodes: Annotated[
        list[str] | None, typer.Option("--from", metavar="NODE", help="Run this node again, and all that needs it.")
    ] = None,
    patch: Annotated[str | None, typer.Option(metavar="FILE", help="Changes to the workflow (RFC 7396).")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="FILE", help="A whole workflow in its place.")] = None,
    inputs: _Inputs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
) -> Coroutine[Any, Any, None]:
    """Repeat a run that has ended with something changed, as a new run; what the change leaves alone is re-used."""
    from spindle_control.cli.repeating import Change
    from spindle_control.cli.repeating import fork as fork_it

    return fork_it(session, run_id, Change(nodes or [], patch, workflow, inputs or [], dry_run))


@command(app)
def answer(
    session: Session,
    run_id: _Run,
    node: _Node,
    reply: Annotated[str | None, typer.Argument(metavar="[JSON]", help="The answer.")] = None,
    yes: Annotated[bool | None, typer.Option("--yes/--no", help="Answer a question of yes or no.")] = None,
    inputs: _Inputs = None,
) -> Coroutine[Any, Any, None]:
    """Answer a node that waits for a person."""
    from spindle_control.cli import asking

    return asking.answer(session, run_id, node, asking.Reply(reply, yes, inputs or []))


@command(app)
def why(session: Session, run_id: _Run, node: _Node) -> Coroutine[Any, Any, None]:
    """Say why a node is as it is: what it waits for, where it stands in its queue, why it was skipped."""
    from spindle_control.cli import asking

    return asking.why(session, run_id, node)


@command(app)
def dead_letters(
    session: Session, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20
) -> Coroutine[Any, Any, None]:
    """List tasks that were given up because their workers kept dying, newest first."""
    from spindle_control.cli import views

    return views.dead_letters(session, limit)


@command(app)
def redrive(
    session: Session, letter: Annotated[str, typer.Argument(metavar="LETTER", help="Id of the dead letter.")]
) -> Coroutine[Any, Any, None]:
    """Repeat the run of a dead letter, as a new run, and forget the letter."""
    from spindle_control.cli import views

    return views.repeat(session, "redrive", letter)


@command(app)
def nodes(
    session: Session,
    node_type: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Show the ports of this one.")] = None,
) -> Coroutine[Any, Any, None]:
    """List the node types that workers offer, or show the ports of one."""
    from spindle_control.cli import views

    return views.nodes(session, node_type)


@command(app)
def workers(session: Session) -> Coroutine[Any, Any, None]:
    """List the workers that are there."""
    from spindle_control.cli import views

    return views.workers(session)


def main() -> None:
    """Entry point of the program `spindle`."""
    app()
