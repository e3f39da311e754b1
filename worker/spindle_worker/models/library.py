"""The models that a worker's configuration names; workflows know the names only, never a path.

    library = ModelLibrary({"sd15": "/models/sd15", "sdxl": "owner/name"}, default="sd15", data_dir=Path(".spindle"))
    library.infos()          # for the manifest
    library.recipe("sd15")   # {"model": "sd15", "digest": "sha256:…", "adapters": []}, the value that travels

A source is a folder in the diffusers format or a hub id (`owner/name`, `owner/name@revision`), fetched when first
looked at; or a `*.safetensors` file, which is an adapter to be laid over models (`adapters`). `tiny` is always there:
it ships with the worker. `spindle.json` beside `model_index.json` may recommend {"steps", "guidance", "width",
"height"}.
"""

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spindle_common.contracts import ModelInfo
from spindle_common.problems import SpindleError
from spindle_worker.models.adapters import SUFFIX, AdapterFile, is_adapter, read_laid
from spindle_worker.models.digests import FileHashes, Stamp, model_files, stamp
from spindle_worker.models.errors import ModelRefused, ModelUnknown
from spindle_worker.models.hub import HUB_ID, fetch
from spindle_worker.models.weights import Contents, inspect_folder, read_json

TINY = "tiny"
TINY_FOLDER = Path(__file__).resolve().parents[1] / TINY
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")

log = logging.getLogger(__name__)


class Recommended(BaseModel):
    """What `spindle.json` recommends; None where it says nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    steps: int | None = Field(None, ge=1, le=1000)
    guidance: float | None = Field(None, ge=0, le=100)
    width: int | None = Field(None, ge=16, le=2048, multiple_of=8)
    height: int | None = Field(None, ge=16, le=2048, multiple_of=8)


@dataclass(frozen=True)
class Entry:
    """A configured model whose files have been looked at."""

    name: str
    folder: Path
    digest: str
    contents: Contents
    recommended: Recommended


class ModelLibrary:
    """Configured models by name; safe to use from several threads."""

    def __init__(self, configured: Mapping[str, str], default: str = TINY, data_dir: Path | None = None) -> None:
        """Raise ValueError for a name that is none, or a default that is not configured."""
        sources: dict[str, str] = {TINY: str(TINY_FOLDER), **configured}
        if wrong := [name for name in sources if not _NAME.match(name)]:
            raise ValueError(f"{wrong[0]!r} is no model name: lower-case letters, digits and . _ - make one")
        if default not in sources or is_adapter(sources[default]):
            raise ValueError(f"the default model {default!r} is not configured; there are {', '.join(sources)}")
        self.default = default
        self._sources = sources
        self._hashes = FileHashes(data_dir / "models" / "hashes.json" if data_dir else None)
        self._entries: dict[str, tuple[Stamp, Entry]] = {}
        self._fetched: dict[str, Path] = {}
        self._lock = threading.RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all configured models."""
        return tuple(self._sources)

    def entry(self, name: str) -> Entry:
        """Look at a model's files as they are now. Raises ModelUnknown, ModelRefused."""
        if name not in self._sources or is_adapter(self._sources[name]):
            raise ModelUnknown(f"No model is called {name[:64]!r}; there are {', '.join(self._named(adapters=False))}")
        with self._lock:
            folder = self._folder(name)
            files = model_files(folder)
            now = stamp(files)
            before, entry = self._entries.get(name, (None, None))
            if entry is None or before != now:
                entry = self._look(name, folder, files)
                self._entries[name] = (now, entry)
            return entry

    def infos(self) -> list[ModelInfo]:
        """Describe the usable models for the manifest; what is wrong with the others is logged."""
        found = []
        for name in self._named(adapters=False):
            try:
                found.append(self._info(self.entry(name)))
            except (SpindleError, OSError) as error:
                log.warning("model %s cannot be used: %s", name, error)
        return found

    def recipe(self, value: str | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Turn a name, a recipe or None (the default model) into a recipe with its digest.

        Raises:
            ModelUnknown: no such model.
            ModelRefused: its folder cannot be used, or its adapters cannot be read.

        """
        given: Mapping[str, Any] = {"model": value} if isinstance(value, str) else value or {}
        name = str(given.get("model") or self.default)
        adapters = [
            {
                "adapter": each.adapter,
                "weight": each.weight,
                "text_weight": each.weight if each.text_weight is None else each.text_weight,
                "digest": each.digest or self.adapter(each.adapter).digest,
            }
            for each in read_laid(given.get("adapters") or [])
        ]
        return {"model": name, "digest": given.get("digest") or self.entry(name).digest, "adapters": adapters}

    def adapter(self, name: str) -> AdapterFile:
        """Look at an adapter's file as it is now. Raises ModelUnknown, ModelRefused."""
        if not is_adapter(self._sources.get(name, "")):
            known = ", ".join(self._named(adapters=True)) or "none"
            raise ModelUnknown(f"No adapter is called {name[:64]!r}; there are {known}")
        path = Path(self._sources[name]).expanduser()
        if not path.is_file():
            raise ModelRefused(f"The file configured for the adapter {name} does not exist")
        with self._lock:
            return AdapterFile(name, path, self._hashes.model_digest({SUFFIX: path}))

    def _named(self, *, adapters: bool) -> list[str]:
        return [name for name, source in self._sources.items() if is_adapter(source) == adapters]

    def _folder(self, name: str) -> Path:
        source = self._sources[name]
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder
        if HUB_ID.match(source):
            if source not in self._fetched:
                self._fetched[source] = fetch(source)
            return self._fetched[source]
        raise ModelRefused(f"The folder configured for the model {name} does not exist")

    def _look(self, name: str, folder: Path, files: dict[str, Path]) -> Entry:
        contents = inspect_folder(folder)
        return Entry(name, folder, self._hashes.model_digest(files), contents, _recommended(folder))

    def _info(self, entry: Entry) -> ModelInfo:
        return ModelInfo(
            name=entry.name,
            digest=entry.digest,
            pipeline=entry.contents.pipeline,
            default=entry.name == self.default,
            settings=entry.recommended.model_dump(exclude_none=True),
        )


def _recommended(folder: Path) -> Recommended:
    path = folder / "spindle.json"
    if not path.is_file():
        return Recommended()
    try:
        return Recommended.model_validate(read_json(path))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ModelRefused(f"The model's spindle.json: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error
