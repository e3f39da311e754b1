"""Both compose files: valid by the Compose Specification, every image pinned, nothing open, no secret in a variable."""

import re
from typing import Any

import jsonschema_rs
import pytest

from spindle_control.settings import ControlSettings
from spindle_worker.settings import WorkerSettings
from support.repository import ROOT, json_of, text_of, yaml_of

FILES = ("compose.yaml", "compose.prod.yaml")
PINNED = re.compile(r"^([a-z0-9.-]+\.[a-z]+|localhost)/[a-z0-9/_-]+:(?P<tag>[A-Za-z0-9_.-]*[0-9][A-Za-z0-9_.-]*)$")
SECRET_VARIABLE = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY|REDIS_URL|S3_URL|DATABASE_URL|ACCESS|CREDENTIAL")
NAMES_A_FILE = re.compile(r"(_FILE|_PATH)$")
ONE_SHOT = {"volumes"}
PRODUCTION = yaml_of("compose.prod.yaml")["services"]


def services() -> list[Any]:
    found = [(file, name, service) for file in FILES for name, service in yaml_of(file)["services"].items()]
    return [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in found]


def interpolated(text: str) -> str:
    """Replace ${NAME:-default} by its default, and what must be given by a word."""
    return re.sub(r"\$\{\w+(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", lambda found: found["default"] or "example.org", text)


@pytest.fixture(scope="module")
def specification() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json_of("tests/contract/data/compose-spec.json"))


@pytest.mark.parametrize("file", FILES)
def test_is_valid_by_the_specification(file: str, specification: jsonschema_rs.Draft202012Validator) -> None:
    mistakes = [f"{list(error.instance_path)}: {error.message}" for error in specification.iter_errors(yaml_of(file))]
    assert mistakes == []


def test_the_specification_finds_mistakes(specification: jsonschema_rs.Draft202012Validator) -> None:
    mistakes: list[dict[str, object]] = [{"imagee": "x"}, {"ports": "8420"}, {"deploy": {"replicas": []}}]
    for mistake in mistakes:
        assert not specification.is_valid({"services": {"control": {"image": "x"} | mistake}})


@pytest.mark.parametrize("file", FILES)
def test_what_services_refer_to_is_declared(file: str) -> None:
    compose = yaml_of(file)
    used: dict[str, set[str]] = {"secrets": set(), "volumes": set(), "networks": set(), "services": set()}
    for service in compose["services"].values():
        used["secrets"] |= set(service.get("secrets", []))
        used["volumes"] |= {v.split(":")[0] for v in service.get("volumes", []) if not v.startswith(".")}
        used["networks"] |= set(service.get("networks", []))
        used["services"] |= set(service.get("depends_on", []))
    assert used["services"] <= set(compose["services"])
    for kind in ("secrets", "volumes", "networks"):
        assert used[kind] == set(compose.get(kind, {})), f"{kind}: used and declared differ"


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_images_have_registry_and_pinned_tag(file: str, name: str, service: dict[str, Any]) -> None:
    found = PINNED.match(interpolated(service["image"]))
    assert found, f"{service['image']} wants a full registry path and a pinned tag"
    assert found["tag"] != "latest"


def test_both_files_use_the_same_releases() -> None:
    releases: dict[str, set[str]] = {}
    for file in FILES:
        for service in yaml_of(file)["services"].values():
            if "build" not in service:
                path, _, tag = service["image"].rpartition(":")
                releases.setdefault(path, set()).add(tag)
    assert {path: tags for path, tags in releases.items() if len(tags) > 1} == {}


def test_redis_is_new_enough() -> None:
    tag = yaml_of("compose.yaml")["services"]["redis"]["image"].rpartition(":")[2]
    assert tuple(map(int, tag.split("-")[0].split("."))) >= (8, 6, 3)


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_ports(file: str, name: str, service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        if file == "compose.yaml":
            assert port.startswith("127.0.0.1:"), f"{port} is open to the network"
        else:
            assert (name, port) in {("traefik", "80:8080"), ("traefik", "443:8443")}
    assert service.get("network_mode") != "host"
    assert not service.get("privileged")
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_no_secret_stands_in_a_variable_or_command(file: str, name: str, service: dict[str, Any]) -> None:
    for variable in service.get("environment", {}):
        if SECRET_VARIABLE.search(variable):
            assert NAMES_A_FILE.search(variable) or variable == "GF_SECURITY_COOKIE_SECURE", variable
    assert "env_file" not in service
    assert "requirepass" not in str(service.get("command"))


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_mounted_files_exist_and_are_read_only(file: str, name: str, service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        if volume.startswith("."):
            source, _, options = volume.split(":")
            assert (ROOT / source).exists(), volume
            assert options == "ro"


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_everything_has_a_health_check(file: str, name: str, service: dict[str, Any]) -> None:
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    elif "build" in service:
        assert "HEALTHCHECK" in text_of(service["build"]["dockerfile"])
    else:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize(("file", "name", "service"), services())
def test_settings_exist(file: str, name: str, service: dict[str, Any]) -> None:
    if "build" in service:
        plane = ControlSettings if "control" in service["image"] else WorkerSettings
        known = {f"SPINDLE_{field}".upper() for field in plane.model_fields} | {"SPINDLE_SECRETS_PATH"}
        assert set(service["environment"]) <= known
        assert {secret for secret in service["secrets"] if secret.startswith("spindle_")} <= {v.lower() for v in known}


class TestProduction:
    """What compose.prod.yaml promises of each container."""

    @pytest.mark.parametrize(("name", "service"), list(PRODUCTION.items()))
    def test_is_locked_down(self, name: str, service: dict[str, Any]) -> None:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        if name in ONE_SHOT:
            assert service["network_mode"] == "none"
            assert service["cap_add"] == ["CHOWN"]
        else:
            assert re.fullmatch(r"[1-9][0-9]*:[0-9]+", service["user"])
            assert "cap_add" not in service
            assert service["restart"] == "unless-stopped"

    @pytest.mark.parametrize(("name", "service"), list(PRODUCTION.items()))
    def test_is_bounded(self, name: str, service: dict[str, Any]) -> None:
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}

    def test_stores_have_no_way_out(self) -> None:
        compose = yaml_of("compose.prod.yaml")
        assert compose["networks"]["stores"]["internal"] is True
        for name in ("redis", "postgres", "minio"):
            assert compose["services"][name].get("networks", ["stores"]) in (["stores"], {"stores": None})

    def test_several_workers_two_controls_and_a_gpu_profile(self) -> None:
        found = PRODUCTION
        assert found["worker"]["deploy"]["replicas"] >= 2
        assert {"control-1", "control-2"} <= set(found)
        assert found["worker-gpu"]["profiles"] == ["gpu"]
        assert found["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]

    def test_redis_leaves_memory_for_rewriting(self) -> None:
        redis = PRODUCTION["redis"]
        assert redis["command"][-2:] == ["--maxmemory", "2gb"]
        assert redis["deploy"]["resources"]["limits"]["memory"] == "3g"

    def test_every_control_is_routed_and_scraped(self) -> None:
        controls = {f"{name}:8420" for name in PRODUCTION if name.startswith("control")}
        servers = yaml_of("infra/traefik/dynamic.yaml")["http"]["services"]["control"]["loadBalancer"]["servers"]
        assert {server["url"].removeprefix("http://") for server in servers} == controls
        assert all(control in text_of("infra/prometheus/targets/prod.yaml") for control in controls)
