"""`spindle workflows`, and the client's methods for stored workflows, against a real control and worker."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spindle_control.cli import app
from spindle_control.cli.session import Status
from spindle_control.client import Client, SpindleProblem
from support.control import Control


@dataclass
class Done:
    status: int
    out: str
    err: str


Call = Callable[..., Awaitable[Done]]


@pytest.fixture
def spindle(staffed: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line, called in a thread of this process."""
    monkeypatch.chdir(tmp_path)

    async def call(*arguments: object) -> Done:
        texts = [str(argument) for argument in arguments]
        env = {"SPINDLE_URL": staffed.url, "COLUMNS": "160"}
        done = await asyncio.to_thread(CliRunner().invoke, app, texts, env=env)
        return Done(done.exit_code, done.stdout, done.stderr)

    return call


def greeting(word: str = "Hello", **more: Any) -> dict[str, Any]:
    inputs = {"template": f"{word}, {{name}}!", "values": {"name": {"$from": "inputs.name"}}}
    return {
        "schema": "spindle.workflow/v1",
        "name": "greeting",
        "inputs": {"name": {"type": "string", "default": "world"}},
        "nodes": {"words": {"type": "text.template@1", "inputs": inputs}},
        "outputs": {"words": {"$from": "words.text"}},
        **more,
    }


def saved(document: dict[str, Any], name: str = "greeting.json") -> str:
    Path(name).write_text(json.dumps(document))
    return name


async def test_a_workflow_is_put_listed_shown_compared_and_exported(spindle: Call) -> None:
    first = await spindle("workflows", "put", saved(greeting(description="It greets.\nAt length.")))
    assert (first.status, first.out) == (Status.OK, "greeting@1\n"), first.err
    assert (await spindle("workflows", "put", "greeting.json")).out == "greeting@1\n"
    second = await spindle("workflows", "put", saved(greeting("Hi")), "--json")
    assert json.loads(second.out)["version"] == 2
    for listed in (await spindle("workflows"), await spindle("workflows", "list")):
        assert "greeting" in listed.out
    assert json.loads((await spindle("workflows", "--json")).out)["workflows"][0]["version"] == 2
    shown = (await spindle("workflows", "show", "greeting@1")).out
    for words in ("greeting@1", "It greets.", "text.template@1", "string, default world"):
        assert words in shown
    assert "At length" in shown.partition("version")[0]
    record = json.loads((await spindle("workflows", "show", "greeting", "--json")).out)
    assert [each["version"] for each in record["versions"]] == [2, 1]
    compared = (await spindle("workflows", "diff", "greeting")).out
    for words in (
        "greeting@1 → greeting@2",
        "~ node words changed",
        "replace /nodes/words/inputs/template",
        "Hi, {name}!",
    ):
        assert words in compared
    patch = json.loads((await spindle("workflows", "diff", "greeting", 2, 1, "--json")).out)["patch"]
    assert {"op": "add", "path": "/description", "value": "It greets.\nAt length."} in patch
    assert json.loads((await spindle("workflows", "export", "greeting")).out) == greeting("Hi")
    await spindle("workflows", "export", "greeting@1", "-o", "out.json")
    assert json.loads(Path("out.json").read_text())["description"].startswith("It greets.")


async def test_a_stored_workflow_runs_by_name_unless_a_file_has_it(spindle: Call) -> None:
    for word in ("Hello", "Hi"):
        await spindle("workflows", "put", saved(greeting(word)))
    done = await spindle("run", "greeting@1", "-i", "name=Ada", "-o", "words=words.txt")
    assert done.status == Status.OK, done.err
    assert Path("words.txt").read_text() == "Hello, Ada!"
    record = json.loads((await spindle("run", "greeting", "--json")).out)
    assert (record["outputs"], record["workflow"]["version"]) == ({"words": "Hi, world!"}, 2)
    wrong = await spindle("run", "greeting", "-i", "nobody=1")
    assert (wrong.status, "no input 'nobody'" in wrong.err) == (Status.INVALID, True)
    saved(greeting("Moin"), "greeting")
    assert json.loads((await spindle("run", "greeting", "--json")).out)["outputs"] == {"words": "Moin, world!"}
    missing = await spindle("run", "nothing@3")
    assert (missing.status, "no version 3" in missing.err) == (Status.INVALID, True)


async def test_conditions_and_removal(spindle: Call) -> None:
    put = ("workflows", "put", saved(greeting()))
    digest = json.loads((await spindle(*put, "--new", "--json")).out)["digest"]
    refused = await spindle(*put, "--new")
    assert (refused.status, "no longer" in refused.err) == (Status.INVALID, True)
    saved(greeting("Hi"))
    assert (await spindle(*put, "--if-match", digest)).out == "greeting@2\n"
    assert (await spindle("workflows", "rm", "greeting", "--if-match", digest)).status == Status.INVALID
    removed = await spindle("workflows", "rm", "greeting")
    assert "greeting@2 stay" in removed.out
    assert (await spindle("workflows", "show", "greeting")).status == Status.INVALID
    assert (await spindle("run", "greeting@1")).status == Status.OK
    assert json.loads((await spindle(*put, "--json")).out)["version"] == 3
    assert json.loads((await spindle("workflows", "rm", "greeting", "--json")).out)["hidden"] is True


async def test_a_name_is_needed_and_may_be_another(spindle: Call) -> None:
    bare = greeting()
    del bare["name"]
    nameless = await spindle("workflows", "put", saved(bare))
    assert (nameless.status, "has no name" in nameless.err) == (Status.INVALID, True)
    assert (await spindle("workflows", "put", saved(greeting()), "--name", "hello")).out == "hello@1\n"
    for wrong in ("Hello", "hello@0", "hello@x", "a/b"):
        refused = await spindle("workflows", "show", wrong)
        assert (refused.status, "names no stored workflow" in refused.err) == (Status.INVALID, True)
    assert (await spindle("workflows", "export", "hello", "-o", "/nowhere/x.json")).status == Status.INVALID


async def test_the_client_speaks_of_stored_workflows(staffed: Control) -> None:
    async with Client(staffed.url) as client:
        first = await client.put_workflow("greeting", greeting(), if_new=True)
        second = await client.put_workflow("greeting", greeting("Hi"), if_match=first["digest"])
        with pytest.raises(SpindleProblem) as stale:
            await client.put_workflow("greeting", greeting("Moin"), if_match=first["digest"])
        assert (stale.value.status, stale.value.code) == (412, "precondition-failed")
        assert await client.workflow("greeting") == second
        assert await client.export_workflow("greeting", 1) == greeting()
        page = await client.workflow_versions("greeting", limit=1)
        rest = await client.workflow_versions("greeting", after=page["next"])
        assert [each["version"] for each in page["versions"] + rest["versions"]] == [2, 1]
        assert (await client.diff_workflow("greeting", 1, 2))["nodes"]["changed"] == ["words"]
        record = await client.run_and_wait("greeting@1", {"name": "Ada"})
        assert record["outputs"] == {"words": "Hello, Ada!"}
        assert (await client.workflows(limit=1))["workflows"][0]["name"] == "greeting"
        assert (await client.hide_workflow("greeting", if_match=second["digest"]))["hidden"] is True
        assert (await client.workflows())["workflows"] == []
