"""Which nodes form a task: convex sets, so that the graph of tasks has no circle.

Nodes are numbered in an order in which they could run. Three steps make the tasks:

1. Nodes joined by handles belong together, for a handle lives in one worker's memory. Joining them may put what lies
   on a path between them on a circle (sample → decode → upscale elsewhere → encode → sample), so the strongly
   connected components of the joined graph become groups. Where a group has no queue that all of its nodes can use,
   a deterministic producer is cut off: each consumer's group makes its handle again. The smallest cones go first.
2. A group is fused with the one before it if neither has another neighbour and both run on the same queue.
3. Light nodes (no queue) are copied into each task that uses them. One that none uses is a task of its own; so is
   one that more than 32 would copy, or that gives something else each time, unless a single task both feeds and
   uses it: then it belongs there.

Sets of groups are bit masks: the union of two of a thousand costs 50 ns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spindle_control.compiler.order import components

MAX_COPIES = 32
MAX_REMADE = 10_000


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node as fusion sees it. `queues` are those on which it may run (none: light), `needs` the numbers of what it
    waits for, `handles` those of them that hand it a handle, `pure` whether it always gives the same. `flow`: control
    carries it out, so that nothing can be fused with it.
    """

    queues: frozenset[str]
    needs: tuple[int, ...] = ()
    handles: tuple[int, ...] = ()
    pure: bool = True
    flow: bool = False


@dataclass(slots=True)
class Group:
    """A task in the making: its own nodes, those made again in it for their handles, and where it may run."""

    own: list[int]
    remade: frozenset[int] = frozenset()
    queues: frozenset[str] | None = None

    @property
    def solid(self) -> frozenset[int]:
        """All of its nodes but the light copies."""
        return self.remade.union(self.own)


class HandleCrosses(ValueError):
    """A handle would have to leave the worker that made it, from node `source` to node `target`."""

    def __init__(self, source: int, target: int, between: int | None) -> None:
        super().__init__(f"handle {source} -> {target}")
        self.source, self.target, self.between = source, target, between


def group(vertices: Sequence[Vertex]) -> list[Group]:
    """Group the nodes that have a queue or deal in handles. Raises HandleCrosses."""
    held = {other for vertex in vertices for other in vertex.handles}
    heavy = [bool(vertex.queues or vertex.handles) or at in held for at, vertex in enumerate(vertices)]
    if not held:
        return [Group([at], queues=vertex.queues) for at, vertex in enumerate(vertices) if heavy[at]]
    return _Grouping(vertices, heavy).run()


