"""A run's events as a person watches them: bars on a terminal, lines elsewhere."""

from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from spindle_control.cli.asking import command
from spindle_control.cli.panels import SIGNS

Json = dict[str, Any]
MOST_ENDED = 8
_ENDED = {"node.completed": "completed", "node.failed": "failed", "node.skipped": "skipped"}


class View(Protocol):
    """Shows events while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, event: Json) -> None:
        """Take in one event."""
        ...


def view_of(console: Console, *, quiet: bool = False) -> View:
    """Return the view that suits a console."""
    if quiet:
        return Silent()
    return Bars(console) if console.is_terminal else Lines(console)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, event: Json) -> None:
        """Take in one event."""


class Lines(Silent):
    """A line for each durable event."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: Json) -> None:
        """Print durable events; ticks and previews are dropped."""
        if "id" in event or event["type"] == "gap":
            self._console.print(f"{event.get('node', 'run')} {_words(event)}", markup=False, soft_wrap=True)


class Bars:
    """A bar for each node that runs, and the last few that have ended."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}
        self._ended: list[TaskID] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, event: Json) -> None:
        """Move the bar of the event's node."""
        if event["type"] == "gap":
            self._progress.console.print(_words(event), style="yellow")
        node = event.get("node")
        if node is None:
            if event["type"] == "run.paused" or event.get("data", {}).get("resumed"):
                self._progress.console.print(_words(event), style="yellow", markup=False)
            return
        kind, data = event["type"], event.get("data", {})
        if _asks(event):
            self._progress.console.print(f"{node} {_words(event)}", style="yellow", markup=False, soft_wrap=True)
        if kind in ("node.started", "node.retrying"):
            self._restart(node, _words(event) if kind == "node.retrying" else "")
        elif kind == "node.progress":
            bar = self._bar(node)
            self._progress.update(
                bar, completed=data.get("done", 0), total=data.get("total"), note=data.get("message", "")
            )
        elif kind in _ENDED:
            self._end(node, _ENDED[kind], _words(event))

    def _bar(self, node: str) -> TaskID:
        if node not in self._bars:
            self._bars[node] = self._progress.add_task(node, total=None, note="")
        return self._bars[node]

    def _restart(self, node: str, note: str) -> None:
        self._progress.reset(self._bar(node), total=None, note=note)

    def _end(self, node: str, status: str, note: str) -> None:
        bar = self._bar(node)
        total = next(task.total for task in self._progress.tasks if task.id == bar) or 1
        done = total if status == "completed" else 0
        sign, _ = SIGNS[status]
        self._progress.update(bar, description=f"{sign} {node}", total=total, completed=done, note=note)
        self._progress.stop_task(bar)
        self._ended.append(bar)
        if len(self._ended) > MOST_ENDED:
            self._progress.update(self._ended.pop(0), visible=False)


def _asks(event: Json) -> bool:
    return event["type"] == "node.waiting" and "answer" in event.get("data", {})


def _words(event: Json) -> str:
    data = event.get("data", {})
    if _asks(event):
        return f"waits for an answer: {command(event.get('run', 'RUN'), event['node'], data['answer'])}"
    words: str = event["type"].rpartition(".")[2]
    if event["type"] == "gap":
        return f"some events are lost: {data.get('reason', 'the server no longer has them')}"
    if event["type"] == "run.paused" and data.get("reason"):
        return f"rests: {data['reason']}"
    if event["type"] == "run.paused":
        return f"paused; `spindle resume {event.get('run', 'RUN')}` lets it go on"
    if data.get("resumed"):
        return "resumed"
    problem = data.get("problem") or {}
    because = problem.get("detail") or problem.get("title") or data.get("reason") or data.get("cause")
    return f"{words}: {because}" if because else words
