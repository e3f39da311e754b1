"""Inputs given as `name=value`, read as the workflow's own input schemas say.

Where the schema wants a string, the value is text as it stands; otherwise it is JSON. Where it wants an artifact,
`@FILE` uploads the file and `sha256:…` names one that is there already; a list of artifacts takes the name repeatedly.
"""

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spindle_control.cli.session import Refusal
from spindle_control.client import Client

_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


async def read_inputs(given: Sequence[str], specs: dict[str, Any], client: Client) -> dict[str, Any]:
    """Return the inputs by name; uploads files. Raises Refusal, SpindleProblem."""
    inputs: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise Refusal(f"{pair!r} is no input.", "Write -i name=value.")
        spec = specs.get(name)
        if spec is None:
            raise Refusal(f"The workflow has no input {name!r}.", f"It has: {', '.join(specs) or 'none'}.")
        if _is_artifact(spec):
            inputs[name] = await _artifact(name, text, client)
        elif _is_artifact(spec.get("items")):
            inputs.setdefault(name, []).append(await _artifact(name, text, client))
        else:
            inputs[name] = _value(name, text, spec)
    return inputs


def _is_artifact(spec: object) -> bool:
    return isinstance(spec, dict) and "artifact" in spec


def _value(name: str, text: str, spec: dict[str, Any]) -> Any:
    kinds = spec.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "string" in kinds or text in spec.get("enum", ()):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if not kinds:
            return text
        raise Refusal(f"The input {name!r} wants {' or '.join(kinds)}; {text!r} is not.") from None


async def _artifact(name: str, text: str, client: Client) -> dict[str, Any]:
    if text.startswith("@"):
        content = _content(name, text[1:])
        return await client.upload(content, media_type(text[1:], content))
    if text.startswith("sha256:"):
        return await client.artifact(text)
    raise Refusal(
        f"The input {name!r} wants a file.", f"Write -i {name}=@FILE, or -i {name}=sha256:… for one kept before."
    )


def _content(name: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Refusal(f"Cannot read {file} for the input {name!r}: {error.strerror}.") from None


def media_type(file: str, content: bytes) -> str:
    """Media type of a file, from its first bytes, else from its name."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
    return mimetypes.guess_type(file)[0] or "application/octet-stream"