class _Grouping:
    def __init__(self, vertices: Sequence[Vertex], heavy: Sequence[bool]) -> None:
        self._vertices, self._heavy = vertices, heavy
        self._cones = self._all_cones()
        self._cut: set[int] = set()

    def run(self) -> list[Group]:
        everything = range(len(self._vertices))
        for members in self._join(everything, self._cut):
            if self._queues(members) == frozenset():
                self._cut |= self._cut_for(members)
        groups = [self._made(members) for members in self._join(everything, self._cut)]
        if sum(len(made.remade) for made in groups) > MAX_REMADE:
            raise self._crossing(max(groups, key=lambda made: len(made.remade)).own)
        return [made for made in groups if made.own and not self._is_spare(made)]

    def _all_cones(self) -> list[set[int] | None]:
        """For each node, what must be made again with it: itself and the makers of its handles; None if not pure."""
        cones: list[set[int] | None] = []
        for at, vertex in enumerate(self._vertices):
            makers = [cones[other] for other in vertex.handles]
            pure = vertex.pure and all(cone is not None for cone in makers)
            cones.append({at}.union(*(cone for cone in makers if cone)) if pure else None)
        return cones

    def _join(self, members: Iterable[int], cut: set[int]) -> list[list[int]]:
        """Join nodes by the handles that are not cut, then whatever that puts on a circle."""
        members = list(members)
        leader = {at: at for at in members}
        for at in members:
            for other in self._vertices[at].handles:
                if other in leader and other not in cut:
                    _unite(leader, at, other)
        roots = sorted({_find(leader, at) for at in members})
        number = {root: at for at, root in enumerate(roots)}
        edges: list[set[int]] = [set() for _ in roots]
        joined: list[list[int]] = [[] for _ in roots]
        for at in members:
            mine = number[_find(leader, at)]
            joined[mine].append(at)
            edges[mine].update(number[_find(leader, other)] for other in self._vertices[at].needs if other in leader)
        return [sorted(at for one in component for at in joined[one]) for component in components(edges)]

    def _queues(self, members: Iterable[int]) -> frozenset[str] | None:
        """The queues on which all of these can run; None if any will do."""
        common: frozenset[str] | None = None
        for at in members:
            queues = self._vertices[at].queues
            if queues:
                common = queues if common is None else common & queues
        return common

    def _cut_for(self, members: list[int]) -> set[int]:
        """Choose the fewest and smallest producers to cut off, so that each part has a queue. Raises HandleCrosses."""
        makers = {other for at in members for other in self._vertices[at].handles}
        able = [(len(cone), at) for at in makers if (cone := self._cones[at]) is not None]
        order = [at for _, at in sorted(able)]
        sizes = [1 << power for power in range(len(order).bit_length())]
        enough = next((size for size in [*sizes, len(order)] if self._works(members, set(order[:size]))), 0)
        if not enough:
            raise self._crossing(members)
        too_few = enough // 2
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._works(members, set(order[:middle])):
                enough = middle
            else:
                too_few = middle
        return set(order[:enough])

    def _works(self, members: list[int], cut: set[int]) -> bool:
        return all(self._queues([*part, *self._remade(part, cut)]) != frozenset() for part in self._join(members, cut))

    def _remade(self, members: Iterable[int], cut: set[int]) -> set[int]:
        """What a part must make again: the cones of those cut off whose handles it uses."""
        inside = set(members)
        used = {other for at in inside for other in self._vertices[at].handles if other in cut}
        return set().union(*(self._cones[other] or () for other in used)) - inside

    def _made(self, members: list[int]) -> Group:
        remade = self._remade(members, self._cut)
        own = [at for at in members if self._heavy[at]]
        return Group(own, frozenset(remade), self._queues([*own, *remade]) or frozenset())

    def _is_spare(self, made: Group) -> bool:
        """Whether a group holds just a node that is cut off and made again wherever it is used."""
        (only, *more) = made.own
        if more or only not in self._cut:
            return False
        return not any(only in vertex.needs and only not in vertex.handles for vertex in self._vertices[only + 1 :])

    def _crossing(self, members: list[int]) -> HandleCrosses:
        """Say which handle cannot stay: between nodes that share no queue, or around a node that cannot join them."""
        pairs = [(other, at) for at in members for other in self._vertices[at].handles]
        for source, target in pairs:
            if self._queues([source, target]) == frozenset():
                return HandleCrosses(source, target, None)
        return self._around(members, pairs)

    def _around(self, members: list[int], pairs: list[tuple[int, int]]) -> HandleCrosses:
        queues = self._queues(sorted({at for pair in pairs for at in pair})) or frozenset()
        odd = [at for at in members if self._vertices[at].queues and not self._vertices[at].queues & queues]
        for between in odd:
            before, after = self._reaching(between), self._reached(between)
            for source, target in pairs:
                if source in before and target in after:
                    return HandleCrosses(source, target, between)
        return HandleCrosses(*pairs[-1], odd[0] if odd else None)

    def _reaching(self, end: int) -> set[int]:
        """What an end waits for, by any way."""
        found, waiting = {end}, [end]
        while waiting:
            for other in self._vertices[waiting.pop()].needs:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    def _reached(self, start: int) -> set[int]:
        """What waits for a start, by any way; numbers follow the order."""
        found = {start}
        for at in range(start + 1, len(self._vertices)):
            if not found.isdisjoint(self._vertices[at].needs):
                found.add(at)
        return found


def _find(leader: dict[int, int], at: int) -> int:
    while leader[at] != at:
        leader[at] = leader[leader[at]]
        at = leader[at]
    return at


def _unite(leader: dict[int, int], one: int, other: int) -> None:
    left, right = _find(leader, one), _find(leader, other)
    leader[max(left, right)] = min(left, right)
