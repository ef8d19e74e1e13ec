"""Logins of command-line clients with a real Better Auth: uv run pytest -m tokens."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.issuer import Account, BetterAuth, better_auth, documented_script, script
from support.pages import blocks, read, section
from support.service import Service, assert_clean_log, environment, running
from test_examples import sh
from test_tokens import OLD, SHARED_SECRET, assert_login, assert_no_login, claims, header, trusting

pytestmark = pytest.mark.tokens

PAGE = "docs/command-line.md"
AUDIENCE = "https://api.example.com"
OTHER = "https://other.example.com"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def documented_provider() -> str:
    """Configure Better Auth and the route beside it as the page says, with one more audience."""
    heading = "## Set up Better Auth"
    [_, route] = blocks(section(read(PAGE), heading), "ts")
    configured = documented_script(PAGE, heading).removesuffix("serve(auth);")
    configured = configured.replace("[audience]", f'[audience, "{OTHER}"]')
    route = route.replace('import { auth } from "@/lib/auth";', "").replace(": Request", "")
    return f'{configured}{route}serve(auth, {{ "/api/token": GET }});'


def lines(heading: str) -> list[str]:
    """Return the blocks that a reader types under a heading."""
    return blocks(section(read(PAGE), heading), "sh")


def said(output: str, field: str) -> str:
    """Return the last value of a field in what was printed."""
    value: str = re.findall(rf'"{field}":"([^"]*)"', output)[-1]
    return value


@dataclass
class Client:
    """A registered command-line client."""

    issuer: BetterAuth
    id: str

    def codes(self, **fields: str) -> dict[str, str]:
        form = {"client_id": self.id, "scope": "openid offline_access", **fields}
        response = httpx.post(f"{self.issuer.url}/api/auth/device/code", data=form)
        codes: dict[str, str] = response.raise_for_status().json()
        return codes

    def poll(self, codes: dict[str, str]) -> httpx.Response:
        form = {"grant_type": DEVICE_GRANT, "client_id": self.id}
        form["device_code"] = codes["device_code"]
        return httpx.post(f"{self.issuer.url}/api/auth/oauth2/token", data=form)

    def tokens(self, account: Account, **fields: str) -> dict[str, Any]:
        """Log in, and approve it in the account's browser."""
        codes = self.codes(**fields)
        decide(account, codes["user_code"])
        tokens: dict[str, Any] = self.poll(codes).raise_for_status().json()
        return tokens


def decide(account: Account, user_code: str, decision: str = "approve") -> None:
    """Do what the page `/device` does when its user presses a button."""
    account.client.get("/device", params={"user_code": user_code}).raise_for_status()
    body = {"userCode": user_code}
    account.client.post(f"/device/{decision}", json=body).raise_for_status()


@dataclass
class Provider:
    """A Better Auth with the OAuth provider, a client, and services that trust it."""

    issuer: BetterAuth
    client: Client
    service: Service
    without_audience: Service


