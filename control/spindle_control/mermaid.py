"""A plan as a Mermaid flowchart: what one pastes into a README or a ticket to see how a workflow is cut into tasks.

    task              a subgraph with its queue, where it has several nodes; a node in several tasks is drawn in each
    body              a subgraph in its node's place, with its own tasks
    reference         an arrow that names both ports; `when` and `after` are dashed

Bounded, so that renderers take it (theirs stop at 500 edges, or 50,000 characters): of more nodes than `MOST_NODES`
the first are drawn, and the rest is a number. Syntax: https://mermaid.js.org/syntax/flowchart.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spindle_common import expressions
from spindle_common.values import references
from spindle_control.compiler import Plan, PlanFlow, PlanLevel, PlanTask
from spindle_control.paths import Nodes

MOST_NODES, MOST_EDGES = 200, 400
_MOST_WORDS = 40
_MOST_LABELS = 3
_ESCAPED = str.maketrans({
    "#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\n": " ", "\r": " "
})  # fmt: skip


def mermaid(plan: Plan, nodes: Nodes) -> str:
    """Draw a plan; `nodes` are its document's, for their titles."""
    chart = _Chart(nodes)
    chart.level(plan.level, "", "  ")
    chart.edges(plan.level, "")
    drawn = chart.lines + chart.arrows
    missing = _count(plan.level) - chart.count
    if missing > 0:
        drawn.append(f'  more["and {missing} more nodes"]')
    return "\n".join(["flowchart TD", *drawn, ""])


@dataclass
class _Chart:
    nodes: Nodes
    lines: list[str] = field(default_factory=list)
    arrows: list[str] = field(default_factory=list)
    count: int = 0
    names: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Drawn nodes: prefix and id -> by task the name in the chart."""

    # Nodes ---------------------------------------------------------------------------------------------------------

    def level(self, level: PlanLevel, prefix: str, indent: str) -> None:
        """Draw the tasks and flows of a level."""
        for unit in level.units.values():
            if isinstance(unit, PlanFlow):
                self._flow(unit, prefix, indent)
            elif len(unit.nodes) == 1:
                self._node(unit, unit.id, prefix, indent)
            else:
                self._task(unit, prefix, indent)

    def _task(self, task: PlanTask, prefix: str, indent: str) -> None:
        if self.count >= MOST_NODES:
            return
        self.lines.append(f"{indent}subgraph t{self.count}[{_quoted(f'task {task.id} · {task.queue}')}]")
        for id_ in task.nodes:
            self._node(task, id_, prefix, indent + "  ")
        self.lines.append(f"{indent}end")

    def _node(self, task: PlanTask, id_: str, prefix: str, indent: str) -> None:
        name = self._named(prefix, id_, task.id)
        if name:
            queue = f" · {task.queue}" if len(task.nodes) == 1 else ""
            self.lines.append(f"{indent}{name}[{self._label(prefix, id_, task.nodes[id_]['type'] + queue)}]")

    def _flow(self, flow: PlanFlow, prefix: str, indent: str) -> None:
        name = self._named(prefix, flow.id, flow.id)
        if not name:
            return
        label = self._label(prefix, flow.id, flow.kind)
        if flow.body is None:
            self.lines.append(f"{indent}{name}{{{{{label}}}}}")
            return
        self.lines.append(f"{indent}subgraph {name}[{label}]")
        before = len(self.lines)
        self.level(flow.body, f"{prefix}{flow.id}.", indent + "  ")
        if len(self.lines) == before:  # nothing of it is drawn any more; an empty subgraph is a mistake
            self.lines[-1] = f"{indent}{name}[{label}]"
        else:
            self.lines.append(f"{indent}end")

    def _named(self, prefix: str, id_: str, task: str) -> str | None:
        """A new name in the chart, as long as there is room; a node counts once, in however many tasks it is."""
        if self.count >= MOST_NODES and (prefix, id_) not in self.names:
            return None
        known = self.names.setdefault((prefix, id_), {})
        name = f"n{self.count}_{len(known)}"
        self.count += not known
        known[task] = name
        return name

    def _label(self, prefix: str, id_: str, kind: str) -> str:
        title = self.nodes.title(prefix + id_)
        words = [id_, *([str(title)] if title else []), kind]
        return '"' + "<br/>".join(map(_escaped, words)) + '"'

    # Edges ---------------------------------------------------------------------------------------------------------

    def edges(self, level: PlanLevel, prefix: str) -> None:
        """Draw what goes from node to node in a level, and in the bodies inside it."""
        for unit in level.units.values():
            if isinstance(unit, PlanFlow):
                self._into(unit.node, unit.id, unit.id, prefix)
                if unit.body is not None:
                    self.edges(unit.body, f"{prefix}{unit.id}.")
            else:
                for id_, node in unit.nodes.items():
                    self._into(node, id_, unit.id, prefix)

    def _into(self, node: Mapping[str, Any], id_: str, task: str, prefix: str) -> None:
        target = self.names.get((prefix, id_), {}).get(task)
        labels: dict[tuple[str, str], list[str]] = {}
        for owner, arrow, label in _edges_of(node):
            labels.setdefault((owner, arrow), []).append(label)
        for (owner, arrow), found in labels.items():
            copies = self.names.get((prefix, owner), {})
            source = copies.get(task) or next(iter(copies.values()), None)
            if source and target and len(self.arrows) < MOST_EDGES:
                shown = [*found[:_MOST_LABELS], *(["…"] if len(found) > _MOST_LABELS else [])]
                words = "<br/>".join(map(_escaped, shown))
                self.arrows.append(f'  {source} {arrow}|"{words}"| {target}')


def _edges_of(node: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the node where each edge begins, its arrow and its label; every one but once."""
    seen: set[tuple[str, str, str]] = set()
    for port, value in node.get("inputs", {}).items():
        for dotted in references(value):
            owner, _, output = dotted.partition(".")
            seen.add((owner, "-->", f"{output} → {port}"))
    for dotted in expressions.parse(node["when"]).roots if "when" in node else ():
        owner, _, output = dotted.partition(".")
        seen.add((owner, "-.->", f"when {output}"))
    seen |= {(owner, "-.->", "after") for owner in node.get("after", ())}
    yield from sorted(edge for edge in seen if edge[0] != "inputs")


def _count(level: PlanLevel) -> int:
    return len(level.node_task) + sum(_count(flow.body) for flow in level.flows if flow.body is not None)


def _escaped(words: str) -> str:
    cut = words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 1] + "…"
    return cut.translate(_ESCAPED)


def _quoted(words: str) -> str:
    return f'"{_escaped(words)}"'
