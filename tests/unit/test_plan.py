import json

import pytest

from spindle_common.contracts import TaskNode
from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Plan, check, plan
from support.compiler_catalog import POSTER, TINY, catalog, noop, workflow

CATALOG = catalog()
RECIPE = {"model": "tiny", "digest": TINY, "adapters": []}


def planned(document, found_in=CATALOG):
    return plan(check(document, found_in), found_in)


def test_the_poster():
    made = planned(POSTER)
    assert [(task.id, task.queue, list(task.nodes)) for task in made.tasks] == [
        ("image", "gpu", ["prompt", "image"]),
        ("big", "cpu", ["big"]),
    ]
    image, big = made.tasks
    assert (image.needs, image.inputs, image.starts) == ((), ("seed", "subject"), ("prompt",))
    assert (big.needs, big.inputs, big.starts) == (("image",), ("seed",), ("big",))
    assert big.nodes["big"] == {
        "type": "image.resize@1",
        "inputs": {"image": {"$from": "image.image"}, "scale": 2},
        "when": "inputs.seed > 0",
        "needs": ["image"],
        "timeout": 90.0,
        "max_attempts": 3,
        "backoff": 0.5,
    }
    assert made.node_task == {"prompt": ("image",), "image": ("image",), "big": ("big",)}
    assert made.outputs == POSTER["outputs"]
    assert made.on_failure == "continue"


def test_nodes_are_what_the_contract_says():
    for task in planned(POSTER).tasks:
        for body in task.nodes.values():
            assert TaskNode.model_validate(body).type == body["type"]


def test_a_plan_is_json():
    made = planned(POSTER)
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_models_are_pinned():
    generate = {"type": "image.generate@1", "inputs": {"prompt": "x"}}
    nodes = {
        "missing": generate,
        "named": {"type": "image.generate@1", "inputs": {"prompt": "x", "model": "large"}},
        "recipe": {"type": "image.generate@1", "inputs": {"prompt": "x", "model": {"model": "tiny"}}},
        "given": {"type": "image.generate@1", "inputs": {"prompt": "x", "model": {"$from": "inputs.model"}}},
        "required": {"type": "model.load@1"},
    }
    made = planned(workflow(nodes, inputs={"model": {"type": "string"}}))
    found = {path: body["inputs"]["model"] for task in made.tasks for path, body in task.nodes.items()}
    assert found == {
        "missing": RECIPE,
        "named": {"model": "large", "digest": "sha256:" + "2" * 64, "adapters": []},
        "recipe": RECIPE,
        "given": {"$from": "inputs.model"},
        "required": RECIPE,
    }
    assert made.workflow["nodes"]["missing"]["inputs"] == {"prompt": "x", "model": RECIPE}
    assert generate["inputs"] == {"prompt": "x"}, "the document itself stays as it was"


def test_without_a_default_the_model_is_left_out():
    nodes = {"a": {"type": "image.generate@1", "inputs": {"prompt": "x"}}}
    made = planned(workflow(nodes), catalog(default_model=None))
    assert made.tasks[0].nodes["a"]["inputs"] == {"prompt": "x"}


def test_a_handle_says_itself_which_model_made_it():
    nodes = {
        "c": {"type": "text.encode@1", "inputs": {"prompt": "x", "model": "large"}},
        "s": {"type": "image.sample@1", "inputs": {"conditioning": {"$from": "c.conditioning"}}},
    }
    (task,) = planned(workflow(nodes)).tasks
    assert "model" not in task.nodes["s"]["inputs"]
    assert task.nodes["c"]["inputs"]["model"]["model"] == "large"


def test_a_pinned_workflow_plans_alike():
    made = planned(POSTER)
    assert planned(made.workflow).tasks == made.tasks
    assert planned(made.workflow).digest == made.digest


def test_the_digest_is_of_everything_that_matters():
    made = planned(POSTER)
    assert planned(json.loads(json.dumps(POSTER))).digest == made.digest
    other_queue = catalog(live=("cpu",))
    other_model = catalog(models={**CATALOG.models, "tiny": CATALOG.models["large"]})
    assert len({made.digest, planned(POSTER, other_queue).digest, planned(POSTER, other_model).digest}) == 3


@pytest.mark.parametrize(
    ("live", "named", "queue"),
    [
        (("gpu", "cpu"), None, "gpu"),
        (("cpu",), None, "cpu"),
        ((), None, "gpu"),
        (("gpu", "cpu"), "cpu", "cpu"),
        (("cpu",), "gpu", "gpu"),
    ],
)
def test_queues(live, named, queue):
    node = {"type": "image.generate@1", "inputs": {"prompt": "x"}} | ({"queue": named} if named else {})
    assert planned(workflow({"a": node}), catalog(live=live)).tasks[0].queue == queue