@pytest.fixture(scope="module")
def provider(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with ExitStack() as stack:
        issuer = stack.enter_context(better_auth(documented_provider()))
        service = stack.enter_context(trusting(database_url, issuer, BETTER_AUTH_AUDIENCE=AUDIENCE))
        without_audience = stack.enter_context(trusting(database_url, issuer))
        client = Client(issuer, register(issuer, tmp_path_factory.mktemp("cookies")))
        yield Provider(issuer, client, service, without_audience)


def register(issuer: BetterAuth, folder: Path) -> str:
    """Register the client with the lines of the page."""
    account = issuer.sign_up()
    [commands] = lines("## Register the client, once")
    commands = f"cd '{folder}'\n{commands}"
    output = sh(
        commands, APP=issuer.url, EMAIL=account.email, PASSWORD="a-password-of-30-characters-000"
    )
    return said(output, "client_id")


def test_the_lines_of_a_login_work(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    cookie = cookies(account)
    approve = f"""
USER_CODE=$(echo "$CODES" | sed 's/.*"user_code":"\\([^"]*\\)".*/\\1/')
curl -s "$APP/api/auth/device?user_code=$USER_CODE" -b '{cookie}'
curl -s "$APP/api/auth/device/approve" -b '{cookie}' -H "Origin: $APP" \
-H "Content-Type: application/json" -d '{{"userCode": "'$USER_CODE'"}}'
"""
    [ask, get, refresh] = lines("## Log in")
    output = sh(
        f"{ask}\n{approve}\n{get}\n{refresh}",
        APP=provider.issuer.url,
        API=provider.service.url,
        CLIENT_ID=provider.client.id,
    )
    assert said(output, "verification_uri").endswith("/device")
    assert output.endswith('{"tasks":[],"count":0}' * 2)


def test_an_access_token_is_a_login_for_its_audience_only(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    token = provider.client.tokens(account, resource=AUDIENCE)["access_token"]
    assert header(token)["typ"] == "at+jwt"
    assert claims(token)["iss"] == f"{provider.issuer.url}/api/auth"
    assert claims(token)["aud"][0] == AUDIENCE
    assert_login(provider.service, account, token)
    assert_no_login(provider.without_audience, account, token, "typ other than JWT")
    token = provider.client.tokens(account, resource=OTHER)["access_token"]
    assert claims(token)["aud"][0] == OTHER
    assert_no_login(provider.service, account, token, "aud is not BETTER_AUTH_AUDIENCE")
    assert_no_login(provider.without_audience, account, token, "typ other than JWT")


def test_what_comes_with_an_access_token_is_no_login(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    tokens = provider.client.tokens(account, resource=AUDIENCE)
    assert claims(tokens["id_token"])["sub"] == account.id
    for service in (provider.service, provider.without_audience):
        assert_no_login(service, account, tokens["refresh_token"], "malformed token")
        assert_no_login(service, account, tokens["id_token"], "iss is not BETTER_AUTH_URL's")


def test_a_refresh_token_gets_the_next_tokens_once(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    tokens = provider.client.tokens(account, resource=AUDIENCE)
    url = f"{provider.issuer.url}/api/auth/oauth2/token"
    form = {"grant_type": "refresh_token", "client_id": provider.client.id}
    form["refresh_token"] = tokens["refresh_token"]
    refreshed = httpx.post(url, data=form).raise_for_status().json()
    assert refreshed["refresh_token"] != tokens["refresh_token"]
    assert_login(provider.service, account, refreshed["access_token"])
    assert httpx.post(url, data=form).status_code == 400


def test_an_opaque_token_is_no_login(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    token = provider.client.tokens(account)["access_token"]
    assert "." not in token
    for service in (provider.service, provider.without_audience):
        assert_no_login(service, account, token, "malformed token")


def test_nobody_gets_a_token_before_the_user_agrees(provider: Provider) -> None:
    codes = provider.client.codes(resource=AUDIENCE)
    answer = provider.client.poll(codes)
    assert (answer.status_code, answer.json()["error"]) == (400, "authorization_pending")
    codes = provider.client.codes(resource=AUDIENCE)
    decide(provider.issuer.sign_up(), codes["user_code"], "deny")
    answer = provider.client.poll(codes)
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")


def test_pages_get_their_tokens_from_the_route_of_the_frontend(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    assert account.client.get("/token").status_code == 404
    url = f"{provider.issuer.url}/api/token"
    token = account.client.get(url).raise_for_status().json()["token"]
    assert (header(token).get("typ", "JWT"), claims(token)["aud"]) == ("JWT", AUDIENCE)
    for service in (provider.service, provider.without_audience):
        assert_login(service, account, token)
    assert httpx.get(url).status_code == 401


def test_an_api_key_is_exchanged_for_a_token(provider: Provider) -> None:
    account = provider.issuer.sign_up()
    [create, exchange] = lines("## Use an API key")
    create = create.replace("-b cookies", f"-b '{cookies(account)}'")
    key = said(sh(create, APP=provider.issuer.url), "key")
    assert_no_login(provider.service, account, key, "malformed token")
    output = sh(
        exchange,
        APP=provider.issuer.url,
        API=provider.service.url,
        API_KEY=key,
        USER_ID=account.id,
    )
    assert json.loads(output) == {"tasks": [], "count": 0}
    refused = httpx.get(f"{provider.issuer.url}/api/token", headers={"x-api-key": f"{key}x"})
    assert (refused.status_code, refused.json()["code"]) == (401, "INVALID_API_KEY")


def cookies(account: Account) -> str:
    return f"better-auth.session_token={account.cookie('session_token')}"


KEYS = "apiKey({ enableSessionForAPIKeys: true })"


@contextmanager
def key_exchange(source: str) -> Iterator[tuple[BetterAuth, Account, str]]:
    """Run a Better Auth without the OAuth provider, and exchange a key there."""
    with better_auth(f'import {{ apiKey }} from "@better-auth/api-key";\n{source}') as issuer:
        account = issuer.sign_up()
        created = account.client.post("/api-key/create", json={"name": "script"})
        headers = {"x-api-key": created.raise_for_status().json()["key"]}
        answer = httpx.get(f"{issuer.url}/api/auth/token", headers=headers).raise_for_status()
        yield issuer, account, answer.json()["token"]


def test_an_api_key_is_exchanged_without_the_oauth_provider(database_url: str) -> None:
    with key_exchange(script(f"jwt(), {KEYS}")) as (issuer, account, token):
        with trusting(database_url, issuer) as service:
            assert_login(service, account, token)
        with running(environment(database_url, BETTER_AUTH_SECRET=OLD)) as service:
            assert_no_login(service, account, token, "algorithm other than HS256")
            assert_clean_log(service.output(), OLD)


def test_an_api_key_is_exchanged_with_the_shared_secret(service: Service) -> None:
    source = documented_script(*SHARED_SECRET).replace("plugins: [", f"plugins: [{KEYS}, ")
    with key_exchange(source) as (_, account, token):
        assert header(token)["alg"] == "HS256"
        assert_login(service, account, token)
