"""A workflow's inputs: what their specifications say, and the values that a run gives for them.

A specification is a JSON Schema in which `{"artifact": "image/*"}` may stand for an artifact, with `default` or
`optional` beside it. Binding fills in defaults, checks each value, and makes floats of whole numbers where the type
is `number`, so that expressions see one kind of number.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidInputs
from spindle_common.problems import pointer as to_pointer
from spindle_control.compiler.checked import MISSING, Checked, InputPort
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.report import Report, ReportFull, shown
from spindle_control.compiler.schemas import (
    UnsafeSchemaError,
    Validator,
    compiled,
    explain,
    made_safe,
    meant,
    meta_errors,
    subschemas,
)
from spindle_control.compiler.structure import SPEC_ARTIFACT, healthy
from spindle_control.compiler.work import SCHEMA, SCHEMA_PART, pattern_cost

MAX_SPEC_BYTES = 131_072
_LARGEST_PATTERN = 10_000
_OWN = ("default", "optional")
_KEYWORDS = frozenset(
    """
    $schema $ref $defs $comment type enum const title description default examples artifact optional format pattern
    minLength maxLength minimum maximum multipleOf exclusiveMinimum exclusiveMaximum items prefixItems contains
    minContains maxContains minItems maxItems uniqueItems properties patternProperties additionalProperties required
    propertyNames minProperties maxProperties dependentRequired dependentSchemas allOf anyOf oneOf not if then else
    unevaluatedItems unevaluatedProperties contentEncoding contentMediaType contentSchema deprecated readOnly
    writeOnly
    """.split()  # noqa: SIM905 - a list of seventy strings is harder to read
)


def read_specs(
    specs: Mapping[str, dict[str, Any] | None], report: Report, base: str = ""
) -> dict[str, InputPort | None]:
    """Read the specifications of the inputs of a workflow, or of the body at `base`; None for one with a mistake."""
    if len(json.dumps(specs)) > MAX_SPEC_BYTES:
        detail = f"the inputs' specifications are larger than {MAX_SPEC_BYTES} bytes together"
        report.add(f"{base}/inputs", "too-large", detail, "leave out what is not needed to check a value")
        return dict.fromkeys(specs)
    return {
        name: None if spec is None else read_spec(name, spec, f"{base}/inputs{to_pointer(name)}", report)
        for name, spec in specs.items()
    }


def read_spec(name: str, spec: dict[str, Any], pointer: str, report: Report) -> InputPort | None:
    """Read one specification, which stands at `pointer`; None if there is a mistake in it."""
    raw = {key: value for key, value in spec.items() if key not in _OWN}
    report.spend(SCHEMA + _reckoned(raw), "schemas")
    errors = meta_errors(raw)
    for error in map(meant, errors):
        detail, _ = explain(error, raw)
        where = pointer + to_pointer(*error.instance_path)
        report.add(where, "bad-schema", f"this is no JSON Schema: {detail}", "see json-schema.org, draft 2020-12")
    if errors:
        return None
    try:
        schema = made_safe(raw, lambda parts: report.spend(parts * SCHEMA_PART // 2, "schemas"))
        _check_keywords(raw, pointer, report)
        validator = compiled(schema)
    except UnsafeSchemaError as error:
        report.add(pointer + error.pointer, "bad-schema", str(error))
        return None
    except ValueError as error:
        hint = "patterns have no look-around and no back-references"
        report.add(pointer, "bad-schema", f"the schema cannot be used: {str(error).splitlines()[0]}", hint)
        return None
    default = spec.get("default", MISSING)
    port = InputPort(name, schema, validator, spec.get("optional", False), _as_typed(default, schema))
    if default is not MISSING:
        check_value(port, default, f"{pointer}/default", "bad-default", report)
    return port


def _reckoned(schema: Any) -> int:
    """What it takes to read a schema: by its parts and its patterns."""
    if not isinstance(schema, dict):
        return SCHEMA_PART
    patterns = schema.get("patternProperties")
    found = [schema.get("pattern"), *(patterns if isinstance(patterns, dict) else ())]
    own = sum(pattern_cost(pattern, _LARGEST_PATTERN) for pattern in found if isinstance(pattern, str))
    values = schema.get("enum")
    own += len(values) if isinstance(values, list) else 0
    return SCHEMA_PART + own + sum(_reckoned(part) for _, part in subschemas(schema))


def _check_keywords(schema: Any, pointer: str, report: Report, at: str = "") -> None:
    if not isinstance(schema, dict):
        return
    for key in schema.keys() - _KEYWORDS:
        if not key.startswith("x-"):
            hint = report.meant(key, _KEYWORDS, "JSON Schema passes over keywords that it does not know")
            where = pointer + at + to_pointer(key)
            report.warn(where, "unknown-keyword", f"`{shown(key)[1:-1]}` has no meaning here", hint)
    media = schema.get("artifact")
    if media is not None and not (isinstance(media, str) and SPEC_ARTIFACT.fullmatch(media)):
        raise UnsafeSchemaError(f"{shown(media)} is no media type", f"{at}/artifact")
    for where, part in subschemas(schema):
        _check_keywords(part, pointer, report, at + where)


def check_value(port: InputPort, value: Any, pointer: str, code: str, report: Report) -> None:
    """Note what is wrong with a value for an input."""
    if type(value) in (dict, list, str) and len(json.dumps(value)) > Limits.max_value_bytes:
        report.add(
            pointer, "too-large", f"it is larger than {Limits.max_value_bytes} bytes", "upload it as an artifact"
        )
        return
    note_errors(port.validator, value, pointer, code, report)


def note_errors(validator: Validator, value: Any, pointer: str, code: str, report: Report) -> bool:
    """Note what a validator says of a value; return whether it fits."""
    try:
        errors = validator.errors(value, lambda units: report.spend(units, "literals"))
    except ValueError as error:
        report.add(pointer, "too-large", str(error))
        return False
    for found in map(meant, errors):
        detail, hint = explain(found, value)
        report.add(pointer + to_pointer(*found.instance_path), code, detail, hint)
    return not errors


def fitted(schema: Any, value: Any) -> tuple[Any, str | None]:
    """Return a value as its type has it, and what is wrong with it in words."""
    validator = compiled(schema)
    value = _as_typed(value, schema)
    try:
        errors = validator.errors(value)
    except ValueError as error:
        return value, str(error)
    return value, explain(meant(errors[0]), value)[0] if errors else None


def wrong_values(schema: Any, value: Any, pointer: str) -> tuple[Mistake, ...]:
    """Return what is wrong with a value that stands at `pointer`."""
    report = Report()
    with suppress(ReportFull):
        note_errors(compiled(schema), value, pointer, "bad-input", report)
    return report.errors


def bind_inputs(checked: Checked, given: Mapping[str, object], pointer_prefix: str = "/inputs") -> dict[str, Any]:
    """Return the run's inputs: what was given, checked, and defaults; optional ones that were not given are left out.

    Raises:
        InvalidInputs: with every mistake.

    """
    report = Report()
    bound: dict[str, Any] = {}
    with suppress(ReportFull):
        if not isinstance(given, dict):
            report.add(pointer_prefix, "wrong-type", "inputs are an object", 'write {"name": value}')
        elif healthy(given, Limits(), report, pointer_prefix):
            _bind(checked.inputs, given, pointer_prefix, report, bound)
    if report.errors:
        raise InvalidInputs(f"{len(report.errors)} of the inputs do not fit", errors=report.errors)
    return bound


def _bind(
    ports: Mapping[str, InputPort], given: dict[str, Any], prefix: str, report: Report, bound: dict[str, Any]
) -> None:
    for name in given.keys() - ports.keys():
        hint = report.meant(name, ports.keys(), "the workflow takes no inputs")
        report.add(prefix + to_pointer(name), "unknown-input", f"there is no input `{shown(name)[1:-1]}`", hint)
    for name, port in ports.items():
        if name in given:
            value = _as_typed(given[name], port.schema)
            check_value(port, value, prefix + to_pointer(name), "bad-input", report)
            bound[name] = value
        elif port.default is not MISSING:
            bound[name] = port.default
        elif not port.optional:
            report.add(
                prefix + to_pointer(name), "missing-input", f"the input `{name}` is not given", "give it a value"
            )


def _as_typed(value: Any, schema: Any) -> Any:
    """Make floats of whole numbers where the type is `number`, through items and properties."""
    if not isinstance(schema, dict):
        return value
    if type(value) is int:
        names = schema.get("type")
        names = [names] if isinstance(names, str) else names or ()
        return float(value) if "number" in names and "integer" not in names else value
    if type(value) is list:
        return [_as_typed(item, schema.get("items")) for item in value]
    if type(value) is dict:
        known = schema.get("properties", {})
        return {key: _as_typed(item, known.get(key)) for key, item in value.items()}
    return value
