"""What README and the reference show works as it stands there: their blocks are cut out and run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.cluster import finished, running
from support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
SPINDLE = str(Path(sys.executable).parent / "spindle")
ADDRESS = "http://127.0.0.1:8420"
GIVES: dict[str, Any] = {
    "greetings": {"text": "Hello, world"},
    "branching": {"greeting": "Dear whoever you are"},
    "labels": {
        "texts": ["1: a large red star", "2: a large green star", "3: a large blue star"],
        "longest": "2: a large green star",
    },
    "doubling": {"n": 24, "steps": [6, 12, 24], "iterations": 3, "reached": True},
    "calling": {"texts": ["Hello, Ada", "Hello, world!!!"]},
    "asking": {"what": "kept in the drawer", "answered": False},
}
PNG = b"\x89PNG\r\n\x1a\n"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def containing(page: str, language: str, part: str) -> str:
    (found,) = [block for block in blocks(page, language) if part in block]
    return found


def workflows(page: str) -> list[Any]:
    documents = [json.loads(block) for block in blocks(page, "json") if '"spindle.workflow/v1"' in block]
    assert documents
    return documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "shout.py").write_text(containing("README.md", "python", "@node"))
    return folder


@pytest.fixture(scope="module")
def url(folder: Path, own_redis: RedisServer) -> Iterator[str]:
    with running(folder, own_redis, torch=True, SPINDLE_NODES=str(folder / "shout.py")) as (_, (url,)):
        yield url


def run(folder: Path, url: str, *command: str) -> str:
    env = os.environ | {"SPINDLE_URL": url}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def spindle(folder: Path, url: str, line: str) -> str:
    """Run a line of README that begins with `./dev spindle`."""
    command = line.strip().replace("./dev spindle", shlex.quote(SPINDLE))
    return run(folder, url, "sh", "-c", command)


def test_the_first_picture_and_its_repetition(folder: Path, url: str) -> None:
    spindle(folder, url, containing("README.md", "sh", "-o star.png"))
    assert (folder / "star.png").read_bytes().startswith(PNG)
    spindle(folder, url, containing("README.md", "sh", "-o again.png"))
    pictures = [pixels(folder / name) for name in ("star.png", "again.png")]
    assert pictures[0] == pictures[1]


def pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.tobytes()


def test_the_curl_line(folder: Path, url: str) -> None:
    line = containing("README.md", "sh", "curl -s").replace(ADDRESS, url)
    accepted = json.loads(run(folder, url, "sh", "-c", line))
    record = httpx.get(f"{url}/api/v1/runs/{accepted['id']}", params={"wait": "60s"}, timeout=70).json()
    assert record["status"] == "completed"
    content = httpx.get(f"{url}/api/v1/artifacts/{record['outputs']['image']['digest']}/content", timeout=60).content
    assert content.startswith(PNG)


def test_the_python_program(folder: Path, url: str) -> None:
    program = containing("README.md", "python", "asyncio.run").replace(ADDRESS, url)
    said = run(folder, url, sys.executable, "-c", program)
    assert "run.completed" in said
    assert (folder / "ring.png").read_bytes().startswith(PNG)


def test_the_program_that_repeats_a_run(folder: Path, url: str) -> None:
    program = containing("docs/api.md", "python", "asyncio.run").replace(ADDRESS, url)
    assert run(folder, url, sys.executable, "-c", program).splitlines() == [
        "True True",
        "{'reuse': [], 'run': ['text'], 'skip': []}",
        "True",
        "[]",
    ]


def test_the_lines_and_the_program_of_the_library(folder: Path, url: str) -> None:
    lines = containing("docs/library.md", "sh", "workflows put").splitlines()
    said = [run(folder, url, "sh", "-c", line.replace("spindle", shlex.quote(SPINDLE), 1)) for line in lines]
    assert said[0] == "poster@1\n"
    assert (folder / "star.png").read_bytes().startswith(PNG)
    assert json.loads((folder / "copy.json").read_text()) == json.loads((folder / "examples/poster.json").read_text())
    program = containing("docs/library.md", "python", "asyncio.run").replace(ADDRESS, url)
    changed, *greetings = run(folder, url, sys.executable, "-c", program).splitlines()
    assert changed == "replace /nodes/words/inputs/template Hi, {name}!"
    assert greetings == ["1 Hello, Ada!", "2 Hi, Ada!"]


@pytest.mark.parametrize("line", containing("docs/operations.md", "sh", "spindle pause").splitlines())
def test_the_commands_for_runs_exist(line: str) -> None:
    done = subprocess.run([SPINDLE, line.split()[1], "--help"], capture_output=True, text=True, check=True)
    argument = re.search(r"\b(RUN|LETTER)\b", line.partition("#")[0])
    assert argument is None or argument[0] in done.stdout


async def test_the_node_of_ones_own(url: str) -> None:
    nodes = {"shout": {"type": "text.shout@1", "inputs": {"text": "hello"}}}
    document = {"schema": "spindle.workflow/v1", "nodes": nodes, "outputs": {"text": {"$from": "shout.text"}}}
    assert (await finished(url, document))["outputs"] == {"text": "HELLO!"}


@pytest.fixture(scope="module")
def library(url: str) -> None:
    """What the pages call is stored first; the first workflow of the reference is `greetings`."""
    greetings = workflows("docs/workflow.md")[0]
    httpx.put(f"{url}/api/v1/workflows/{greetings['name']}", json=greetings, timeout=30).raise_for_status()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("document", workflows("docs/workflow.md"), ids=lambda document: document["name"])
async def test_a_workflow_of_the_reference(url: str, document: dict[str, Any]) -> None:
    record = await finished(url, document)
    assert record["status"] == "completed", record.get("problem")
    assert record["outputs"] == GIVES[document["name"]]


async def test_the_stars_of_the_first_page(url: str) -> None:
    (document,) = workflows("README.md")
    record = await finished(url, document)
    assert record["status"] == "completed", record.get("problem")
    assert record["outputs"]["image"]["media_type"] == "image/png"


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT) for p in (ROOT / "docs").rglob("*.md")] + [Path("README.md")], ids=str
)
def test_links_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing
