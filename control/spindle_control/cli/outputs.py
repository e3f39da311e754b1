"""Saving a run's outputs to files: `-o out.png` the first artifact, `-o name=out.png` the output of that name.

A list of artifacts becomes several files, numbered before the suffix; a value is written as text, or as JSON. What was
too large for the run's record is fetched first.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spindle_control.cli.session import Refusal
from spindle_control.client import Client


@dataclass(frozen=True, slots=True)
class Target:
    """A file, and the output that goes into it; no name stands for the first artifact."""

    path: Path
    name: str | None = None


def read_targets(given: Sequence[str], workflow: Mapping[str, Any]) -> list[Target]:
    """Read `-o` options before anything runs, so that a mistake costs nothing; raises Refusal."""
    outputs = workflow.get("outputs")
    names = outputs if isinstance(outputs, dict) else {}
    targets = []
    for option in given:
        name, equals, file = option.partition("=")
        target = Target(Path(file), name) if equals and name in names else Target(Path(option))
        if equals and name.isidentifier() and name not in names:
            raise Refusal(f"The workflow has no output {name!r}.", f"It has: {', '.join(names) or 'none'}.")
        if not names:
            raise Refusal("The workflow has no outputs, so there is nothing to save.")
        if not target.path.absolute().parent.is_dir():
            raise Refusal(f"Cannot save {target.path}: the folder {target.path.parent} does not exist.")
        targets.append(target)
    return targets


async def save(targets: Sequence[Target], outputs: Mapping[str, Any], client: Client) -> list[Path]:
    """Write the files; returns their paths. Raises Refusal, SpindleProblem."""
    saved: list[Path] = []
    outputs = await client.whole(outputs) if targets else {}
    for target in targets:
        value = _chosen(target, outputs)
        artifacts = list(artifacts_in(value))
        if not artifacts:
            _write(target.path, _text(value).encode())
            saved.append(target.path)
        for number, artifact in enumerate(artifacts, 1):
            path = target.path if len(artifacts) == 1 else _numbered(target.path, number)
            _write(path, await client.download(artifact))
            saved.append(path)
    return saved


def artifacts_in(value: object) -> Iterator[dict[str, Any]]:
    """Yield the artifacts in a value, depth first."""
    if isinstance(value, dict):
        if is_artifact(value):
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from artifacts_in(item)


def is_artifact(value: object) -> bool:
    """Whether a value names bytes in the store."""
    return isinstance(value, dict) and str(value.get("digest", "")).startswith("sha256:") and "media_type" in value


def _chosen(target: Target, outputs: Mapping[str, Any]) -> Any:
    if target.name is not None:
        if target.name not in outputs:
            raise Refusal(f"The run gave no output {target.name!r}; the node that makes it was skipped.")
        return outputs[target.name]
    first = next(artifacts_in(dict(outputs)), None)
    if first is None:
        raise Refusal(f"The run gave no file to save as {target.path}.", "Name an output: -o name=FILE.")
    return first


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Refusal(f"Cannot save {path}: {error.strerror}.") from None
