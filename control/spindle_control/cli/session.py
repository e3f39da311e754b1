"""What every command shares: where the server is, how to print, how failures become messages and exit statuses.

Exit statuses: 0 done, 1 the run failed, 2 wrong usage or a refusal, 3 the server is away, 4 the run was cancelled,
130 interrupted (the run goes on). With --json, standard output carries JSON only, failures included.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from spindle_control.client import Client, SpindleProblem


class Status(IntEnum):
    """Exit statuses."""

    OK = 0
    FAILED = 1
    INVALID = 2
    AWAY = 3
    CANCELLED = 4
    INTERRUPTED = 130


class Refusal(Exception):
    """What the person asked for cannot be done; told without a traceback, with what would help."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail, self.hint = detail, hint


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line."""

    url: str
    api_key: str | None
    json: bool

    def client(self) -> "Client":
        """Return a client of the server in question."""
        from spindle_control.client import Client

        return Client(self.url, self.api_key)

    @property
    def out(self) -> "Console":
        """Standard output, for what was asked for."""
        return _console(stderr=False)

    @property
    def err(self) -> "Console":
        """Standard error, for progress and complaints."""
        return _console(stderr=True)

    def print_json(self, value: object) -> None:
        """Print JSON to standard output: indented for people, one line for programs."""
        print_json(value)


def print_json(value: object) -> None:
    """Print JSON to standard output: indented on a terminal, else on one line."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def default_url() -> str:
    """URL where `spindle up` listens, with the port that the environment names."""
    return f"http://127.0.0.1:{os.environ.get('SPINDLE_PORT', '8420')}"


_Url = Annotated[str, typer.Option("--url", envvar="SPINDLE_URL", help="Where the server is.", show_default=False)]
_ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="SPINDLE_API_KEY", help="Key, where it wants one.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
_SHARED = (("url", _Url, ""), ("api_key", _ApiKey, None), ("as_json", _AsJson, False))

Body = Callable[..., int | Coroutine[Any, Any, int | None] | None]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Body], Callable[..., None]]:
    """Register a function, whose first parameter is the session, with the options that every command has."""

    def register(body: Body) -> Callable[..., None]:
        signature = inspect.signature(body)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, kind, default in _SHARED
        ]

        @wraps(body)
        def call(*, url: str, api_key: str | None, as_json: bool, **arguments: Any) -> None:
            session = Session(url or default_url(), api_key, as_json)
            raise typer.Exit(_carry_out(session, body, arguments))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        app.command(name)(call)
        return call

    return register


def _carry_out(session: Session, body: Body, arguments: dict[str, Any]) -> int:
    import asyncio

    from spindle_common.problems import SpindleError
    from spindle_control.client import SpindleProblem

    try:
        done = body(session, **arguments)
        return (asyncio.run(done) if isinstance(done, Coroutine) else done) or Status.OK
    except SpindleProblem as problem:
        _show_problem(session, problem)
        return status_of(problem)
    except SpindleError as error:  # raised here, not by a server: the key file
        _show_problem(session, SpindleProblem(error.problem()))
        return Status.INVALID
    except Refusal as refusal:
        _show_refusal(session, refusal)
        return Status.INVALID
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.OK


def status_of(problem: "SpindleProblem") -> Status:
    """Exit status for a problem: ours to mend (4xx), or the server's (the rest)."""
    return Status.INVALID if problem.status < 500 and problem.status != 429 else Status.AWAY


def _show_problem(session: Session, problem: "SpindleProblem") -> None:
    if session.json:
        session.print_json(problem.problem)
        return
    from spindle_control.cli.panels import problem_panel

    session.err.print(problem_panel(problem.problem, advice(problem)))


def advice(problem: "SpindleProblem") -> str:
    """Return what a person may do about a problem that has no hints of its own."""
    return {
        "unreachable": "Start it with `spindle up`, or name it with --url or SPINDLE_URL.",
        "unauthorized": "Give a key with --api-key or SPINDLE_API_KEY; `spindle keys create NAME` makes one.",
    }.get(problem.code, "")


def _show_refusal(session: Session, refusal: Refusal) -> None:
    body = {"title": "This cannot be done", "status": 400, "detail": refusal.detail}
    if session.json:
        session.print_json(body | ({"hint": refusal.hint} if refusal.hint else {}))
        return
    from spindle_control.cli.panels import problem_panel

    session.err.print(problem_panel(body, refusal.hint))
