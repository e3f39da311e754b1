"""The commands that work here, without a server between: up, serve, env, gc."""

import os
import shlex
import sys

import typer

from spindle_control.cli.garbage import gc
from spindle_control.cli.session import Refusal, Session, command

TOLD = ("pid", "url", "redis_url")


def register_local(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    command(app)(up)
    command(app)(serve)
    command(app)(env)
    command(app)(gc)


def up(session: Session) -> int:
    """Run everything here: an embedded Redis, control, one worker. Settings come from SPINDLE_… variables."""
    del session
    from spindle_control.settings import ControlSettings
    from spindle_control.up import CannotStart
    from spindle_control.up import up as start

    try:
        return start(ControlSettings())
    except CannotStart as reason:
        raise Refusal(str(reason)) from None


def serve(session: Session) -> int:
    """Run the control plane alone; SPINDLE_REDIS_URL names its Redis."""
    del session
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "spindle_control"])  # noqa: S606 -- the module has its own main


def env(session: Session) -> None:
    """Print variables with which further workers and controls join the `up` of this data directory."""
    from spindle_control.settings import ControlSettings
    from spindle_control.up import running

    data_dir = ControlSettings().data_dir.absolute()
    who = running(data_dir)
    if not who or any(name not in who for name in TOLD):
        raise Refusal(f"Nothing is up on {data_dir}.", "Start it with `spindle up`.")
    variables = {
        "SPINDLE_DATA_DIR": str(data_dir),
        "SPINDLE_REDIS_URL": str(who["redis_url"]),
        "SPINDLE_URL": str(who["url"]),
    }
    if session.json:
        session.print_json(variables)
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
