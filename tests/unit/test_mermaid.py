"""Plans as Mermaid flowcharts. (That Mermaid itself reads them was tried by hand, with its version 11.)"""

import re
from typing import Any

from spindle_control.compiler import check, plan
from spindle_control.mermaid import MOST_EDGES, MOST_NODES, mermaid
from spindle_control.paths import Nodes
from support.compiler_catalog import POSTER, catalog, workflow

Json = dict[str, Any]
CATALOG = catalog()


def drawn(document: Json) -> list[str]:
    return mermaid(plan(check(document, CATALOG), CATALOG), Nodes(document, {})).splitlines()


def noop(**inputs: Any) -> Json:
    return {"type": "test.noop@1", "inputs": inputs}


def test_the_poster() -> None:
    assert drawn(POSTER) == [
        "flowchart TD",
        '  subgraph t0["task image · gpu"]',
        '    n0_0["prompt<br/>text.template@1"]',
        '    n1_0["image<br/>image.generate@1"]',
        "  end",
        '  n2_0["big<br/>image.resize@1 · cpu"]',
        '  n0_0 -->|"text → prompt"| n1_0',
        '  n1_0 -->|"image → image"| n2_0',
    ]


def test_bodies_questions_and_dashed_edges() -> None:
    body = {"nodes": {"x": noop(value={"$from": "inputs.item"})}, "outputs": {"x": {"$from": "x.value"}}}
    nodes = {
        "a": noop(value=1),
        "m": {"type": "flow.map@1", "over": [1], "when": "a.value > 1", "after": ["b"], "body": body},
        "b": noop(value=2),
        "ok": {"type": "flow.approve@1", "show": {"it": {"$from": "m.x"}}, "answer": {"type": "boolean"}},
    }
    lines = [line.strip() for line in drawn(workflow(nodes))]
    at = next(at for at, line in enumerate(lines) if line.startswith("subgraph"))
    assert [re.sub(r"n\d_\d", "N", line) for line in lines[at : at + 3]] == [
        'subgraph N["m<br/>flow.map@1"]',
        'N["x<br/>test.noop@1 · async"]',
        "end",
    ]
    edges = {re.sub(r"n\d_\d", "", line).strip() for line in lines if "|" in line}
    assert edges == {'-.->|"when value"|', '-.->|"after"|', '-->|"x → show.it"|'}
    assert any(line.endswith('{{"ok<br/>flow.approve@1"}}') for line in lines)


def test_titles_cannot_break_out() -> None:
    title = 'a"]\n  evil["<script>`&#34;'
    (line,) = (line for line in drawn(workflow({"a": noop(value=1) | {"title": title}})) if "noop" in line)
    label = re.fullmatch(r'  n0_0\["([^"]*)"\]', line)
    assert label is not None
    assert label[1] == "a<br/>a#quot;]   evil[#quot;#lt;script#gt;#96;#amp;#35;34;<br/>test.noop@1 · async"


def test_a_large_plan_is_cut() -> None:
    many = {f"n{at}": noop(value=[{"$from": f"n{b}.value"} for b in range(max(0, at - 5), at)]) for at in range(1999)}
    lines = drawn(workflow(many))
    assert lines[-1] == f'  more["and {1999 - MOST_NODES} more nodes"]'
    arrows = [line for line in lines if "-->" in line]
    assert len(arrows) == MOST_EDGES
    assert len("\n".join(lines)) < 50_000, "what Mermaid takes at most"
    names = {found[1] for line in lines if (found := re.match(r" *(n\d+_\d+)\[", line))}
    for arrow in arrows:
        assert {arrow.split()[0], arrow.split()[-1]} <= names
