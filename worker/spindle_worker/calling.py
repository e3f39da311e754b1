"""Calling a node's function: inputs checked against its model, foreign errors mapped here."""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from spindle_common.problems import BadInput, NodeFailed, OutOfMemory, SpindleError, mistake, pointer
from spindle_worker.context import Cancelled, Context
from spindle_worker.node import Model, NodeSpec, Outputs, marks_of

log = logging.getLogger(__name__)
_DETAIL_CHARACTERS = 2000


class Returned(NamedTuple):
    """A node's outputs: values and artifacts as JSON values, handles as they are."""

    values: dict[str, Any]
    handles: dict[str, Any]


async def call(spec: NodeSpec, inputs: Mapping[str, Any], context: Context) -> Returned:
    """Run a light function on the event loop; every failure is a SpindleError."""
    arguments = parse_inputs(spec, inputs)
    try:
        result = await spec.function(arguments, context)
    except Cancelled:
        raise asyncio.CancelledError from None
    except SpindleError:
        raise
    except Exception as error:
        raise _mapped(error) from error
    return returned(spec, result)


def call_native(spec: NodeSpec, inputs: Mapping[str, Any], context: Context) -> Returned:
    """Run a native function, in a child; every failure is a SpindleError, or Cancelled."""
    arguments = parse_inputs(spec, inputs)
    try:
        result = spec.function(arguments, context)
    except (SpindleError, Cancelled):
        raise
    except (Exception, SystemExit) as error:
        raise _mapped(error) from error
    return returned(spec, result)


def parse_inputs(spec: NodeSpec, inputs: Mapping[str, Any]) -> BaseModel:
    """Check values against the node's model. Raises BadInput with a pointer for each mistake."""
    open_ports = re.compile(spec.open_inputs or r"(?!)")
    strange = [port for port in inputs if port not in spec.inputs.model_fields and not open_ports.fullmatch(port)]
    if strange:
        raise BadInput(f"{spec.type} has no input {', '.join(strange)}")
    named = {port: {"model": v, "adapters": []} if _is_model(spec, port, v) else v for port, v in inputs.items()}
    try:
        return spec.inputs.model_validate(named)
    except ValidationError as error:
        wrong = [mistake(pointer("inputs", *e["loc"]), "bad-value", e["msg"]) for e in error.errors()]
        raise BadInput("; ".join(f"{m.pointer}: {m.detail}" for m in wrong), errors=wrong) from None


def _is_model(spec: NodeSpec, port: str, value: object) -> bool:
    """A model may be named by a string: it arrives as a recipe all the same."""
    field = spec.inputs.model_fields.get(port)
    return isinstance(value, str) and field is not None and any(isinstance(mark, Model) for mark in marks_of(field))


def returned(spec: NodeSpec, result: object) -> Returned:
    """Split a node's result into what travels as JSON and what stays in memory."""
    if not isinstance(result, Outputs):
        raise NodeFailed(f"{spec.type} returned {type(result).__name__} instead of its outputs")
    handles = {port: getattr(result, port) for port in spec.handles}
    return Returned(result.model_dump(mode="json", exclude=set(spec.handles)), handles)


def _mapped(error: BaseException) -> SpindleError:
    """The one seam for foreign exceptions: a person sees class and message, the log has the traceback."""
    log.exception("a node raised")
    name = type(error).__name__
    detail = f"{name}: {error}"[:_DETAIL_CHARACTERS]
    return OutOfMemory(detail) if name in ("MemoryError", "OutOfMemoryError") else NodeFailed(detail)