def test_ids_are_of_nodes_that_no_other_task_owns():
    prompt = {"type": "text.template@1", "inputs": {"template": "x"}}
    uses = {"type": "tts.say@1", "inputs": {"text": {"$from": "prompt.text"}}}
    made = planned(workflow({"prompt": prompt, "a": uses, "b": uses}))
    assert [task.id for task in made.tasks] == ["a", "b"]
    assert made.node_task["prompt"] == ("a", "b")


def test_only_references_make_a_port_optional():
    scale = {"type": "image.resize@1", "inputs": {"image": {"$from": "p.image"}, "scale": {"$from": "inputs.by"}}}
    nodes = {"p": {"type": "image.generate@1", "inputs": {"prompt": "x", "steps": 2}}, "a": scale}
    made = planned(workflow(nodes, inputs={"by": {"type": "number", "optional": True}}))
    bodies = {path: body for task in made.tasks for path, body in task.nodes.items()}
    assert bodies["a"]["optional"] == ["scale"]
    assert "optional" not in bodies["p"]


def test_order_without_data():
    made = planned(workflow({"a": noop(), "b": noop("a", after=["a", "c"]), "c": noop()}))
    assert made.tasks[-1].nodes["b"]["needs"] == ["a", "c"]
    assert made.tasks[-1].nodes["b"]["after"] == ["a", "c"]


def test_timeouts():
    def timeout(node):
        made = planned(workflow({"p": {"type": "image.generate@1", "inputs": {"prompt": "x"}}, "a": node}))
        (body,) = [task.nodes["a"] for task in made.tasks if "a" in task.nodes]
        return body.get("timeout")

    resize = {"type": "image.resize@1", "inputs": {"image": {"$from": "p.image"}}}
    assert timeout(resize) == 60
    assert timeout(resize | {"timeout": "2m"}) == 120
    assert timeout(resize | {"timeout": {"run": "3s", "queue": "1h"}}) == 3
    assert timeout(resize | {"timeout": {"queue": "1h"}}) == 60
    assert timeout(noop()) is None


def test_silence_is_bounded_in_the_node_and_the_wait_for_a_worker_in_the_task():
    def task(*timeouts):
        nodes = {f"n{i}": noop(*[f"n{i - 1}"][: min(i, 1)], timeout=said) for i, said in enumerate(timeouts)}
        (made,) = planned(workflow(nodes)).tasks
        return made

    one = task({"idle": "5s", "run": "1m", "queue": "2h"})
    assert (one.nodes["n0"]["idle"], one.nodes["n0"]["timeout"], one.queue_timeout) == (5, 60, 7200)
    assert "timeout" not in task({"idle": "5s"}).nodes["n0"]
    assert task({"queue": "2h"}, {"queue": "3m"}, "1s").queue_timeout == 180, "the least patient node's"
    assert task("1s").queue_timeout == 0, "any time"


def test_the_catalog_may_change_between_check_and_plan():
    nodes = {
        "c": {"type": "text.encode@1", "inputs": {"prompt": "x"}},
        "s": {"type": "image.sample@1", "inputs": {"conditioning": {"$from": "c.conditioning"}}},
    }
    checked = check(workflow(nodes), CATALOG)
    moved = catalog(queues=dict(CATALOG.queues) | {"image.sample@1": frozenset({"cpu"})})
    with pytest.raises(InvalidWorkflow) as caught:
        plan(checked, moved)
    assert caught.value.errors[0].code == "handle-crosses"


def test_a_thousand_nodes_share_light_ones_without_exploding():
    nodes = {"t": {"type": "text.template@1", "inputs": {"template": "x"}}}
    nodes |= {f"n{at}": {"type": "tts.say@1", "inputs": {"text": {"$from": "t.text"}}} for at in range(999)}
    made = planned(workflow(nodes))
    assert sum(len(task.nodes) for task in made.tasks) == 1000


def test_levels_that_differ_only_in_what_a_flow_waits_for_are_not_alike():
    body = {"nodes": {"v": noop()}, "outputs": {"v": {"$from": "v.value"}}}
    free = {"a": noop(), "m": {"type": "flow.map@1", "over": [1], "body": body}}
    waits = {**free, "m": {**free["m"], "over": {"$from": "a.value"}}}
    made = [plan(check(workflow(nodes), catalog()), catalog()).level.digest for nodes in (free, waits)]
    assert made[0] != made[1], "built graphs are shared by this digest"


def test_who_comes_after_a_node_may_read_it_too():
    read = noop(after=["a"]) | {"inputs": {"in": {"$first": [{"$from": "b.value"}, {"$from": "a.value"}]}}}
    made = plan(check(workflow({"a": noop(), "b": noop(), "c": read}), catalog()), catalog())
    found = next(node for task in made.tasks for id_, node in task.nodes.items() if id_ == "c")
    assert found["after"] == ["a"], "where `a` fails, `c` does not run, though it would read `b` first"
