"""text.template and text.join: light nodes that put prompts together."""

import json
import re

from spindle_common.problems import BadInput
from spindle_worker.node import Context, Field, Inputs, Outputs, node

MAX_TEXT = 100_000
"""Characters of any text, coming or going."""
_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]{0,63})\}|[{}]")


class TemplateInputs(Inputs):
    """A text and what goes into it."""

    template: str = Field(max_length=MAX_TEXT, description="Text with {name} fields; {{ and }} stand for braces.")
    values: dict[str, str | int | float | bool | None] = Field({}, description="What the fields stand for.")


class TextOutputs(Outputs):
    """A text."""

    text: str = Field(description="The text that came out.")


@node("text.template@1", title="Fill in a template")
async def template(inputs: TemplateInputs, ctx: Context) -> TextOutputs:
    """Puts values into the {name} fields of a text."""
    return TextOutputs(text=_bounded(_TOKEN.sub(lambda found: _fill(found, inputs), inputs.template)))


def _fill(found: re.Match[str], inputs: TemplateInputs) -> str:
    token, name = found.group(0), found.group(1)
    if token in {"{{", "}}"}:
        return token[0]
    if name is None:
        raise BadInput(
            f"The template has a stray {token!r} at character {found.start()}: fields look like {{name}}, "
            "braces are written {{ and }}"
        )
    if name not in inputs.values:
        known = ", ".join(sorted(inputs.values)) or "none"
        raise BadInput(f"The template needs {name!r}, which is not among its values ({known})")
    return as_text(inputs.values[name])


def as_text(value: str | float | bool | None) -> str:
    """Write a value as people write it: 2.0 is 2, and null is nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value)


class JoinInputs(Inputs):
    """Texts and what goes between them."""

    parts: list[str | None] = Field(max_length=1000, description="Texts to join; null and empty ones are left out.")
    separator: str = Field(", ", max_length=1000, description="What goes between two parts.")


@node("text.join@1", title="Join texts")
async def join(inputs: JoinInputs, ctx: Context) -> TextOutputs:
    """Joins texts, leaving out empty ones."""
    return TextOutputs(text=_bounded(inputs.separator.join(part for part in inputs.parts if part)))


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise BadInput(f"The text would have {len(text):,} characters; at most {MAX_TEXT:,} are made")
    return text
