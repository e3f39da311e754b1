"""What a node saw when it was decided: inputs and outputs of its level, found again from the ledger.

The inputs of a body are kept nowhere: they are resolved anew from what stands around the body, level by level.
"""

from typing import Any

from spindle_common.problems import SpindleError
from spindle_common.queue import compact
from spindle_common.spill import Bytes, Spill
from spindle_common.values import Outcome, Scope, Skip, decide, references
from spindle_control.ledgers import Ledger
from spindle_control.paths import Nodes, outer_of, split
from spindle_control.rows import Json

_SHOWN = 200


class Seen:
    """Values in a run's levels."""

    def __init__(self, artifacts: Bytes, ledger: Ledger, nodes: Nodes) -> None:
        self._spill, self._ledger, self._nodes = Spill(artifacts), ledger, nodes

    async def values(self, prefix: str, dotted: list[str]) -> Json:
        """Return what references of a level give, long values cut; those that give nothing are left out."""
        found = await self._resolved(prefix, {name: {"$from": name} for name in dotted})
        return {name: _cut(value) for name, value in found.items()}

    async def _resolved(self, prefix: str, values: Json) -> Json:
        owners = {dotted.partition(".")[0] for dotted in references(values)}
        inputs = await self._inputs(prefix) if "inputs" in owners else {}
        paths = {prefix + owner: owner for owner in owners - {"inputs"}}
        known = await self._ledger.outcomes(list(paths))
        outcomes: dict[str, Outcome] = {owner: known.get(path, {"status": "pending"}) for path, owner in paths.items()}
        found: Json = {}
        for name, value in values.items():
            try:
                scope = Scope(await self._spill.whole(inputs), await self._spill.fetch(outcomes))
                decision = decide({"inputs": {name: value}, "optional": [name]}, scope)
            except SpindleError:  # its bytes are gone, or it has no such part: it is left out
                continue
            found |= {} if isinstance(decision, Skip) else decision
        return found

    async def _inputs(self, prefix: str) -> Json:
        """Inputs of a level."""
        outer = outer_of(prefix)
        if outer is None:
            return self._ledger.row.inputs
        around, id_, number = split(outer)
        node = self._nodes.at(outer) or {}
        given: Json = {} if number is None else {"index": number}
        for key in ("with", "inputs", "carry"):
            given |= await self._resolved(around, node.get(key, {}))
        if number is not None and "over" in node:
            items = (await self._resolved(around, {"over": node["over"]})).get("over")
            if isinstance(items, list) and number < len(items):
                given["item"] = items[number]
        if number and "carry" in node:
            given |= await self._carried(f"{around}{id_}[{number - 1}]", node["carry"])
        declared = (self._nodes.inside(node) or {}).get("inputs", {})
        defaults = {name: spec["default"] for name, spec in declared.items() if "default" in spec}
        return defaults | given

    async def _carried(self, before: str, names: Json) -> Json:
        outputs = (await self._ledger.outcomes([before])).get(before, {}).get("outputs", {})
        return {name: outputs[name] for name in names if name in outputs}


def _cut(value: Any) -> Any:
    text = compact(value)
    return value if len(text) <= _SHOWN else text[:_SHOWN] + "…"
