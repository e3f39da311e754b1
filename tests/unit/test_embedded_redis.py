"""The embedded server: the program chosen, its configuration, what it keeps over a kill."""

import asyncio
import stat
from pathlib import Path

import pytest

from spindle_common.connection import connect
from spindle_control import embedded_redis
from spindle_control.embedded_redis import EmbeddedRedis, NoServer, choose_program, port_is_free, prepare, version
from support.redis_server import RedisServer


def server_saying(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return path


def test_a_new_enough_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = server_saying(tmp_path / "redis-server", "Redis server v=7.2.4 sha=00000000:0 malloc=jemalloc bits=64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert choose_program(tmp_path / "written-by") == program


def test_an_old_server_on_path_gives_way_to_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_saying(tmp_path / "redis-server", "Redis server v=6.2.12 sha=00000000:0 malloc=jemalloc bits=64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert choose_program(tmp_path / "written-by") == embedded_redis.from_wheel()


def test_a_data_directory_stays_with_the_program_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    first = choose_program(tmp_path / "written-by")
    server_saying(tmp_path / "redis-server", "Redis server v=7.0.15")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert choose_program(tmp_path / "written-by") == first


def test_a_program_that_is_gone_is_chosen_anew(tmp_path: Path) -> None:
    (tmp_path / "written-by").write_text(f"{tmp_path}/gone\n")
    assert choose_program(tmp_path / "written-by").is_file()


def test_without_any_server_the_person_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(embedded_redis, "OLDEST", (99, 0))
    with pytest.raises(NoServer, match="SPINDLE_REDIS_URL"):
        prepare(tmp_path)


def test_a_program_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert version(tmp_path / "missing") == (0, 0)
    assert version(server_saying(tmp_path / "silent", "")) == (0, 0)


def test_the_password_is_in_no_argument_and_not_shown(tmp_path: Path) -> None:
    server = prepare(tmp_path)
    assert server.password not in " ".join(server.command) + repr(server)
    assert server.password in server.url
    assert stat.S_IMODE((tmp_path / "redis").stat().st_mode) == 0o700


async def test_nobody_answers_where_nothing_listens(tmp_path: Path) -> None:
    assert not await EmbeddedRedis(Path("redis-server"), tmp_path, embedded_redis.free_port()).answers()


def test_what_was_written_survives_a_kill_in_a_folder_with_spaces_and_quotes(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / 'a "strange" folder')
    server.start()

    async def write() -> None:
        client = connect(server.url)
        await client.set("kept", "yes")
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        await asyncio.sleep(1.5)  # longer than the second between two syncs
        await client.aclose()

    async def read() -> object:
        client = connect(server.url)
        try:
            return await client.get("kept")
        finally:
            await client.aclose()

    asyncio.run(write())
    assert not port_is_free("127.0.0.1", server.server.port)
    server.stop()
    server.start()
    assert asyncio.run(read()) in ("yes", b"yes")
    server.stop()


async def test_a_wrong_password_is_no_answer(redis_server: RedisServer, tmp_path: Path) -> None:
    stranger = EmbeddedRedis(redis_server.server.program, tmp_path, redis_server.server.port, "wrong")
    assert not await stranger.answers()
