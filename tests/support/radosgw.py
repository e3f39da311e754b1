"""A real S3 server, private to the test run: Ceph's radosgw from Debian's packages, which checks every signature.

    packages()  the unpacked packages (66 MB to fetch, 260 MB on disk, once; kept in the user's cache). Nothing is
                installed: apt only resolves and fetches, dpkg only unpacks, so no root is needed where apt's lists
                are there or can be fetched. Raises Missing with the reason where that fails.
    start()     one monitor, one object store in memory, one gateway; loopback, free ports, cephx. About 2 s.

Most tests take the fixture of `support.s3_server`. The tricks that make it quick and small: an OSD map made offline (no
`ceph` command, hence no Debian Python), pools of one placement group, a monitor that proposes at once, an object store
in memory, and a gateway without a cache (whose peers would wait for a killed one's answer for 30 s).
"""

import base64
import contextlib
import fcntl
import os
import platform
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

WANTED = ("radosgw", "ceph-mon", "ceph-osd")
DAEMONS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")
START_SECONDS = 60.0


class Missing(Exception):
    """The packages cannot be had here."""


@dataclass(slots=True)
class S3Server:
    """An S3 server with one user; `gateway` is None if it is not ours to stop."""

    endpoint: str
    access_key: str
    secret_key: str
    gateway: "Radosgw | None" = None

    def url(self, bucket: str, secret_key: str | None = None) -> str:
        """Return what SPINDLE_S3_URL takes."""
        return f"http://{self.access_key}:{secret_key or self.secret_key}@{self.endpoint}/{bucket}"


# Packages ---------------------------------------------------------------------------------------------------------


def packages() -> Path:
    """Return the folder of the unpacked packages, fetched at first use. Raises Missing."""
    needed = ("apt-get", "dpkg")
    if absent := [tool for tool in needed if not shutil.which(tool)]:
        raise Missing(f"{' and '.join(absent)} not found; the S3 tests need Debian's packages of radosgw")
    cache = _cache()
    tree = cache / f"radosgw-{_release()}"
    with (cache / "radosgw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not _runs(tree):
            shutil.rmtree(tree, ignore_errors=True)
            _fetch(tree)
    return tree


def _cache() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spindle-tests"
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "probe").touch()
    except OSError:
        root = Path(tempfile.gettempdir()) / f"spindle-tests-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
    return root


def _release() -> str:
    about = platform.freedesktop_os_release()
    return f"{about['ID']}-{about.get('VERSION_ID', 'x')}-{platform.machine()}"


def _runs(tree: Path) -> bool:
    """Tell whether the daemons find their libraries (packages installed since, or removed, may change that)."""
    return tree.is_dir() and all(
        subprocess.run(
            [tree / "usr/bin" / name, "--version"], env=_env(tree), capture_output=True, check=False
        ).returncode
        == 0
        for name in DAEMONS
    )


def _fetch(tree: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        work = Path(folder)
        debs = _download(work)
        draft = work / "tree"
        draft.mkdir()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda deb: _run(["dpkg", "-x", str(deb), str(draft)]), debs))
        if not _runs(draft):
            raise Missing("Debian's radosgw was fetched, but does not run here")
        draft.rename(tree)


def _download(work: Path) -> list[Path]:
    """Fetch the packages and what they depend on; with lists of our own if the system has none."""
    for options in ([], _own_lists(work)):
        try:
            if options:
                _run(["apt-get", *options, "update"])
            plan = _run(["apt-get", *options, "-s", "--no-install-recommends", "install", *WANTED])
            wanted = [f"{line.split()[1]}={line.split()[2].lstrip('(')}" for line in plan if line.startswith("Inst ")]
            _run(["apt-get", *options, "download", *wanted], cwd=work)
        except subprocess.SubprocessError as error:
            reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1:]
        else:
            return sorted(work.glob("*.deb"))
    raise Missing(f"apt-get cannot fetch Debian's radosgw: {' '.join(reason)}")


def _own_lists(work: Path) -> list[str]:
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True, exist_ok=True)
    places = {"Dir::State::lists": work / "lists", "Dir::Cache": work, "Dir::Cache::archives": work / "archives"}
    return ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", *(f"-o{key}={place}" for key, place in places.items())]


def _run(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()


# Daemons ----------------------------------------------------------------------------------------------------------


def _env(tree: Path) -> dict[str, str]:
    folders = [*tree.glob("usr/lib/*-linux-gnu"), *tree.glob("usr/lib/*-linux-gnu/ceph"), *tree.glob("lib/*-linux-gnu")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, folders)), "CEPH_ARGS": ""}


def start(tree: Path) -> "Radosgw":
    """Start a server; again, should another process take one of the ports meanwhile."""
    for _ in range(2):
        server = Radosgw(tree)
        try:
            server.start()
        except (RuntimeError, subprocess.SubprocessError):
            server.close()
        else:
            return server
    server = Radosgw(tree)
    server.start()
    return server


