"""The platforms' files say what the code says: variables, health check, port, time to end."""

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from config import Settings
from server import SHUTDOWN_TIMEOUT
from support.service import PROJECT, Service
from support.tokens import SECRET
from workers import END_TIMEOUT

RENDER = yaml.safe_load((PROJECT / "render.yaml").read_text(encoding="utf-8"))["services"][0]
RAILWAY = json.loads((PROJECT / "railway.json").read_text(encoding="utf-8"))
FLY = tomllib.loads((PROJECT / "fly.toml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))["services"]
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
GUIDE = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")

KNOWN = {name.upper() for name in Settings.model_fields}
REQUIRED = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
SECRETS = {
    name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr
}
SAMPLES = {
    "DATABASE_URL": "postgresql://user:password@host-pooler.example.com/name?sslmode=require",
    "BETTER_AUTH_SECRET": SECRET,
    "ALLOWED_ORIGINS": "https://app.example.com",
}


def typed(command: str) -> dict[str, str]:
    """Find the variables that the guide's command sets."""
    (arguments,) = re.findall(rf"^{command} ((?:.*\\\n)+.*)$", GUIDE, re.MULTILINE)
    return dict(re.findall(r'([A-Z_]+)="(.*?)"', arguments))


def in_the_file() -> dict[str, dict[str, str]]:
    """Collect what each platform's file gives to the service."""
    return {
        "render": {each["key"]: each["value"] for each in RENDER["envVars"] if "value" in each},
        "fly": FLY["env"],
        "railway": {},
        "compose": COMPOSE["api"]["environment"],
    }


def asked_for() -> dict[str, set[str]]:
    """Collect what the operator is asked for, and is kept out of the file."""
    return {
        "render": {each["key"] for each in RENDER["envVars"] if each.get("sync") is False},
        "fly": set(typed("fly secrets set")),
        "railway": set(typed("railway variable set")),
        "compose": set(re.findall(r"\$\{([A-Z_]+):\?", str(COMPOSE["api"]["environment"]))),
    }


PLATFORMS = list(in_the_file())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_required_variable_is_set(platform: str) -> None:
    assert set(in_the_file()[platform]) | asked_for()[platform] >= REQUIRED


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_variable_exists(platform: str) -> None:
    asked = asked_for()[platform] - {"POSTGRES_PASSWORD"}
    assert set(in_the_file()[platform]) | asked <= KNOWN


@pytest.mark.parametrize("platform", ["render", "fly", "railway"])
def test_no_secret_is_in_the_file(platform: str) -> None:
    assert SECRETS
    assert not SECRETS & set(in_the_file()[platform])


def test_compose_takes_its_secrets_from_outside() -> None:
    for service in COMPOSE.values():
        for name, value in service["environment"].items():
            if name in SECRETS or name == "POSTGRES_PASSWORD":
                assert re.search(r"\$\{[A-Z_]+:\?", value), name


@pytest.mark.parametrize("platform", ["render", "fly", "railway"])
def test_the_service_accepts_the_values(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in (in_the_file()[platform] | SAMPLES).items():
        assert isinstance(value, str)
        monkeypatch.setenv(name, value)
    assert Settings().allowed_origins == ("https://app.example.com",)


def test_the_health_check_answers_whatever_the_database_does(down: Service) -> None:
    paths = {
        RENDER["healthCheckPath"],
        RAILWAY["deploy"]["healthcheckPath"],
        *(check["path"] for check in FLY["http_service"]["checks"]),
        *re.findall(r"request\('GET', '(.*?)'\)", DOCKERFILE),
    }
    assert {path: down.client.get(path).status_code for path in paths} == {"/livez": 200}


@pytest.mark.parametrize(
    ("platform", "seconds"),
    [
        ("render", RENDER["maxShutdownDelaySeconds"]),
        ("railway", RAILWAY["deploy"]["drainingSeconds"]),
        ("fly", FLY["kill_timeout"]),
        ("compose", int(COMPOSE["api"]["stop_grace_period"].removesuffix("s"))),
    ],
)
def test_the_platform_waits_until_the_service_has_ended(platform: str, seconds: int) -> None:
    assert seconds >= SHUTDOWN_TIMEOUT + 5, platform
    assert seconds > END_TIMEOUT, platform


def test_the_platform_says_so_with_sigterm() -> None:
    assert FLY["kill_signal"] == "SIGTERM"
    assert "STOPSIGNAL" not in DOCKERFILE
    assert "stop_signal" not in COMPOSE["api"]


def test_the_ports_agree() -> None:
    (exposed,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"PORT={exposed}" in DOCKERFILE
    assert FLY["env"]["PORT"] == str(FLY["http_service"]["internal_port"])
    assert COMPOSE["api"]["ports"] == [f"${{PORT:-8000}}:{COMPOSE['api']['environment']['PORT']}"]


def test_a_worker_is_an_instance_that_the_platform_drains() -> None:
    for platform in ("render", "fly", "compose"):
        assert in_the_file()[platform]["WEB_CONCURRENCY"] == "1"


def test_the_database_keeps_its_data() -> None:
    database: dict[str, Any] = COMPOSE["database"]
    assert database["image"] == "postgres:18"
    assert database["volumes"] == ["database:/var/lib/postgresql"]
    assert COMPOSE["api"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "healthcheck" in database
    url = COMPOSE["api"]["environment"]["DATABASE_URL"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    assert url.startswith(f"postgresql://{user}:${{POSTGRES_PASSWORD:?")
    assert url.endswith(f"}}@database:5432/{name}")


def test_compose_has_the_form_that_its_schema_demands() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*command, PROJECT / "compose.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_railway_builds_the_same_image() -> None:
    comment, own = (PROJECT / RAILWAY["build"]["dockerfilePath"]).read_text("utf-8").split("\n", 1)
    assert comment.startswith("# The same as Dockerfile without its cache mount")
    assert "--mount" not in own
    assert own == re.sub(r"--mount=type=cache,\S+ \\\n +", "", DOCKERFILE)


def test_railway_gets_numbers() -> None:
    """Its documentation shows strings, which it refuses."""
    times = ("healthcheckTimeout", "overlapSeconds", "drainingSeconds", "restartPolicyMaxRetries")
    assert all(type(RAILWAY["deploy"][name]) is int for name in times)
