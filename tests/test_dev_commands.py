"""The developer's commands: a token, why a token is refused, an empty database."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from config import load_settings
from dev_commands import advice, verdict
from support.jwks_endpoint import ATTACKER, ISSUER, KEY, KID, Endpoint, claims, token
from support.service import PATIENCE, PROJECT, Service, environment
from support.tokens import SECRET, sign, signed

ENVIRONMENT = {"BETTER_AUTH_SECRET": SECRET, "ALLOWED_ORIGINS": "http://localhost:3000"}


def dev(
    *arguments: str,
    folder: Path = PROJECT,
    typed: str = "",
    variables: Mapping[str, str] = ENVIRONMENT,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "dev.py", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def status(service: Service, user_id: str, bearer: str) -> int:
    headers = {"Authorization": f"Bearer {bearer}"}
    return service.client.get(f"/api/{user_id}/tasks", headers=headers).status_code


@pytest.mark.parametrize(
    ("options", "user_id"),
    [([], "demo-user"), (["--user", "bob"], "bob"), (["--minutes", "1"], "")],
)
def test_a_token_is_all_that_is_printed_and_works(
    service: Service, options: list[str], user_id: str
) -> None:
    done = dev("token", *options)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert status(service, user_id or "demo-user", done.stdout.strip()) == 200


def test_a_token_is_signed_with_the_newest_secret() -> None:
    secrets = {"BETTER_AUTH_SECRETS": f"2:{'n' * 40},1:{SECRET}"}
    bearer = dev("token", variables=ENVIRONMENT | secrets).stdout
    assert dev("explain", typed=bearer).stdout.startswith("Refused: wrong signature")
    assert dev("explain", typed=bearer, variables=ENVIRONMENT | secrets).returncode == 0


@pytest.mark.parametrize(
    "options", [["--user", ""], ["--user", "x" * 256], ["--minutes", "0"], ["--minutes", "1.5"]]
)
def test_a_token_that_would_be_refused_is_not_made(options: list[str]) -> None:
    done = dev("token", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"argument {options[0]}: a " in done.stderr


@pytest.mark.parametrize("command", ["token", "explain"])
def test_without_an_env_file_it_says_where_one_comes_from(clone: Path, command: str) -> None:
    done = dev(command, folder=clone, variables={})
    assert (done.returncode, done.stdout) == (1, "")
    assert "Configuration error: BETTER_AUTH_SECRET is required" in done.stderr
    assert "`uv run dev.py` writes it" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["token", "--help"], ["reset", "--help"]])
def test_help_says_what_there_is(arguments: list[str]) -> None:
    done = dev(*arguments)
    words = {"token": "--minutes", "reset": "--yes", "--help": "explain"}[arguments[0]]
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout


def test_an_unknown_command_is_an_error() -> None:
    done = dev("tokens")
    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid choice: 'tokens'" in done.stderr


def test_explain_accepts_what_the_service_accepts() -> None:
    for typed in (signed(sub="ann"), f"Bearer {signed(sub='ann')}\n"):
        done = dev("explain", typed=typed)
        assert (done.returncode, done.stdout) == (0, "Accepted for user ann.\n")


def test_explain_prints_no_control_characters_of_a_user_id() -> None:
    done = dev("explain", typed=signed(sub="\x1b[2J"))
    assert (done.returncode, done.stdout) == (0, "Accepted for user '\\x1b[2J'.\n")


REFUSED = {
    "no bearer token": "",
    "malformed token": "Zr8kQWmTnLxVbCyDfGhJkLpOiUyTrEwQ",
    "algorithm other than HS256": signed({"alg": "none"}),
    "wrong signature": signed(secret="another-secret-0123456789-abcdefghijkl"),
    "critical extension in the header": signed({"crit": ["b64"]}),
    "claims are not an object": sign('{"alg": "HS256"}', "[]"),
    "token expired": signed(exp=int(time.time()) - 1),
    "exp is missing or not a number": signed(exp=...),
    "iat is in the future": signed(iat=2**40),
    "iat is not a number": signed(iat="now"),
    "nbf is in the future": signed(nbf=2**40),
    "nbf is not a number": signed(nbf=None),
    "sub is missing or not a string of 1 to 255 characters": signed(sub=...),
    "sub has characters that cannot be stored": signed(sub="\0"),
    "aud is not BETTER_AUTH_AUDIENCE": signed(aud="other"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_explain_says_which_check_refuses_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    for name, value in environment("postgresql://127.0.0.1/unused").items():
        monkeypatch.setenv(name, value)
    if reason.startswith("aud"):
        monkeypatch.setenv("BETTER_AUTH_AUDIENCE", "tasks")
    sentence = f"Refused: {reason}. {advice(reason)}"
    assert asyncio.run(verdict(load_settings(), REFUSED[reason])) == (False, sentence)


def test_explain_ends_with_1_for_a_refused_token() -> None:
    done = dev("explain", typed=REFUSED["token expired"])
    sentence = f"Refused: token expired. {advice('token expired')}\n"
    assert (done.returncode, done.stderr, done.stdout) == (1, "", sentence)


PUBLISHED = {
    "unknown kid": token(ATTACKER, kid="unknown"),
    "wrong signature": token(ATTACKER),
    "iss is not BETTER_AUTH_URL's": token(KEY, claims(iss="https://evil.example.com")),
    "typ other than JWT": token(KEY, typ="better-auth.session-cache+jwt"),
    "algorithm other than EdDSA": signed({"kid": KID}),
}


def test_explain_knows_better_auths_published_keys() -> None:
    endpoint = Endpoint()
    variables = ENVIRONMENT | {"BETTER_AUTH_URL": ISSUER, "BETTER_AUTH_JWKS_URL": endpoint.url}
    try:
        assert dev("explain", typed=token(), variables=variables).stdout.startswith(
            "Accepted for user "
        )
        for reason, bearer in PUBLISHED.items():
            done = dev("explain", typed=bearer, variables=variables)
            assert (done.returncode, done.stderr) == (1, "")
            assert done.stdout == f"Refused: {reason}. {advice(reason)}\n"
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
    done = dev("explain", typed=token(), variables=variables)
    assert done.stdout.startswith("Refused: unknown kid")
    assert "keys cannot be fetched" in done.stderr
