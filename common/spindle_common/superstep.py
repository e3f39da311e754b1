"""The LangGraph of a walk: every unit a node, named by its path, and all of them in one superstep.

    begin --"walk"--> unit, unit, unit …      no unit writes, so no step follows

Made of LangGraph's own parts (Pregel and its nodes) rather than by `StateGraph`, which would wrap each node in a
sequence with a writer and a traced call: 0.16 ms a node instead of 0.26. Importing LangGraph takes seconds, so only
`graph` imports this file, in a thread, when a graph is first walked.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.channels import EphemeralValue
from langgraph.pregel import NodeBuilder, Pregel

from spindle_common.graph import Unit, Walk

_BEGIN = "walk"


class _Step(Runnable[Walk, None]):
    """A unit as LangGraph calls it."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self.name = unit.name

    def invoke(self, input: Walk, config: RunnableConfig | None = None, **kwargs: Any) -> None:
        """Not for us: a walk awaits."""
        raise NotImplementedError

    async def ainvoke(self, input: Walk, config: RunnableConfig | None = None, **kwargs: Any) -> None:
        """Decide the unit."""
        await input.decide(self._unit)


def superstep(units: Sequence[Unit]) -> "Pregel[Any, Any, Any, Any]":
    """Compile units."""
    return Pregel(
        nodes={unit.name: _node(unit) for unit in units},
        channels={_BEGIN: EphemeralValue(Walk)},
        input_channels=_BEGIN,
        output_channels=[],
        stream_channels=[],
    )


def _node(unit: Unit) -> Any:
    node = NodeBuilder().subscribe_only(_BEGIN).do(_Step(unit)).build()
    node.writers.clear()  # it has nothing to say to LangGraph: what it decided stands on the board
    return node
