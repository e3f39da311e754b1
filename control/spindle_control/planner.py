"""Documents to plans, with a cache: the same document is often run again."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from spindle_common.digests import digest
from spindle_common.queue import compact
from spindle_control.compiler import Checked, Limits, Plan, check, plan
from spindle_control.registry import Registry
from spindle_control.settings import ControlSettings
from spindle_control.store import RunRow

_MOST = 512
_NOTHING: Mapping[str, dict[str, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class Planned:
    """A plan, the nodes for which a seed must be drawn, and both as JSON text (what the run's hash keeps)."""

    plan: Plan
    seeded: frozenset[str]
    text: str

    @classmethod
    def make(cls, plan: Plan, seeded: frozenset[str]) -> "Planned":
        """Put plan and seeds together."""
        return cls(plan, seeded, compact({"plan": plan.to_json(), "seeded": sorted(seeded)}))

    @classmethod
    def parse(cls, text: str) -> "Planned":
        """Read what `text` holds."""
        document = json.loads(text)
        return cls(Plan.from_json(document["plan"]), frozenset(document["seeded"]), text)


@dataclass(frozen=True)
class Accepted:
    """A checked document with its plan."""

    checked: Checked
    planned: Planned
    digest: str


class Planner:
    """Checks and plans against the catalog of the moment."""

    def __init__(self, registry: Registry, settings: ControlSettings) -> None:
        self._registry = registry
        self._limits = Limits(
            max_nodes=settings.max_nodes, max_bytes=settings.max_document_bytes, max_bodies=settings.max_depth
        )
        self._fuse = settings.fuse_chains
        self._cache: OrderedDict[tuple[str, str, int], Accepted] = OrderedDict()

    def accept(self, document: object, library: Mapping[str, dict[str, Any]] = _NOTHING) -> Accepted:
        """Check and plan a document; `library` holds what it calls, by "name@version".

        Raises InvalidWorkflow with every mistake.
        """
        called = digest(dict(library)) if library else ""
        key = (digest(document), called, self._registry.generation)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        catalog = self._registry.catalog()
        checked = check(document, catalog, self._limits, library)
        made = plan(checked, catalog, chains=self._fuse)
        accepted = Accepted(checked, Planned.make(made, frozenset(made.level.seeded)), key[0])
        self._cache[key] = accepted
        if len(self._cache) > _MOST:
            self._cache.popitem(last=False)
        return accepted

    def known(self, row: RunRow) -> Planned | None:
        """The plan of a run that calls nothing, if this control made it with the catalog of the moment."""
        accepted = self._cache.get((row.workflow_digest, "", self._registry.generation))
        return accepted.planned if accepted else None
