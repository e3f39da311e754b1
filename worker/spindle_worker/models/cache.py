"""Keeps models in memory within a budget: least recently used goes first, what is in use stays, each loads once.

    with cache.use({"model": "sd15", "digest": "sha256:…"}) as model:
        ...                     # pinned until here

Callers are threads. A key is (name, digest, adapters); of several that want a model that is not there, one loads and
the others wait for it. A caller for whom there is no room waits until a pinned model is let go.
"""

import contextlib
import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spindle_common.contracts import ModelInfo
from spindle_common.problems import OutOfMemory
from spindle_worker.models.adapters import AdapterFile, key_of
from spindle_worker.models.device import configure_torch, memory_errors, release_memory, resolve_device, resolve_dtype
from spindle_worker.models.errors import ModelChanged, ModelRefused
from spindle_worker.models.library import Entry, ModelLibrary
from spindle_worker.models.loading import Adapters, LoadedModel, layout_of, load

Key = tuple[str, str, str]
Listener = Callable[["CacheEvent"], None]
WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheEvent:
    """Something happened to a model: `kind` is loaded, evicted or failed; `seconds` is what loading took."""

    kind: str
    model: str
    seconds: float = 0.0


@dataclass
class CacheCounts:
    """How often each thing happened since the start."""

    hits: int = 0
    loads: int = 0
    evictions: int = 0
    failures: int = 0


@dataclass
class _Slot:
    """A model in memory, or on its way there (`model` is None): then `size` is an estimate and it counts as pinned."""

    size: int
    model: LoadedModel | None = None
    pins: int = 0
    problem: BaseException | None = None


@dataclass(frozen=True)
class CacheOptions:
    """Where models go and how much they may take: `budget_bytes` for all together.

    `room(bytes)` asks whether this cache may hold so much in all, where it shares the budget with other processes.
    """

    budget_bytes: int
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    listener: Listener | None = field(default=None, compare=False)
    room: Callable[[int], bool] | None = field(default=None, compare=False)


def _key(recipe: Mapping[str, Any]) -> Key:
    return recipe["model"], recipe["digest"], key_of(recipe["adapters"])