@dataclass(slots=True)
class Radosgw:
    """Monitor, object store and gateway; `server` tells how to reach it. `stop_gateway` makes S3 go away."""

    tree: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="radosgw-")))
    server: S3Server = field(init=False)
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _parent: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "radosgw"))
    """Daemons die with the thread that started them: one of their own, not one of a test's loop."""

    def start(self) -> None:
        """Bring everything up. Raises RuntimeError or SubprocessError with the folder of the logs."""
        monitor, gateway = _free_ports(2)
        self.server = S3Server(f"127.0.0.1:{gateway}", secrets.token_hex(10).upper(), secrets.token_hex(20), self)
        cluster, store = str(uuid.uuid4()), str(uuid.uuid4())
        self._path("ceph.conf").write_text(_configuration(self.tree, self.folder, cluster, monitor))
        self._path("keyring").write_text(_keyring())
        self._path("keyring").chmod(0o600)
        for name in ("mon", "osd", "rgw", "run"):
            self._path(name).mkdir()
        self._make_monitor(cluster, monitor)
        self._spawn("ceph-mon", "-i", "a")
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._spawn("ceph-osd", "-i", "0")
        keys = ("--access-key", self.server.access_key, "--secret-key", self.server.secret_key)
        self._tool("radosgw-admin", "user", "create", "--uid", "tests", "--display-name", "tests", *keys)
        self.start_gateway()

    def start_gateway(self) -> None:
        """Let S3 answer, at the same address each time."""
        self._spawn("radosgw", "-n", "client.rgw", f"--rgw-frontends=beast endpoint={self.server.endpoint}")
        self._await("radosgw", self.server.endpoint)

    @contextlib.contextmanager
    def encrypted(self, certificate: Path) -> Iterator[S3Server]:
        """Start a second gateway, which speaks TLS only; the file holds certificate and key."""
        endpoint = f"127.0.0.1:{_free_ports(1)[0]}"
        frontend = f"beast ssl_endpoint={endpoint} ssl_certificate={certificate}"
        self._spawn("radosgw", "-n", "client.rgw", f"--rgw-frontends={frontend}", called="tls")
        self._await("tls", endpoint)
        yield replace(self.server, endpoint=endpoint)
        self._end(self._daemons.pop("tls"))

    def stop_gateway(self) -> None:
        """Let S3 be away: connections are refused."""
        self._end(self._daemons.pop("radosgw"))

    def close(self) -> None:
        """End the daemons and forget everything."""
        for daemon in reversed(self._daemons.values()):
            self._end(daemon)
        self._parent.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_monitor(self, cluster: str, port: int) -> None:
        """Make the monitor's store offline, with an OSD in its map already."""
        monitors, devices = str(self._path("monmap")), str(self._path("osdmap"))
        address = f"[v2:127.0.0.1:{port}]"
        self._tool(
            "monmaptool", "--create", "--fsid", cluster, "--enable-all-features", "--addv", "a", address, monitors
        )
        self._tool("osdmaptool", "--createsimple", "1", devices)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--osdmap", devices)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [str(self.tree / "usr/bin" / name), "-c", str(self._path("ceph.conf")), *arguments]

    def _tool(self, name: str, *arguments: str) -> None:
        _run(self._command(name, *arguments), env=_env(self.tree))

    def _spawn(self, name: str, *arguments: str, called: str = "") -> None:
        """Start a daemon that dies with the test run, however that ends."""
        leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self._path(f"{called or name}.out").open("ab") as log:
            command = [*leash, *self._command(name, "-f", *arguments)]
            started = self._parent.submit(subprocess.Popen, command, env=_env(self.tree), stdout=log, stderr=log)
            self._daemons[called or name] = started.result()

    def _await(self, name: str, endpoint: str) -> None:
        """Wait until the gateway takes connections, which it does once it is ready."""
        host, port = endpoint.rsplit(":", 1)
        deadline = time.monotonic() + START_SECONDS
        while self._daemons[name].poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
                return
            time.sleep(0.05)
        raise RuntimeError(f"radosgw does not answer; its logs are in {self.folder}")

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        daemon.kill()  # everything is in memory: there is nothing to save
        daemon.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


def _keyring() -> str:
    """Make keys for all four parties, as `ceph-authtool --gen-key` does."""
    abilities = {
        "mon.": {"mon": "allow *"},
        "client.admin": {"mon": "allow *", "osd": "allow *"},
        "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
        "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
    }
    lines: list[str] = []
    for name, caps in abilities.items():
        key = struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secrets.token_bytes(16)
        lines += [f"[{name}]", f"key = {base64.b64encode(key).decode()}"]
        lines += [f'caps {service} = "{rights}"' for service, rights in caps.items()]
    return "\n".join(lines) + "\n"


def _configuration(tree: Path, folder: Path, cluster: str, port: int) -> str:
    library = next(path for path in tree.glob("usr/lib/*-linux-gnu") if (path / "rados-classes").is_dir())
    return f"""[global]
fsid = {cluster}
mon host = v2:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}/run
crash dir = {folder}
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
pid file =
admin socket =
plugin dir = {library}
erasure code dir = {library}/ceph/erasure-code
osd class dir = {library}/rados-classes
osd class load list = *
osd class default list = *
mon data = {folder}/mon
mon allow pool size one = true
mon max pg per osd = 10000
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw cache enabled = false
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
rgw thread pool size = 32
"""
