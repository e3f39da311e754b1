"""Tasks are convex: whatever the graph, they can all run, one after another, each needing only what others gave."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spindle_control.compiler.fusion import MAX_COPIES, HandleCrosses, Vertex
from spindle_control.compiler.order import circle_in, components, topological
from spindle_control.compiler.tasks import fuse

GPU, CPU, ASYNC = frozenset({"gpu"}), frozenset({"cpu"}), frozenset({"async"})
EITHER = GPU | CPU


def choose(offered):
    return "async" if not offered else "gpu" if "gpu" in offered else min(offered)


def light(*needs, pure=True):
    return Vertex(frozenset(), needs, pure=pure)


def node(queues, *needs, handles=(), pure=True):
    return Vertex(queues, tuple(dict.fromkeys((*needs, *handles))), tuple(handles), pure)


def shape(vertices):
    return [(task.queue, task.nodes) for task in fuse(vertices, choose)]


def test_a_chain_on_one_queue_is_one_task():
    assert shape([node(CPU), node(CPU, 0), node(CPU, 1)]) == [("cpu", (0, 1, 2))]


def test_a_chain_over_two_queues_is_cut_where_the_queue_changes():
    assert shape([node(CPU), node(CPU, 0), node(GPU, 1), node(GPU, 2)]) == [("cpu", (0, 1)), ("gpu", (2, 3))]


def test_branches_stay_apart():
    assert shape([node(CPU), node(CPU, 0), node(CPU, 0), node(CPU, 1, 2)]) == [("cpu", (at,)) for at in range(4)]


def test_light_nodes_join_each_consumer():
    assert shape([light(), node(GPU, 0), node(CPU, 0)]) == [("gpu", (0, 1)), ("cpu", (0, 2))]


def test_a_light_node_between_queues_joins_the_later():
    assert shape([node(GPU), light(0), node(CPU, 1)]) == [("gpu", (0,)), ("cpu", (1, 2))]


def test_a_light_node_does_not_break_a_chain():
    assert shape([node(CPU), light(0), light(), node(CPU, 1, 2)]) == [("cpu", (0, 1, 2, 3))]


def test_light_nodes_that_nothing_uses_take_an_async_slot():
    assert shape([light(), light(0), light(1)]) == [("async", (0, 1, 2))]
    assert shape([node(GPU), light(0)]) == [("gpu", (0,)), ("async", (1,))]


def test_a_light_node_that_many_use_is_a_task_of_its_own():
    vertices = [light(), light(0), *(node(CPU, 1) for _ in range(MAX_COPIES + 1))]
    assert shape(vertices)[0] == ("async", (0, 1))
    assert all(len(nodes) == 1 for _, nodes in shape(vertices)[1:])
    assert len(shape(vertices[:-1])) == MAX_COPIES


def test_a_light_node_that_differs_each_time_has_one_home():
    assert shape([light(pure=False), node(CPU, 0), node(GPU, 0)]) == [("async", (0,)), ("cpu", (1,)), ("gpu", (2,))]
    assert shape([light(pure=False), node(CPU, 0)]) == [("cpu", (0, 1))]


def test_a_shared_light_node_inside_a_chain_stays_there():
    vertices = [node(CPU), light(0), node(CPU, 0, 1), *(node(GPU, 1) for _ in range(MAX_COPIES + 1))]
    assert_runs(vertices)


def test_handles_keep_nodes_together():
    vertices = [node(GPU), node(GPU, handles=[0]), node(CPU, 1), node(GPU, handles=[1])]
    assert shape(vertices) == [("gpu", (0, 1, 3)), ("cpu", (2,))]


def test_a_node_between_handles_joins_where_it_can():
    assert shape([node(GPU), node(EITHER, 0), node(GPU, 1, handles=[0])]) == [("gpu", (0, 1, 2))]


def test_handles_decide_the_queue():
    assert shape([node(EITHER), node(CPU, handles=[0])]) == [("cpu", (0, 1))]


def test_a_pure_producer_is_made_again():
    vertices = [node(GPU), node(GPU, handles=[0]), node(CPU, 1), node(GPU, 2, handles=[0])]
    assert shape(vertices) == [("gpu", (0, 1)), ("cpu", (2,)), ("gpu", (0, 3))]


def test_the_smallest_producer_is_made_again():
    encode, sample, decode = node(GPU), node(GPU, handles=[0]), node(GPU, handles=[1])
    upscale, again, refine = node(CPU, 2), node(GPU, 3), node(GPU, handles=[0, 4])
    tasks = shape([encode, sample, decode, upscale, again, refine])
    assert tasks == [("gpu", (0, 1, 2)), ("cpu", (3,)), ("gpu", (0, 4, 5))]


def test_what_is_made_again_keeps_a_home_if_its_values_are_used():
    vertices = [node(GPU), node(GPU, handles=[0]), node(CPU, 1), node(GPU, 2, handles=[0]), node(CPU, 0)]
    tasks = shape(vertices)
    assert ("gpu", (0,)) in tasks
    assert_runs(vertices)


def test_a_producer_that_differs_each_time_cannot_be_made_again():
    with pytest.raises(HandleCrosses) as caught:
        shape([node(GPU, pure=False), node(CPU, 0), node(GPU, 1, handles=[0])])
    assert (caught.value.source, caught.value.target, caught.value.between) == (0, 2, 1)


def test_handles_between_queues_that_never_meet():
    with pytest.raises(HandleCrosses) as caught:
        shape([node(GPU), node(CPU, handles=[0])])
    assert (caught.value.source, caught.value.target, caught.value.between) == (0, 1, None)


def test_light_nodes_may_deal_in_handles():
    assert shape([light(), Vertex(frozenset(), (0,), (0,)), node(CPU, 1)]) == [("async", (0, 1)), ("cpu", (2,))]
    assert shape([node(GPU), Vertex(frozenset(), (0,), (0,)), node(GPU, handles=[1])]) == [("gpu", (0, 1, 2))]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    kinds = st.sampled_from([frozenset(), frozenset(), GPU, CPU, ASYNC, EITHER])
    vertices = []
    for at in range(count):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        some = needs and draw(st.integers(0, 3)) == 0
        handles = draw(st.sets(st.sampled_from(sorted(needs)), max_size=2)) if some else ()
        pure = draw(st.integers(0, 4)) > 0
        vertices.append(Vertex(draw(kinds), tuple(sorted(needs)), tuple(sorted(handles)), pure))
    return vertices


@settings(max_examples=400, deadline=None)
@given(graphs())
@example([node(GPU), node(CPU, 0), node(GPU, 1, handles=[0]), light(1), node(CPU, 3, 0)])
def test_any_graph(vertices):
    try:
        assert_runs(vertices)
    except HandleCrosses as error:
        crossing = error
    else:
        return
    assert crossing.source in vertices[crossing.target].handles


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 250))
def test_larger_graphs(seed, count):
    rng = random.Random(seed)
    kinds = [frozenset(), frozenset(), GPU, CPU, EITHER]
    vertices = []
    for at in range(count):
        needs = rng.sample(range(at), min(at, rng.choice([0, 1, 1, 2, 6])))
        vertices.append(Vertex(rng.choice(kinds), tuple(needs), pure=rng.random() > 0.1))
    assert_runs(vertices)


def assert_runs(vertices):
    tasks = fuse(vertices, choose)
    assert {at for task in tasks for at in task.nodes} == set(range(len(vertices))), "every node is in a task"
    for task in tasks:
        assert_sound(task, vertices)
    assert_copies(tasks, vertices)
    assert_all_end(tasks, vertices)
    assert_no_circle(tasks, vertices)


def assert_sound(task, vertices):
    inside = set(task.nodes)
    assert list(task.nodes) == sorted(inside), "its order is one in which it can run"
    assert set(task.own) <= inside
    assert task.own
    for at in task.nodes:
        assert set(vertices[at].handles) <= inside, "handles stay inside"
        assert not vertices[at].queues or task.queue in vertices[at].queues, "each node may run there"


def assert_copies(tasks, vertices):
    owners = [at for task in tasks for at in task.own]
    assert len(owners) == len(set(owners)), "a node has one owner at most"
    makers = {other for vertex in vertices for other in vertex.handles}
    for at, vertex in enumerate(vertices):
        copies = sum(at in task.nodes for task in tasks)
        if copies > 1:
            assert vertex.pure, "what differs each time runs once"
            assert not vertex.queues or at in makers, "only light nodes and makers of handles are copied"
            assert at in makers or copies <= MAX_COPIES + 1


def assert_all_end(tasks, vertices):
    done: set[int] = set()
    waiting = list(tasks)
    while waiting:
        ready = [task for task in waiting if outside(task, vertices) <= done]
        assert ready, "some task can always run"
        for task in ready:
            done.update(task.nodes)
            waiting.remove(task)


def assert_no_circle(tasks, vertices):
    owner = {at: number for number, task in enumerate(tasks) for at in task.own}
    edges = [{owner[at] for at in outside(task, vertices)} for task in tasks]
    assert len(topological(edges)) == len(tasks)


def outside(task, vertices):
    return {other for at in task.nodes for other in vertices[at].needs} - set(task.nodes)


EDGES = st.integers(1, 8).flatmap(
    lambda count: st.lists(st.sets(st.integers(0, count - 1)), min_size=count, max_size=count).map(list)
)


@given(EDGES)
def test_components_are_what_reaches_each_other(edges):
    def reached(start):
        found, waiting = set(), [start]
        while waiting:
            for other in edges[waiting.pop()]:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    reach = [reached(at) for at in range(len(edges))]
    found = components(edges)
    assert sorted(at for component in found for at in component) == list(range(len(edges)))
    for component in found:
        for one in component:
            mutual = {other for other in reach[one] if one in reach[other]} | {one}
            assert mutual == set(component)
        if len(component) > 1:
            circle = circle_in(component, edges)
            assert all(after in edges[at] for at, after in zip(circle, [*circle[1:], circle[0]], strict=True))


def test_deep_graphs_need_no_recursion():
    edges = [[at + 1] for at in range(50_000)] + [[0]]
    assert len(components(edges)) == 1
    assert topological(edges) == []
