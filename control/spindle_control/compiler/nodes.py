"""The check of one node: its type, its queue, its ports, and what it waits for."""

from collections.abc import Mapping
from typing import Any

from spindle_common.durations import parse_duration
from spindle_control.compiler.catalog import CompiledPort, CompiledType
from spindle_control.compiler.checked import CheckedNode
from spindle_control.compiler.flow_types import FLOW_KEYS, FLOWS
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.ports import PortCheck, is_larger
from spindle_control.compiler.reading import Reader
from spindle_control.compiler.references import find
from spindle_control.compiler.report import below, shown
from spindle_control.compiler.scope import Scope
from spindle_control.compiler.types import describe
from spindle_control.compiler.work import MIXTURE, PORT, REFERENCE

_USUAL = frozenset(["type", "inputs"])


class NodeCheck(Reader):
    """The check of one node against its type and the others; `result` is what is known of it afterwards."""

    def __init__(self, id_: str, node: Mapping[str, Any], scope: Scope, limits: Limits) -> None:
        super().__init__(id_, node, scope, limits)
        self._inputs_at = f"{self._at}/inputs"
        self._type = scope.types[id_]
        self._handles: dict[str, str] = {}

    def run(self) -> tuple[dict[str, str], CheckedNode | None]:
        """Check it. Returns what it waits for (with where that is said), and the node unless its type is unknown."""
        if self._type is None:
            self._check_type()
        if not self._node.keys() <= _USUAL:
            self._check_keys()
        inputs = self._node.get("inputs", {})
        self._report.spend(PORT * len(inputs), "values")
        for port, value in inputs.items():
            self._check_input(port, value)
        if self._type is not None:
            self._check_missing(inputs)
            self._check_queue(self._type)
        self._check_when()
        return self._needs, self._result(inputs, tuple(self._check_after()))

    def _result(self, inputs: dict[str, Any], after: tuple[str, ...]) -> CheckedNode | None:
        if self._type is None:
            return None
        if self._node.keys() <= _USUAL:
            known = (None, self._needs, (), self._handles, self._reads)
            return CheckedNode(self._id, self._type, inputs, *known, timeout=self._type.timeout)
        retry = self._node.get("retry", {})
        return CheckedNode(
            self._id,
            self._type,
            inputs,
            when=self._node.get("when"),
            needs=self._needs,
            after=after,
            handles=self._handles,
            reads=self._reads,
            queue=self._node.get("queue"),
            on_error=self._node.get("on_error", "fail"),
            timeout=self._timeout("run", self._type.timeout),
            idle=self._timeout("idle"),
            queue_timeout=self._timeout("queue"),
            max_attempts=retry.get("max_attempts", 1),
            backoff=parse_duration(retry["backoff"]) if "backoff" in retry else 1.0,
            cache=self._node.get("cache", True),
        )

    def _timeout(self, kind: str, usual: float | None = None) -> float | None:
        """Return a bound in seconds; a plain text bounds the run."""
        said = self._node.get("timeout")
        bounds = said if isinstance(said, dict) else {"run": said}
        bound = bounds.get(kind)
        return parse_duration(bound) if bound else usual

    def _check_type(self) -> None:
        name = self._node.get("type")
        if name is None:
            return
        types = {*self._scope.catalog.types, *FLOWS}
        family = name.partition("@")[0]
        versions = sorted((known for known in types if known.partition("@")[0] == family), key=len)
        if versions:
            hint: str | None = "there is " + ", ".join(versions)
            self._report.add(f"{self._at}/type", "unknown-version", f"`{family}` has no version `{name}`", hint)
        else:
            hint = self._report.meant(name, types, "`spindle nodes` lists what the workers offer")
            self._report.add(f"{self._at}/type", "unknown-type", f"there is no node type `{shown(name)[1:-1]}`", hint)

    def _check_keys(self) -> None:
        for key in sorted(FLOW_KEYS & self._node.keys()) if self._type else ():
            detail = f"only `flow.*` nodes have `{key}`"
            self._report.add(below(self._at, key), "unknown-key", detail, "what a node is given stands in its `inputs`")

    def _check_input(self, name: str, value: Any) -> None:
        port = None if self._type is None else self._type.input(name)
        if port is not None and self._fits(name, value, port):
            return
        pointer = below(self._inputs_at, name)
        if self._type is not None and port is None:
            hint = self._report.meant(name, self._type.inputs.keys(), f"`{self._type.name}` takes no inputs")
            detail = f"`{self._type.name}` takes no `{shown(name)[1:-1]}`"
            self._report.add(pointer, "unknown-port", detail, hint)
        if is_larger(value, self._limits.max_value_bytes):
            hint = "upload it as an artifact"
            self._report.add(pointer, "too-large", f"it is larger than {self._limits.max_value_bytes} bytes", hint)
            return
        self._report.spend(MIXTURE, "values")
        found = find(value, pointer, self._report)
        shapes = {} if found.pure else self._resolve(found)
        if port is None:
            return
        port = self._scope.following.input(self._id, port)
        check = PortCheck(self._scope, (self._id, name), port, shapes)
        if found.pure:
            check.check_literal(value, pointer)
        else:
            check.check(value, pointer)
            self._handles = check.handles | self._handles

    def _fits(self, name: str, value: Any, port: CompiledPort) -> bool:
        """Whether a value is of the commonest kinds, a reference alone or a plain literal, and right. Any other goes
        the long way, which tells what is wrong.
        """
        if type(value) is dict:
            if len(value) == 1 and "$expr" in value:
                self._read(value["$expr"], f"{below(self._inputs_at, name)}/$expr")
                return True
            return len(value) == 1 and "$from" in value and self._fits_reference(name, value["$from"], port)
        if port.handle or port.is_model or not self._is_plain(value):
            return False
        validator = self._scope.following.input(self._id, port).validator
        if validator is not None and not validator.fits(value):
            return False
        if type(value) is str:
            self._scope.check_text(value, below(self._inputs_at, name))
        return True

    def _fits_reference(self, name: str, text: Any, port: CompiledPort) -> bool:
        known = self._scope.known(text)
        if known is None or known.owner == self._id or known.shape.handle != port.handle:
            return False
        if not port.handle:
            wanted = self._scope.following.input(self._id, port).schema
            if self._scope.clash(known.shape.schema, wanted):
                return False
        self._report.spend(REFERENCE, "references")
        if known.owner == "inputs":
            self._reads.add(known.name)
        elif known.owner not in self._needs or port.handle:
            pointer = f"{below(self._inputs_at, name)}/$from"
            self._needs.setdefault(known.owner, pointer)
            if port.handle:
                self._handles.setdefault(known.owner, pointer)
        return True

    def _check_missing(self, inputs: Mapping[str, Any]) -> None:
        if self._type is None:
            return
        missing = self._type.required - inputs.keys()
        at = f"{self._at}/inputs" if "inputs" in self._node else self._at
        for name in sorted(missing) if missing else ():
            port = self._type.inputs[name]
            if port.is_model and self._scope.catalog.default_model is not None:
                continue
            detail = f"`{self._type.name}` wants `{name}`" + _what(port)
            self._report.add(at, "missing-input", detail, f"add `{name}`")

    def _check_queue(self, node_type: CompiledType) -> None:
        wanted = self._node.get("queue")
        catalog = self._scope.catalog
        offered = catalog.queues.get(node_type.name, frozenset()) if wanted is not None else frozenset()
        if wanted is not None and wanted not in offered:
            where = f"on {', '.join(sorted(offered))}" if offered else "in the tasks of those that use it"
            hint = self._report.meant(wanted, offered, "leave `queue` out")
            detail = f"`{node_type.name}` does not run on `{wanted}`, but {where}"
            self._report.add(f"{self._at}/queue", "unknown-queue", detail, hint)
            return
        queue = wanted or self._scope.queue(node_type)
        if queue is not None and queue not in catalog.live_queues:
            hint = "a run will wait until one is there"
            detail = f"no worker serves the queue `{queue}` now, on which `{node_type.name}` runs"
            self._report.warn(f"{self._at}/queue" if wanted else self._at, "no-worker", detail, hint)


def _what(port: CompiledPort) -> str:
    return f", a handle ({port.handle})" if port.handle else f", {describe(port.schema)}" if port.schema else ""
