"""API keys: `spindle_<id>_<secret>`, the secret 256 bits, kept as SHA-256 only.

The file is JSON, readable by its owner alone and replaced as a whole; a running control reads it again when it changes:

    {"keys": [{"id", "tenant", "name", "hash", "created_at", "revoked_at"?}]}

A random secret of 256 bits needs no slow hash. Keys are compared in constant time, unknown ids too. As soon as the file
holds a key, also a revoked one, every request needs one; a file that cannot be read lets nobody in.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from spindle_common.problems import InvalidRequest, NotFound, Unavailable

_KEY = re.compile(r"spindle_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key."""

    id: str
    tenant: str
    name: str
    hash: str
    created_at: str
    revoked_at: str | None = None


class ApiKeys:
    """The keys of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self._path

    def all(self) -> tuple[ApiKey, ...]:
        """Every key, revoked ones too; `Unavailable` where the file cannot be read."""
        self._refresh()
        return tuple(self._keys.values())

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return bool(self.all())

    @property
    def usable(self) -> bool:
        """Whether any key opens the door."""
        return any(key.revoked_at is None for key in self.all())

    def verify(self, presented: str) -> ApiKey | None:
        """Return the key that was presented, None unless it is known and not revoked."""
        self._refresh()
        match = _KEY.fullmatch(presented)
        key = self._keys.get(match[1]) if match else None
        same = hmac.compare_digest(_digest(presented), key.hash if key else _NOBODY)
        return key if key and same and key.revoked_at is None else None

    def create(self, tenant: str = "default", name: str = "") -> tuple[ApiKey, str]:
        """Add a key; its text is returned this once. Raises `InvalidRequest` on a strange tenant or name."""
        if not _TENANT.fullmatch(tenant):
            raise InvalidRequest(f"{tenant[:80]!r} is no tenant: lower-case letters, digits, - and _, at most 63.")
        if len(name) > 200 or not name.isprintable():
            raise InvalidRequest("A key's name is at most 200 printable characters.")
        key_id = secrets.token_hex(6)
        text = f"spindle_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(id=key_id, tenant=tenant, name=name, hash=_digest(text), created_at=_now())
        with self._changing():
            self._keys[key.id] = key
        return key, text

    def revoke(self, key_id: str) -> ApiKey:
        """Close the door to a key for good; `NotFound` where there is none of that id."""
        with self._changing():
            key = self._keys.get(key_id)
            if key is None:
                raise NotFound(f"There is no API key {key_id[:80]!r}.")
            if key.revoked_at is None:
                key = self._keys[key_id] = replace(key, revoked_at=_now())
        return key

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, let change, and replace the file while no other process does."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._stamp = None
            self._refresh()
            yield
            self._write()
        finally:
            os.close(lock)

    def _write(self) -> None:
        new = self._path.with_suffix(f".{secrets.token_hex(4)}.new")
        document = {"keys": [{k: v for k, v in asdict(key).items() if v is not None} for key in self._keys.values()]}
        try:
            with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(document, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return
        except OSError as error:
            raise Unavailable(f"The file of API keys cannot be read: {error.strerror}.") from error
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp:
            self._keys, self._stamp = self._read(), stamp

    def _read(self) -> dict[str, ApiKey]:
        try:
            keys = [ApiKey(**each) for each in json.loads(self._path.read_text())["keys"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Unavailable(
                "The file of API keys cannot be read; restore it, or remove it and make new keys."
            ) from error
        return {key.id: key for key in keys}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