class ModelCache:
    """Loaded models by name and digest; safe to use from several threads."""

    def __init__(self, library: ModelLibrary, options: CacheOptions) -> None:
        self.library = library
        self.options = options
        self.device = resolve_device(options.device)
        self.counts = CacheCounts()
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def use(
        self, recipe: str | Mapping[str, Any] | None = None, check: Callable[[], None] | None = None
    ) -> Iterator[LoadedModel]:
        """Give the model that `recipe` names and keep it in memory until the block ends.

        `check` is called while waiting and may raise, to stop it.

        Raises:
            ModelUnknown, ModelRefused, ModelChanged: see `spindle_worker.models.errors`.
            OutOfMemory: no room, here or inside the block.

        """
        full = self.library.recipe(recipe)
        key = _key(full)
        configure_torch(self.options.threads)
        slot = self._acquire(key, full, check or (lambda: None))
        try:
            with memory_errors():
                if slot.model is None:
                    raise RuntimeError("acquired a model that is not there")
                yield slot.model
        except OutOfMemory:
            self._evict_idle()
            raise
        finally:
            self._release(slot)

    def is_loaded(self, recipe: str | Mapping[str, Any] | None = None) -> bool:
        """Whether `use` would find the model in memory."""
        full = self.library.recipe(recipe)
        slot = self._slots.get(_key(full))
        return slot is not None and slot.model is not None

    def recipe(self, value: str | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Turn a name, a recipe or None (the default model) into a recipe with its digest."""
        return self.library.recipe(value)

    def infos(self) -> list[ModelInfo]:
        """Describe the usable models for the manifest, saying which are in memory."""
        with self._changed:
            held = {key[:2] for key, slot in self._slots.items() if slot.model}
        return [info.model_copy(update={"loaded": (info.name, info.digest) in held}) for info in self.library.infos()]

    def clear(self) -> None:
        """Let go of every model that is not in use."""
        self._evict_idle()

    @property
    def held_bytes(self) -> int:
        """Bytes that loaded models take together."""
        with self._changed:
            return sum(slot.size for slot in self._slots.values())

    def _acquire(self, key: Key, recipe: Mapping[str, Any], check: Callable[[], None]) -> _Slot:
        """Pin the model's slot, loading it if this caller is the first to want it."""
        with self._changed:
            slot = self._slots.get(key)
            if slot is not None:
                self._slots.move_to_end(key)
                slot.pins += 1
                return self._join(slot, check)
        entry = self._entry(key)
        with self._changed:
            slot = self._slots.get(key)
            if slot is not None:
                slot.pins += 1
                return self._join(slot, check)
            slot = self._reserve(key, self._estimate(entry), check)
        return self._load(key, entry, recipe["adapters"], slot)

    def _join(self, slot: _Slot, check: Callable[[], None]) -> _Slot:
        """Wait for whoever loads it; called with the lock held and the slot pinned."""
        self.counts.hits += 1
        try:
            while slot.model is None and slot.problem is None:
                self._changed.wait(_POLL_SECONDS)
                check()
            if slot.problem is not None:
                raise slot.problem
        except BaseException:
            slot.pins -= 1
            self._changed.notify_all()
            raise
        return slot

    def _entry(self, key: Key) -> Entry:
        name, digest, _ = key
        entry = self.library.entry(name)
        if entry.digest != digest:
            raise ModelChanged(f"The model {name} here is {entry.digest}, but the run was pinned to {digest}")
        return entry

    def _adapter(self, laid: Mapping[str, Any]) -> AdapterFile:
        file = self.library.adapter(laid["adapter"])
        if file.digest != laid["digest"]:
            pinned = laid["digest"]
            raise ModelChanged(f"The adapter {file.name} here is {file.digest}, but the run was pinned to {pinned}")
        return file

    def _estimate(self, entry: Entry) -> int:
        unet = layout_of(entry.contents.pipeline) != "pipeline"
        if not self.options.budget_bytes:
            raise ModelRefused('Models are for the gpu slot of this worker: the node type needs queue="gpu"')
        size = entry.contents.size(resolve_dtype(self.options.dtype, self.device, unet=unet).itemsize)
        if size > self.options.budget_bytes:
            need, have = size / 2**30, self.options.budget_bytes / 2**30
            raise ModelRefused(
                f"The model {entry.name} needs {need:.2f} GiB, and models may take {have:.2f} GiB: "
                "raise SPINDLE_MODEL_MEMORY, or choose a smaller dtype"
            )
        return size

    def _reserve(self, key: Key, size: int, check: Callable[[], None]) -> _Slot:
        """Make room, waiting for pinned models if need be; called with the lock held."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._make_room(size):
            if time.monotonic() > deadline:
                raise OutOfMemory("Other models in use leave no room for this one")
            self._changed.wait(_POLL_SECONDS)
            check()
            if key in self._slots:
                slot = self._slots[key]
                slot.pins += 1
                return self._join(slot, check)
        self._slots[key] = _Slot(size, pins=1)
        return self._slots[key]

    def _make_room(self, size: int) -> bool:
        """Evict idle models, oldest use first, until `size` fits; False if those in use leave no room."""
        held = sum(slot.size for slot in self._slots.values())
        pinned = sum(slot.size for slot in self._slots.values() if slot.pins)
        if pinned + size > self.options.budget_bytes:
            return False
        for key in [key for key, slot in self._slots.items() if not slot.pins]:
            if held + size <= self.options.budget_bytes:
                break
            held -= self._slots[key].size
            self._evict(key)
        return self._granted(size)

    def _granted(self, more: int) -> bool:
        """Whether the other processes leave room too; they need not, as long as we hold models that nobody uses."""
        if self.options.room is None:
            return True
        while not self.options.room(self._held() + more):
            idle = next((key for key, slot in self._slots.items() if not slot.pins), None)
            if idle is None:
                return False
            self._evict(idle)
        return True

    def _held(self) -> int:
        return sum(slot.size for slot in self._slots.values())

    def _say_held(self) -> None:
        if self.options.room is not None:
            self.options.room(self._held())

    def _evict_idle(self) -> None:
        with self._changed:
            for key in [key for key, slot in self._slots.items() if not slot.pins]:
                self._evict(key)
            self._say_held()

    def _evict(self, key: Key) -> None:
        del self._slots[key]
        self.counts.evictions += 1
        gc.collect()  # modules refer to each other in cycles
        release_memory()
        self._tell(CacheEvent("evicted", key[0]))

    def _load(self, key: Key, entry: Entry, adapters: Sequence[Mapping[str, Any]], slot: _Slot) -> _Slot:
        """Load outside the lock; whoever joined learns the outcome."""
        if slot.model is not None:
            return slot
        started = time.monotonic()
        try:
            files = [self._adapter(each) for each in adapters]
            model = load(entry, self.device, self.options.dtype, Adapters(adapters, files))
        except BaseException as error:
            with self._changed:
                self.counts.failures += 1
                slot.problem = error
                slot.pins -= 1
                self._slots.pop(key, None)
                self._say_held()
                self._changed.notify_all()
            self._tell(CacheEvent("failed", key[0], time.monotonic() - started))
            raise
        with self._changed:
            slot.model, slot.size = model, model.size
            self.counts.loads += 1
            self._say_held()
            self._changed.notify_all()
        took = time.monotonic() - started
        log.info("model %s loaded in %.1f s, %.1f MiB", entry.name, took, model.size / 2**20)
        self._tell(CacheEvent("loaded", entry.name, took))
        return slot

    def _release(self, slot: _Slot) -> None:
        with self._changed:
            slot.pins -= 1
            self._changed.notify_all()

    def _tell(self, event: CacheEvent) -> None:
        if self.options.listener:
            self.options.listener(event)
