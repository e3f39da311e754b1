"""The command line without a server: reading documents, inputs and outputs, messages and exit statuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console
from typer.testing import CliRunner

from spindle_control.cli import app, document
from spindle_control.cli.inputs import media_type, read_inputs
from spindle_control.cli.outputs import artifacts_in, read_targets
from spindle_control.cli.panels import problem_panel, run_view, short, size
from spindle_control.cli.progress import view_of
from spindle_control.cli.session import Refusal, Status, status_of
from spindle_control.client import Client, SpindleProblem

WORKFLOW: dict[str, Any] = {
    "schema": "spindle.workflow/v1",
    "name": "poster",
    "inputs": {
        "subject": {"type": "string"},
        "seed": {"type": "integer"},
        "loose": {},
        "kind": {"enum": ["1", "two"]},
        "photo": {"artifact": "image/*"},
        "photos": {"type": "array", "items": {"artifact": "image/*"}},
    },
    "nodes": {"a": {"type": "test.noop@1"}},
    "outputs": {"image": {"$from": "a.value"}, "text": {"$from": "a.value"}},
}
ARTIFACT = {"digest": "sha256:" + "a" * 64, "media_type": "image/png", "size": 2048}
NOWHERE = "http://127.0.0.1:9"


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*arguments, "--url", NOWHERE], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def shown(thing: object) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


@pytest.fixture
def workflow_file(tmp_path: Path) -> Path:
    path = tmp_path / "poster.json"
    path.write_text(json.dumps(WORKFLOW))
    return path


# Documents


def test_a_document_and_a_submission_are_read(tmp_path: Path, workflow_file: Path) -> None:
    assert document.read(str(workflow_file)).workflow == WORKFLOW
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps({"workflow": WORKFLOW, "inputs": {"seed": 3}}))
    assert document.read(str(whole)) == document.Submission(WORKFLOW, {"seed": 3})


def test_a_picture_gives_back_the_workflow_that_made_it(tmp_path: Path) -> None:
    info = PngInfo()
    kept = {"schema": "spindle.provenance/v1", "workflow": WORKFLOW, "inputs": {"seed": 3}, "run": "r"}
    info.add_itxt("spindle", json.dumps(kept))
    path = tmp_path / "made.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    assert document.read(str(path)) == document.Submission(WORKFLOW, {"seed": 3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "line 1, column 2"),
        (b"[1]", "object is needed"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\x89PNG\r\n\x1a\n", "holds no workflow"),
        (b"\x89PNG\r\n\x1a\nxx", "ends too early"),
    ],
)
def test_what_is_no_workflow_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=message):
        document.read(str(path))


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_itxt("spindle", json.dumps({"schema": "spindle.provenance/v9", "workflow": WORKFLOW}))
    path = tmp_path / "made.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    with pytest.raises(Refusal, match=r"provenance/v9"):
        document.read(str(path))


# Inputs


async def read(*pairs: str) -> dict[str, Any]:
    async with Client(NOWHERE) as client:
        return await read_inputs(pairs, WORKFLOW["inputs"], client)


async def test_inputs_are_read_as_their_schemas_say() -> None:
    assert await read("subject=12", "seed=12", "loose=12", "kind=1") == {
        "subject": "12",
        "seed": 12,
        "loose": 12,
        "kind": "1",
    }
    assert await read("subject=a=b", "loose=free text") == {"subject": "a=b", "loose": "free text"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("subject", "is no input"),
        ("size=3", "no input 'size'"),
        ("seed=many", "wants integer"),
        ("photo=cat.png", "wants a file"),
        ("photo=@/nowhere/cat.png", "Cannot read"),
    ],
)
async def test_inputs_that_cannot_be_meant_are_refused(pair: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        await read(pair)


def test_a_file_is_known_by_its_first_bytes_then_by_its_name() -> None:
    assert media_type("x", b"\x89PNG\r\n\x1a\n") == "image/png"
    assert media_type("x.png", b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert media_type("x.mp4", b"\0") == "video/mp4"
    assert media_type("x", b"\0") == "application/octet-stream"


# Outputs


def test_targets_are_checked_before_anything_runs(tmp_path: Path) -> None:
    targets = read_targets([f"{tmp_path}/a.png", f"text={tmp_path}/b.txt"], WORKFLOW)
    assert [(target.name, target.path.name) for target in targets] == [(None, "a.png"), ("text", "b.txt")]
    with pytest.raises(Refusal, match="no output 'video'"):
        read_targets(["video=a.mp4"], WORKFLOW)
    with pytest.raises(Refusal, match=r"folder .* does not exist"):
        read_targets([f"{tmp_path}/missing/a.png"], WORKFLOW)
    with pytest.raises(Refusal, match="no outputs"):
        read_targets(["a.png"], {"nodes": {}})


def test_artifacts_are_found_at_any_depth() -> None:
    assert list(artifacts_in({"a": [1, {"b": ARTIFACT}], "c": ARTIFACT})) == [ARTIFACT, ARTIFACT]


# What people see


def test_a_problem_shows_where_and_what_would_help() -> None:
    errors = [{"pointer": "/nodes/a", "code": "unknown-type", "detail": "no such type", "hint": "did you mean b?"}] * 40
    text = shown(
        problem_panel({"title": "Not valid", "detail": "40 mistakes", "errors": errors, "trace_id": "t"}, "Do.")
    )
    for words in (
        "Not valid",
        "40 mistakes",
        "/nodes/a",
        "no such type",
        "did you mean b?",
        "10 more",
        "trace t",
        "Do.",
    ):
        assert words in text


def test_a_run_shows_its_nodes_outputs_and_problems() -> None:
    record = {
        "id": "r1",
        "status": "failed",
        "created_at": "2026-11-21T02:00:00.000Z",
        "started_at": "2026-11-21T02:00:00.000Z",
        "ended_at": "2026-11-21T02:00:01.500Z",
        "workflow": {"name": "poster", "digest": "sha256:x"},
        "outputs": {"image": ARTIFACT, "words": "w" * 400},
        "nodes": {
            "a": {"type": "test.fail@1", "status": "failed", "problem": {"title": "A node failed", "status": 500}},
            "b": {"type": "test.noop@1", "status": "skipped", "reason": "upstream-failed"},
            "c": {"type": "test.noop@1", "status": "completed", "reused": True},
        },
    }
    text = shown(run_view(record))
    for words in (
        "poster ✗ failed",
        "1.50 s",
        "upstream-failed",
        "reused",
        "image/png, 2.0 KiB",
        "a: A node failed",
        "…",
    ):
        assert words in text


def test_values_are_shown_short() -> None:
    assert short([ARTIFACT, ARTIFACT]).count("image/png") == 2
    assert short({"a": 1}) == '{"a": 1}'
    assert [size(5), size(5 * 1024**2), size(5 * 1024**3)] == ["5 bytes", "5.0 MiB", "5.0 GiB"]


EVENTS: list[dict[str, Any]] = [
    {"id": "1-0", "type": "run.queued", "data": {}},
    {"id": "1-1", "type": "run.paused", "run": "r1", "data": {}},
    {"id": "1-2", "type": "run.started", "data": {"resumed": True}},
    {"id": "2-0", "type": "node.started", "node": "a", "data": {}},
    {"type": "node.progress", "node": "a", "data": {"done": 3, "total": 20, "message": "denoising"}},
    {"type": "node.preview", "node": "a", "data": {"image": "…"}},
    {"type": "gap", "data": {"reason": "lost"}},
    {"id": "3-0", "type": "node.retrying", "node": "a", "data": {"cause": "crash"}},
    {"id": "4-0", "type": "node.completed", "node": "a", "data": {}},
    {"id": "5-0", "type": "node.skipped", "node": "b", "data": {"reason": "when-false"}},
    {"id": "6-0", "type": "node.failed", "node": "c", "data": {"problem": {"title": "A node failed", "detail": "no"}}},
]


@pytest.mark.parametrize("terminal", [False, True])
def test_events_are_shown_as_bars_on_a_terminal_and_as_lines_elsewhere(terminal: bool) -> None:
    console = Console(width=120, no_color=True, force_terminal=terminal)
    many = [{"id": f"7-{n}", "type": "node.completed", "node": f"n{n}", "data": {}} for n in range(12)]
    with console.capture() as captured, view_of(console) as view:
        for event in [*EVENTS, *many]:
            view.show(event)
    text = captured.get()
    assert "some events are lost: lost" in text
    assert "paused; `spindle resume r1` lets it go on" in text
    assert "resumed" in text
    if terminal:
        assert "✓ n11" in text
    else:
        assert "a retrying: crash" in text
        assert "b skipped: when-false" in text
        assert "c failed: no" in text
        assert "denoising" not in text


# The program


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from spindle_control.cli import app\n"
        "try: app(['--help'], prog_name='spindle')\n"
        "except SystemExit: pass\n"
        "print(sorted({'httpx', 'asyncio', 'pydantic', 'langgraph', 'fastapi', 'redis'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Usage: spindle" in said
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["dead-letters"],
        ["nodes"],
        ["workers"],
        ["workflows"],
        ["run", "poster@3"],
        *([command, "r"] for command in ("show", "cancel", "pause", "resume", "retry", "redrive", "watch")),
    ],
    ids=lambda a: a[0],
)
def test_a_server_that_is_away_is_status_3_with_what_to_do(arguments: list[str]) -> None:
    status, _, complaint = call(*arguments)
    assert status == Status.AWAY
    assert "spindle up" in complaint


def test_with_json_a_problem_is_json_on_standard_output() -> None:
    status, out, complaint = call("runs", "--json")
    assert (status, complaint) == (Status.AWAY, "")
    assert json.loads(out)["type"] == "urn:spindle:problem:unreachable"


def test_refusals_are_status_2(workflow_file: Path) -> None:
    status, _, complaint = call("run", str(workflow_file), "-i", "nothing=1")
    assert status == Status.INVALID
    assert "no input 'nothing'" in complaint
    assert call("run", "/nowhere/file.json")[0] == Status.INVALID
    assert call("run", str(workflow_file), "--no-wait", "-o", "a.png")[0] == Status.INVALID
    status, out, _ = call("validate", "/nowhere/file.json", "--json")
    assert status == Status.INVALID
    assert "Cannot read" in json.loads(out)["detail"]


def test_statuses_of_problems() -> None:
    assert status_of(SpindleProblem({"status": 422})) == Status.INVALID
    assert status_of(SpindleProblem({"status": 429})) == Status.AWAY
    assert status_of(SpindleProblem({"status": 503})) == Status.AWAY


def test_keys_are_made_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINDLE_API_KEYS_FILE", str(tmp_path / "keys.json"))
    status, made, _ = call("keys", "create", "laptop", "--json")
    assert status == Status.OK
    key = json.loads(made)
    status, text, _ = call("keys", "create", "desk", "--tenant", "studio")
    assert text.startswith("spindle_")
    assert text.strip() not in (tmp_path / "keys.json").read_text()
    listed = call("keys", "list")[1]
    assert "laptop" in listed
    assert "studio" in listed
    assert call("keys", "revoke", key["id"])[0] == Status.OK
    kept = {one["id"]: one["revoked_at"] for one in json.loads(call("keys", "list", "--json")[1])}
    assert kept[key["id"]] is not None
    status, _, complaint = call("keys", "revoke", "000000000000")
    assert status == Status.INVALID
    assert "no API key" in complaint
    assert json.loads(call("keys", "revoke", key["id"], "--json")[1])["id"] == key["id"]


def test_env_tells_that_nothing_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINDLE_DATA_DIR", str(tmp_path))
    status, _, complaint = call("env")
    assert status == Status.INVALID
    assert "Nothing is up" in complaint
