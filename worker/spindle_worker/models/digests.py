"""Names a model by its bytes: SHA-256 over its files' names and digests, each file read once.

`hashes.json` in the data directory keeps {path: [size, mtime in ns, sha256]}, so that 30 GB of weights are read again
only when a file has changed. Several workers may share it: it is replaced as a whole, and a lost entry costs time only.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What a pipeline is made from: weights, configurations, vocabularies."""


def model_files(folder: Path) -> dict[str, Path]:
    """The files that make the model, by name relative to its folder; hidden folders are left out."""
    found = {}
    for pattern in PATTERNS:
        for path in folder.rglob(pattern):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
                found[name] = path
    return dict(sorted(found.items()))


Stamp = tuple[tuple[str, int, int], ...]


def stamp(files: dict[str, Path]) -> Stamp:
    """Names, sizes and times: equal while nobody has touched the files."""
    stats = ((name, path.stat()) for name, path in files.items())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


class FileHashes:
    """SHA-256 of files, remembered by path, size and time of change; without a `store`, in memory only."""

    def __init__(self, store: Path | None = None) -> None:
        self._store = store
        self._known: dict[str, list[object]] = _load(store) if store else {}

    def model_digest(self, files: dict[str, Path]) -> str:
        """Digest over the sorted names and digests of `files`."""
        total, fresh = hashlib.sha256(), False
        for name, path in sorted(files.items()):
            digest, new = self._file_digest(path)
            total.update(f"{name}\0{digest}\n".encode())
            fresh = fresh or new
        if fresh and self._store:
            self._save(self._store)
        return f"sha256:{total.hexdigest()}"

    def _file_digest(self, path: Path) -> tuple[str, bool]:
        stat, key = path.stat(), str(path.resolve())
        seen = self._known.get(key)
        if seen and seen[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(seen[2]), False
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[key] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest, True

    def _save(self, store: Path) -> None:
        store.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=store.parent, prefix=store.name)
        with os.fdopen(handle, "w") as file:
            json.dump(_load(store) | self._known, file)
        Path(name).replace(store)


def _load(store: Path) -> dict[str, list[object]]:
    """What is remembered; a missing or torn file means starting anew."""
    try:
        found = json.loads(store.read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, list) and len(v) == 3} if isinstance(found, dict) else {}
