"""API keys: who holds one gets in, and nothing else does."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spindle_common.problems import InvalidRequest, NotFound, Unavailable
from spindle_control.api_keys import ApiKeys


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    return ApiKeys(tmp_path / "data" / "api-keys.json")


def test_without_a_file_no_key_is_needed_and_none_fits(keys: ApiKeys) -> None:
    assert not keys.required
    assert not keys.usable
    assert keys.verify("spindle_0123456789ab_" + "A" * 43) is None


def test_a_new_key_opens_the_door_for_its_tenant(keys: ApiKeys) -> None:
    key, text = keys.create("studio", "build machine")
    assert keys.required
    assert keys.usable
    assert keys.verify(text) == key
    assert (key.tenant, key.name) == ("studio", "build machine")


def test_other_texts_do_not(keys: ApiKeys) -> None:
    key, text = keys.create()
    other = "A" if text[-1] != "A" else "B"
    for wrong in (
        "",
        "x",
        text[:-1],
        text[:-1] + other,
        text + "A",
        key.hash,
        f"spindle_{key.id}_",
        text + "\n",
        "\ud800é",
    ):
        assert keys.verify(wrong) is None


def test_the_file_keeps_no_secret_and_is_the_owners_alone(keys: ApiKeys) -> None:
    _, text = keys.create()
    assert text.split("_", 2)[2] not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [path.name for path in keys.path.parent.iterdir() if path.suffix == ".new"] == []


def test_a_running_control_sees_what_others_change(keys: ApiKeys) -> None:
    running = ApiKeys(keys.path)
    assert not running.required
    key, text = keys.create()
    assert running.verify(text) == key
    keys.revoke(key.id)
    assert running.verify(text) is None


def test_a_revoked_key_stays_closed_and_keeps_the_door_shut(keys: ApiKeys) -> None:
    key, _ = keys.create()
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at is not None
    assert keys.revoke(key.id) == revoked
    assert keys.required
    assert not keys.usable
    with pytest.raises(NotFound):
        keys.revoke("ffffffffffff")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": [{"id": "x"}]}', '{"keys": [1]}'])
def test_a_broken_file_lets_nobody_in(keys: ApiKeys, text: str) -> None:
    _, key = keys.create()
    keys.path.write_text(text)
    for ask in (lambda: keys.required, lambda: keys.verify(key), keys.create):
        with pytest.raises(Unavailable):
            ask()
    assert keys.path.read_text() == text


def test_what_cannot_be_looked_at_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        _ = ApiKeys(tmp_path / "file" / "api-keys.json").required


@pytest.mark.parametrize(
    ("tenant", "name"), [("", ""), ("A", ""), ("a" * 64, ""), ("a/b", ""), ("a", "x" * 201), ("a", "\n")]
)
def test_strange_tenants_and_names_are_refused(keys: ApiKeys, tenant: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        keys.create(tenant, name)
    assert not keys.required


def test_processes_that_make_keys_together_lose_none(keys: ApiKeys) -> None:
    script = (
        "import sys, pathlib; from spindle_control.api_keys import ApiKeys; ApiKeys(pathlib.Path(sys.argv[1])).create()"
    )
    command = [sys.executable, "-c", script, str(keys.path)]
    running = [subprocess.Popen(command, env=os.environ) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(json.loads(keys.path.read_text())["keys"]) == 4
