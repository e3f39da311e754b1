"""What checking and planning cost, beside a floor: parsing the same JSON and validating its shape.

    python tests/bench/compiler.py          prints JSON; times are milliseconds of processor time, the least of several

Aims (docs/benchmarks.md): check of a valid 1,000-node document ≤ 50 ms, plan ≤ 200 ms, a problem for a hostile
document ≤ 100 ms.
"""

import json
import platform
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import resources, util
from pathlib import Path
from typing import Any

import jsonschema_rs

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Limits, check, plan

sys.path.insert(0, str(Path(__file__).parents[1]))
from spindle_common import expressions
from spindle_control.compiler import schemas
from support.compiler_catalog import catalog, noop, workflow
from support.hostile_kinds import KINDS
from unit.test_hostile_documents import HOSTILE
from unit.test_hostile_documents import refused as flows_refused

NODES, TIMES = 1000, 9
CATALOG = catalog()


def least(work: Callable[[], Any], *, cold: bool = False) -> float:
    """Return the least milliseconds of processor time of several runs, `cold` with nothing in the caches of
    expressions and schemas: a hostile document is a new one every time.
    """
    found = []
    for _ in range(TIMES):
        if cold:
            expressions.parse.cache_clear()
            schemas._compile_text.cache_clear()
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return round(min(found) * 1000, 2)


def documents() -> dict[str, dict[str, Any]]:
    """Return the graphs by name."""
    rng = random.Random(1)
    shapes: dict[str, Callable[[int], list[int]]] = {
        "chain": lambda at: [at - 1] if at else [],
        "wide": lambda at: [] if at < NODES - 1 else list(range(NODES - 1)),
        "random": lambda at: rng.sample(range(at), min(at, 3)),
    }
    graphs = {
        name: workflow({f"n{at}": noop(*(f"n{other}" for other in needs(at))) for at in range(NODES)})
        for name, needs in shapes.items()
    }
    return graphs | {"posters": posters(), "maps": maps()}


def maps() -> dict[str, Any]:
    """Return forty maps of two dozen nodes each, every one fed by the one before."""
    body = {"nodes": {f"v{at}": noop() for at in range(24)}, "outputs": {"v": {"$from": "v1.value"}}}
    nodes: dict[str, Any] = {"m0": {"type": "flow.map@1", "over": [1], "body": body}}
    for at in range(1, 40):
        nodes[f"m{at}"] = {"type": "flow.map@1", "over": {"$from": f"m{at - 1}.v"}, "body": body}
    return workflow(nodes)


def posters() -> dict[str, Any]:
    """Return a graph of real node types: prompts, expressions, conditions."""
    nodes: dict[str, Any] = {}
    for at in range(NODES // 3):
        values = {"subject": {"$from": "inputs.subject"}}
        seed = {"$expr": f"inputs.seed + {at}"}
        nodes[f"prompt{at}"] = {"type": "text.template@1", "inputs": {"template": "{subject}", "values": values}}
        generated = {"prompt": {"$from": f"prompt{at}.text"}, "seed": seed, "steps": 20}
        nodes[f"image{at}"] = {"type": "image.generate@1", "inputs": generated}
        resized = {"image": {"$from": f"image{at}.image"}, "scale": 2}
        nodes[f"big{at}"] = {"type": "image.resize@1", "when": "inputs.seed > 0", "inputs": resized}
    return workflow(nodes, inputs={"subject": {"type": "string"}, "seed": {"type": "integer", "default": 7}})


def refused(document: object) -> None:
    """Check a document that is wrong."""
    try:
        check(document, CATALOG, Limits())
    except InvalidWorkflow:
        return
    raise AssertionError("it was taken")


def parsed(gate: jsonschema_rs.Draft202012Validator, text: str) -> bool:
    """Do the least that must be done with a document."""
    return gate.is_valid(json.loads(text))


def hostile() -> dict[str, Any]:
    """Return the documents of tests/unit/test_check.py that are made to hurt."""
    path = Path(__file__).parents[1] / "unit" / "test_check.py"
    spec = util.spec_from_file_location("hostile_documents", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.HOSTILE)


def figures() -> dict[str, Any]:
    """Measure everything."""
    schema = resources.files("spindle_common.contracts").joinpath("workflow.schema.json").read_text()
    gate = jsonschema_rs.Draft202012Validator(json.loads(schema))
    graphs = {}
    for name, document in documents().items():
        text = json.dumps(document)
        checked = check(document, CATALOG, Limits())
        graphs[name] = {
            "bytes": len(text),
            "tasks": len(plan(checked, CATALOG).tasks),
            "floor_ms": least(partial(parsed, gate, text)),
            "check_ms": least(partial(check, document, CATALOG, Limits())),
            "check_cold_ms": least(partial(check, document, CATALOG, Limits()), cold=True),
            "plan_ms": least(partial(plan, checked, CATALOG)),
        }
    refusals = {name: least(partial(refused, document), cold=True) for name, document in hostile().items()}
    for name, made in (HOSTILE | {name: make for name, (make, _) in KINDS.items()}).items():
        refusals[name] = least(partial(flows_refused, made()), cold=True)
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "nodes": NODES,
        "graphs": graphs,
        "hostile_ms": refusals,
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
