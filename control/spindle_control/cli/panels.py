"""What people see: problems as panels, lists as tables. Colours stand beside words and signs, never alone."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from spindle_control.cli.outputs import artifacts_in, is_artifact

Json = Mapping[str, Any]
MOST_MISTAKES = 30
LONGEST_VALUE = 300
MOST_PARTS = 20

SIGNS = {
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("■", "yellow"),
    "skipped": ("-", "dim"),
    "running": ("▶", "cyan"),
    "waiting": ("…", "cyan"),
    "paused": ("‖", "yellow"),
}


def status_text(status: str) -> Text:
    """Return a status with its sign."""
    sign, style = SIGNS.get(status, ("·", "dim"))
    return Text(f"{sign} {status}", style=style)


def problem_panel(problem: Json, advice: str = "") -> Panel:
    """Return a problem with its mistakes, where they are and what would mend them."""
    parts: list[RenderableType] = []
    if detail := problem.get("detail"):
        parts.append(Text(str(detail)))
    errors = list(problem.get("errors", ()))
    parts += [_mistake(error) for error in errors[:MOST_MISTAKES]]
    if len(errors) > MOST_MISTAKES:
        parts.append(Text(f"… and {len(errors) - MOST_MISTAKES} more (all of them with --json)", style="dim"))
    if advice:
        parts.append(Text(advice, style="cyan"))
    if trace := problem.get("trace_id"):
        parts.append(Text(f"trace {trace}", style="dim"))
    title = Text(str(problem.get("title", "Problem")), style="bold red")
    return Panel(Group(*parts), title=title, title_align="left", border_style="red", box=box.ROUNDED)


def mistakes(errors: Iterable[Json]) -> Group:
    """Return mistakes or warnings, one below the other."""
    return Group(*(_mistake(error) for error in errors))


def _mistake(mistake: Json) -> Text:
    text = Text("• ")
    text.append(str(mistake.get("pointer") or "(the whole document)"), style="bold")
    text.append(f"  {mistake.get('detail', mistake.get('code', ''))}")
    if hint := mistake.get("hint"):
        text.append(f"\n  {hint}", style="cyan")
    return text


def table(columns: Iterable[str], rows: Iterable[Iterable[RenderableType]]) -> Table:
    """Return a plain table."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0)  # names must survive copying
    for row in rows:
        made.add_row(*row)
    return made


def outputs_table(outputs: Json) -> Table:
    """Return a run's outputs by name."""
    return table(("output", "value"), ((name, Text(short(value))) for name, value in outputs.items()))


def short(value: object) -> str:
    """Return a value in a line or two."""
    if isinstance(value, Mapping) and is_artifact(value):
        return f"{value['media_type']}, {size(int(value.get('size', 0)))}, {value['digest'][:19]}…"
    if isinstance(value, list | Mapping) and next(artifacts_in(value), None):
        return "\n".join(_parts(value))
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _parts(value: list[Any] | Json) -> Iterator[str]:
    """Yield a line or more for each part of a value that holds artifacts."""
    named = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for name, item in itertools.islice(named, MOST_PARTS):
        yield short(item) if name is None else f"{name}: {short(item)}"
    if len(value) > MOST_PARTS:
        yield f"… and {len(value) - MOST_PARTS} more"


def size(count: int) -> str:
    """Return a number of bytes for people."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def when(time: str | None) -> str:
    """Return an RFC 3339 time in local time, to the second; the date only where it is not today's."""
    if not time:
        return ""
    local = datetime.fromisoformat(time).astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def seconds(record: Json) -> str:
    """Return how long a run or node took, or nothing if it has not ended."""
    if not (record.get("started_at") and record.get("ended_at")):
        return ""
    took = datetime.fromisoformat(record["ended_at"]) - datetime.fromisoformat(record["started_at"])
    return f"{took.total_seconds():.2f} s"


def run_view(record: Json) -> Group:
    """Return a run with its nodes, outputs and problems."""
    nodes: Json = record.get("nodes", {})
    heading = Text.assemble(
        (record["workflow"]["name"], "bold"), " ", status_text(record["status"]), f" {seconds(record)}"
    )
    parts: list[RenderableType] = [heading, Text(f"run {record['id']}, {when(record['created_at'])}", style="dim")]
    if nodes:
        rows = (
            (name, node["type"], status_text(node["status"]), seconds(node), _why(node)) for name, node in nodes.items()
        )
        parts.append(table(("node", "type", "status", "took", ""), rows))
    if record.get("outputs"):
        parts.append(outputs_table(record["outputs"]))
    return Group(*parts, *problems_of(record))


def problems_of(record: Json) -> list[Panel]:
    """Return panels for what went wrong in a run: its nodes' problems, and its own where that says something else."""
    nodes = {name: node["problem"] for name, node in record.get("nodes", {}).items() if node.get("problem")}
    panels = [problem_panel(problem | {"title": f"{name}: {problem['title']}"}) for name, problem in nodes.items()]
    own = record.get("problem")
    if own and not any(own.get("detail") == problem.get("detail") for problem in nodes.values()):
        panels.insert(0, problem_panel(own))
    return panels


def _why(node: Json) -> str:
    if node.get("reason"):
        return str(node["reason"])
    return "reused" if node.get("reused") else ""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
