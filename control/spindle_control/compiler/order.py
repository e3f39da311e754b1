"""Orders and circles of a graph whose nodes are integers, without recursion."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush


def topological(needs: Sequence[Iterable[int]]) -> list[int]:
    """Return an order in which everything follows what it needs, by number where free; what is on or behind a
    circle is left out.
    """
    waiting = [0] * len(needs)
    followers: list[list[int]] = [[] for _ in needs]
    for at, needed in enumerate(needs):
        for other in set(needed):
            waiting[at] += 1
            followers[other].append(at)
    ready = [at for at, count in enumerate(waiting) if count == 0]
    heapify(ready)
    order = []
    while ready:
        at = heappop(ready)
        order.append(at)
        for follower in followers[at]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heappush(ready, follower)
    return order


def components(edges: Sequence[Iterable[int]]) -> list[list[int]]:
    """Return the strongly connected components (Tarjan, 1972), each sorted."""
    walk = _Walk(edges)
    for root in range(len(edges)):
        if walk.index[root] < 0:
            walk.run(root)
    return walk.found


class _Walk:
    def __init__(self, edges: Sequence[Iterable[int]]) -> None:
        self.edges = edges
        self.index = [-1] * len(edges)
        self.low = [0] * len(edges)
        self.open = [False] * len(edges)
        self.stack: list[int] = []
        self.found: list[list[int]] = []
        self.count = 0

    def _enter(self, at: int) -> None:
        self.index[at] = self.low[at] = self.count
        self.count += 1
        self.stack.append(at)
        self.open[at] = True

    def run(self, root: int) -> None:
        self._enter(root)
        path = [(root, iter(self.edges[root]))]
        while path:
            at, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                self._leave(at)
                if path:
                    above = path[-1][0]
                    self.low[above] = min(self.low[above], self.low[at])
            elif self.index[following] < 0:
                self._enter(following)
                path.append((following, iter(self.edges[following])))
            elif self.open[following]:
                self.low[at] = min(self.low[at], self.index[following])

    def _leave(self, at: int) -> None:
        if self.low[at] != self.index[at]:
            return
        members = []
        while True:
            member = self.stack.pop()
            self.open[member] = False
            members.append(member)
            if member == at:
                break
        self.found.append(sorted(members))


def circle_in(component: Sequence[int], edges: Sequence[Iterable[int]]) -> list[int]:
    """Return one shortest circle through the first member of a strongly connected component."""
    inside, start = set(component), component[0]
    came_from: dict[int, int] = {}
    level = [start]
    while level:
        following = []
        for at in level:
            for other in edges[at]:
                if other == start:
                    return _trace(came_from, start, at)
                if other in inside and other not in came_from:
                    came_from[other] = at
                    following.append(other)
        level = following
    return [start]


def _trace(came_from: dict[int, int], start: int, at: int) -> list[int]:
    path = [at]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
