"""The Dockerfiles: pinned, several stages, not root, health-checked, from files that exist; no torch in control."""

import re
import shlex

import pytest

from support.repository import ROOT, text_of

FILES = ("infra/docker/control.Dockerfile", "infra/docker/worker.Dockerfile")


def instructions(file: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments), continued lines joined, comments left out."""
    lines = [line for line in text_of(file).splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name.upper(), " ".join(rest.split())) for name, rest in found]


def of(file: str, name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions(file) if instruction == name]


def last_stage(file: str) -> list[tuple[str, str]]:
    found = instructions(file)
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


@pytest.mark.parametrize("file", FILES)
def test_base_is_a_pinned_slim_python(file: str) -> None:
    assert [stage.split()[0] for stage in of(file, "FROM")] == ["docker.io/library/python:${PYTHON}"] * 2
    assert re.fullmatch(r"PYTHON=3\.11\.\d+-slim-\w+", of(file, "ARG")[0])


@pytest.mark.parametrize("file", FILES)
def test_runs_as_nobody_special(file: str) -> None:
    users = [arguments for name, arguments in last_stage(file) if name == "USER"]
    assert users == ["10001:10001"]


@pytest.mark.parametrize("file", FILES)
def test_what_is_copied_exists_and_is_sent_to_the_builder(file: str) -> None:
    allowed = {line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    for arguments in of(file, "COPY"):
        if not arguments.startswith("--from"):
            *sources, _ = shlex.split(arguments)
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in allowed, f"{source} is not in .dockerignore's exceptions"


@pytest.mark.parametrize("file", FILES)
def test_last_stage_only_takes_what_was_built(file: str) -> None:
    copies = [arguments for name, arguments in last_stage(file) if name == "COPY"]
    assert copies == ["--from=build /opt/spindle /opt/spindle"]
    assert not any("pip install" in arguments or "apt-get" in arguments for _, arguments in last_stage(file))


@pytest.mark.parametrize("file", FILES)
def test_health_check_asks_the_exposed_port(file: str) -> None:
    (port,) = of(file, "EXPOSE")
    (check,) = of(file, "HEALTHCHECK")
    assert f"http://127.0.0.1:{port}/readyz" in check


@pytest.mark.parametrize("file", FILES)
def test_no_secret_and_no_address_beyond_loopback_is_baked_in(file: str) -> None:
    baked = " ".join(of(file, "ENV") + of(file, "ARG"))
    assert not re.search(r"SPINDLE_(\w*HOST|REDIS_URL|S3_URL|DATABASE_URL)|PASSWORD|TOKEN", baked)


def test_control_has_no_torch() -> None:
    installs = " ".join(run for run in of(FILES[0], "RUN") if "pip install" in run)
    assert "torch" not in installs
    assert "worker" not in " ".join(of(FILES[0], "COPY"))
    assert any("find_spec('torch')" in run for run in of(FILES[0], "RUN")), "the build itself must refuse torch"
    pins = text_of("requirements/control.txt")
    assert not re.search(r"^(torch|diffusers|transformers|accelerate)\b", pins, re.MULTILINE)


def test_worker_takes_torch_alone_and_from_the_index_named() -> None:
    installs = [run for run in of(FILES[1], "RUN") if "pip install" in run]
    assert '--index-url "${TORCH_INDEX}" "torch==${TORCH}"' in installs[0]
    assert "index-url" not in installs[1]
    assert "torchvision" not in text_of(FILES[1])
