"""From groups to tasks: chains fused, light nodes copied to where they are used (steps 2 and 3 of `fusion`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spindle_control.compiler.fusion import MAX_COPIES, Group, Vertex, group


@dataclass(frozen=True, slots=True)
class Task:
    """Numbers of the nodes of a task, in an order in which they can run; `own` are those that no other task owns."""

    own: tuple[int, ...]
    nodes: tuple[int, ...]
    queue: str


def fuse(vertices: Sequence[Vertex], choose: Callable[[frozenset[str]], str], *, chains: bool = True) -> list[Task]:
    """Make the tasks; `choose` picks a queue among several (or none: light work). Raises HandleCrosses."""
    made = _Making(vertices, group(vertices), choose)
    made.add_lone_lights()
    if chains:
        made.fuse_chains()
    made.settle_shared_lights()
    return made.tasks()


class _Making:
    def __init__(
        self, vertices: Sequence[Vertex], groups: list[Group], choose: Callable[[frozenset[str]], str]
    ) -> None:
        self._vertices, self._groups, self._choose = vertices, groups, choose
        self._queue = [choose(one.queues or frozenset()) for one in groups]
        self._home = {at: number for number, one in enumerate(groups) for at in one.own}
        solid = {at for one in groups for at in one.solid}
        self._light = [at not in solid and at not in self._home for at in range(len(vertices))]
        self._users: list[list[int]] = [[] for _ in vertices]
        for at, vertex in enumerate(vertices):
            for other in vertex.needs:
                self._users[other].append(at)

    def add_lone_lights(self) -> None:
        """Give each light node that nothing uses, or that control's own nodes use, a group of its own."""
        for at, light in enumerate(self._light):
            if light and (not self._users[at] or any(self._vertices[user].flow for user in self._users[at])):
                self._settle(at, len(self._groups))

    def _settle(self, at: int, number: int) -> None:
        """Make a light node an own node of a group; a number beyond the last makes a new one."""
        self._light[at] = False
        self._home[at] = number
        if number == len(self._groups):
            self._groups.append(Group([at], queues=frozenset()))
            self._queue.append(self._choose(frozenset()))
        else:
            self._groups[number].own.append(at)

    def _feeding(self) -> list[int]:
        """For each light node, the groups that feed it through light nodes alone."""
        feeding = [0] * len(self._vertices)
        for at, vertex in enumerate(self._vertices):
            if self._light[at]:
                for other in vertex.needs:
                    feeding[at] |= feeding[other] if self._light[other] else 1 << self._home[other]
        return feeding

    def _before(self) -> list[int]:
        """For each group, those that it waits for."""
        feeding = self._feeding()
        before = []
        for number, one in enumerate(self._groups):
            solid, mask = one.solid, 0
            for at in solid:
                for other in self._vertices[at].needs:
                    if other not in solid:
                        mask |= feeding[other] if self._light[other] else 1 << self._home[other]
            before.append(mask & ~(1 << number))
        return before

    def fuse_chains(self) -> None:
        """Fuse each group with the one before it where neither has another neighbour, on the same queue."""
        before = self._before()
        seen = shared = 0
        for mask in before:
            shared |= seen & mask
            seen |= mask
        into = list(range(len(self._groups)))
        for number, mask in enumerate(before):
            previous = mask.bit_length() - 1
            if mask.bit_count() == 1 and not mask & shared and self._queue[previous] == self._queue[number]:
                into[number] = previous
        for number in range(len(into)):
            while into[number] != into[into[number]]:
                into[number] = into[into[number]]
        if any(number != target for number, target in enumerate(into)):
            self._merge(into)

    def _merge(self, into: list[int]) -> None:
        kept = sorted(set(into))
        number = {old: new for new, old in enumerate(kept)}
        merged = [Group([], queues=self._groups[old].queues) for old in kept]
        for old, target in enumerate(into):
            merged[number[target]].own.extend(self._groups[old].own)
            merged[number[target]].remade |= self._groups[old].remade
        for one in merged:
            one.own.sort()
            one.remade -= frozenset(one.own)
        self._queue = [self._queue[old] for old in kept]
        self._groups = merged
        self._home = {at: at_group for at_group, one in enumerate(merged) for at in one.own}

    def settle_shared_lights(self) -> None:
        """Give light nodes that too many tasks would copy, or that differ each time, one home."""
        feeding = self._feeding()
        using = [0] * len(self._vertices)
        remakers = self._remakers()
        for at in range(len(self._vertices) - 1, -1, -1):
            if not self._light[at]:
                continue
            for user in self._users[at]:
                using[at] |= using[user] if self._light[user] else self._holders(user, remakers)
            count = using[at].bit_count()
            if count > MAX_COPIES or (count > 1 and not self._vertices[at].pure):
                both = feeding[at] & using[at]
                self._settle(at, both.bit_length() - 1 if both else len(self._groups))

    def _remakers(self) -> dict[int, int]:
        masks: dict[int, int] = {}
        for number, one in enumerate(self._groups):
            for at in one.remade:
                masks[at] = masks.get(at, 0) | 1 << number
        return masks

    def _holders(self, at: int, remakers: dict[int, int]) -> int:
        home = 1 << self._home[at] if at in self._home else 0
        return home | remakers.get(at, 0)

    def tasks(self) -> list[Task]:
        """Put each group's light nodes in, and everything in order."""
        made = []
        for number, one in enumerate(self._groups):
            nodes = self._with_lights(one.solid)
            made.append(Task(tuple(sorted(one.own)), tuple(sorted(nodes)), self._queue[number]))
        return sorted(made, key=lambda task: task.own[0])

    def _with_lights(self, solid: frozenset[int]) -> set[int]:
        nodes, waiting = set(solid), list(solid)
        while waiting:
            for other in self._vertices[waiting.pop()].needs:
                if self._light[other] and other not in nodes:
                    nodes.add(other)
                    waiting.append(other)
        return nodes
