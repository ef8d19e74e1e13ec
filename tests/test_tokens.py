"""Every token that a real Better Auth issues, logins or not: uv run pytest -m tokens."""

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from support.issuer import Account, BetterAuth, better_auth, documented_script, script
from support.service import Service, assert_clean_log, environment, running
from support.tokens import SECRET

pytestmark = pytest.mark.tokens

SHARED_SECRET = ("docs/authentication.md", "## With the shared secret")
OWN_KEYS = ("docs/authentication.md", "## With Better Auth's own keys")
README = ("README.md", "## Connect Better Auth")
OLD = "old-secret-canary-0123456789-abcdefghijklm"
NEW = "new-secret-canary-0123456789-abcdefghijklm"


def header(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    return decoded


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return decoded


def call(service: Service, account: Account, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/api/{account.id}/tasks"
    return service.client.post(path, headers=headers, json={"title": "Buy groceries"})


def assert_login(service: Service, account: Account, token: str | None = None) -> None:
    answer = call(service, account, token or account.token())
    assert (answer.status_code, answer.json().get("user_id")) == (201, account.id), service.output()


def assert_no_login(service: Service, account: Account, token: str, reason: str) -> None:
    """It is a 401, and the service's log has the reason as its last word."""
    answer = call(service, account, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
    logged = re.findall(r"authentication token: (.*?) request_id=", service.output())
    assert logged[-1] == reason


@contextmanager
def trusting(database_url: str, issuer: BetterAuth, **variables: str) -> Iterator[Service]:
    """The service, with BETTER_AUTH_URL and a secret of its own."""
    settings = {"BETTER_AUTH_SECRET": OLD, "BETTER_AUTH_URL": issuer.url} | variables
    with running(environment(database_url, **settings)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, OLD, NEW)


# 1. HS256 with the shared secret


def test_the_shared_secret_works_as_documented(service: Service) -> None:
    with better_auth(documented_script(*SHARED_SECRET)) as issuer:
        account = issuer.sign_up()
        token = account.token()
        assert header(token) == {"alg": "HS256", "typ": "JWT"}
        assert (claims(token)["iss"], claims(token)["aud"]) == (issuer.url, issuer.url)
        assert claims(token)["exp"] - claims(token)["iat"] == 15 * 60
        assert_login(service, account)


def test_iss_and_aud_may_be_missing(service: Service) -> None:
    source = documented_script(*SHARED_SECRET).replace(
        "sign: (claims)", "sign: ({ iss, aud, ...claims })"
    )
    with better_auth(source) as issuer:
        account = issuer.sign_up()
        assert not {"iss", "aud"} & claims(account.token()).keys()
        assert_login(service, account)


def test_the_shared_secret_works_beside_published_keys(database_url: str) -> None:
    with (
        better_auth(documented_script(*SHARED_SECRET)) as issuer,
        trusting(database_url, issuer, BETTER_AUTH_SECRET=SECRET) as service,
    ):
        assert_login(service, issuer.sign_up())


@pytest.mark.parametrize("ids", ['"uuid"', '"serial"'])
def test_ids_may_be_of_any_kind(service: Service, ids: str) -> None:
    if ids == '"serial"':
        ids = "() => String(1 + Math.floor(Math.random() * 1e9))"
    options = f"...options, advanced: {{ database: {{ generateId: {ids} }} }},"
    source = documented_script(*SHARED_SECRET).replace("...options,", options)
    with better_auth(source) as issuer:
        assert_login(service, issuer.sign_up())


# 2. Stock tokens


def test_own_keys_work_as_documented(database_url: str) -> None:
    with (
        better_auth(documented_script(*OWN_KEYS)) as issuer,
        trusting(database_url, issuer) as service,
    ):
        account = issuer.sign_up()
        assert header(account.token())["alg"] == "EdDSA"
        assert claims(account.token())["iss"] == issuer.url
        assert_login(service, account)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES512", "RS256", "PS256"])
def test_every_algorithm_of_better_auth_works(database_url: str, algorithm: str) -> None:
    plugin = f'jwt({{ jwks: {{ keyPairConfig: {{ alg: "{algorithm}" }} }} }})'
    with better_auth(script(plugin)) as issuer, trusting(database_url, issuer) as service:
        account = issuer.sign_up()
        assert header(account.token())["alg"] == algorithm
        assert_login(service, account)
        head, payload, signature = account.token().split(".")
        middle = len(signature) // 2
        changed = "A" if signature[middle] != "A" else "B"
        signature = signature[:middle] + changed + signature[middle + 1 :]
        assert_no_login(service, account, f"{head}.{payload}.{signature}", "wrong signature")


def test_without_the_setting_stock_tokens_are_no_logins(service: Service) -> None:
    with better_auth(script()) as issuer:
        account = issuer.sign_up()
        assert_no_login(service, account, account.token(), "algorithm other than HS256")


@pytest.mark.parametrize("path", ["/", "/api/auth/", "/login"])
def test_the_url_means_what_it_means_to_better_auth(database_url: str, path: str) -> None:
    base = path.rstrip("/") or "/api/auth"
    source = script(options=f'basePath: "{base}", baseURL: process.env.BETTER_AUTH_URL + "{path}",')
    with (
        better_auth(source, base=base) as issuer,
        trusting(database_url, issuer, BETTER_AUTH_URL=issuer.url + path) as service,
    ):
        account = issuer.sign_up()
        assert claims(account.token())["iss"] == issuer.url
        assert_login(service, account)


def test_the_keys_may_be_elsewhere_than_the_issuer(database_url: str) -> None:
    public = "http://app.example.com"  # https would make its cookies Secure
    with better_auth(script(options=f'baseURL: "{public}",'), origin=public) as issuer:
        jwks = f"{issuer.url}/api/auth/jwks"
        account = issuer.sign_up()
        assert claims(account.token())["iss"] == public
        with trusting(
            database_url, issuer, BETTER_AUTH_URL=public, BETTER_AUTH_JWKS_URL=jwks
        ) as service:
            assert_login(service, account)
        with trusting(database_url, issuer) as service:
            reason = "iss is not BETTER_AUTH_URL's"
            assert_no_login(service, account, account.token(), reason)


def test_the_audience_is_checked_where_set(database_url: str) -> None:
    with better_auth(script('jwt({ jwt: { audience: "tasks" } })')) as issuer:
        account = issuer.sign_up()
        assert claims(account.token())["aud"] == "tasks"
        with trusting(database_url, issuer, BETTER_AUTH_AUDIENCE="tasks") as service:
            assert_login(service, account)
        with trusting(database_url, issuer, BETTER_AUTH_AUDIENCE=issuer.url) as service:
            reason = "aud is not BETTER_AUTH_AUDIENCE"
            assert_no_login(service, account, account.token(), reason)


# 3. Rotation


def test_a_secret_changes_without_an_outage(database_url: str) -> None:
    """In the documented order: here, in the frontend, and the old one out."""
    source = documented_script(*SHARED_SECRET)
    both = f"2:{NEW},1:{OLD}"
    with ExitStack() as stack:
        before = stack.enter_context(better_auth(source, BETTER_AUTH_SECRET=OLD)).sign_up()
        # A frontend that keeps its old variable, and one that does not.
        during = [
            stack.enter_context(better_auth(source, BETTER_AUTH_SECRETS=both, **old)).sign_up()
            for old in ({"BETTER_AUTH_SECRET": OLD}, {"BETTER_AUTH_SECRET": ""})
        ]
        service = stack.enter_context(
            running(environment(database_url, BETTER_AUTH_SECRETS=both, BETTER_AUTH_SECRET=""))
        )
        for account in (before, *during):
            assert_login(service, account)
        after = stack.enter_context(
            running(environment(database_url, BETTER_AUTH_SECRETS=f"2:{NEW}"))
        )
        for account in during:
            assert_login(after, account)
        assert_no_login(after, before, before.token(), "wrong signature")
        for each in (service, after):
            assert_clean_log(each.output(), OLD, NEW)


def test_keys_rotate_without_an_outage(database_url: str) -> None:
    plugin = "jwt({ jwks: { rotationInterval: 2, gracePeriod: 3600 } })"
    with better_auth(script(plugin)) as issuer, trusting(database_url, issuer) as service:
        account = issuer.sign_up()
        tokens = [account.token()]
        assert_login(service, account, tokens[0])
        for _ in range(2):
            time.sleep(2.1)
            tokens.append(account.token())
            for token in reversed(tokens):
                assert_login(service, account, token)
        assert len({header(token)["kid"] for token in tokens}) == 3
        assert len(issuer.jwks()) == 3


# 4. Not logins

COOKIES = 'session: {{ cookieCache: {{ enabled: true, strategy: "{}" }} }},'


@pytest.fixture(scope="module")
def stock(database_url: str) -> Iterator[tuple[BetterAuth, Service]]:
    """A Better Auth that signs its session cookies with its keys too, and a service that trusts
    both these keys and its secret.
    """
    plugins = "jwt({ sessionCookieCache: true }), bearer()"
    with (
        better_auth(script(plugins, COOKIES.format("jwt"))) as issuer,
        trusting(database_url, issuer, BETTER_AUTH_SECRET=SECRET) as service,
    ):
        yield issuer, service


def test_a_session_cookie_signed_with_the_same_key_is_no_login(
    stock: tuple[BetterAuth, Service],
) -> None:
    issuer, service = stock
    account = issuer.sign_up()
    cookie = account.cookie("session_data")
    # All that a token has but its type: this very key, the issuer, the user.
    assert header(cookie)["kid"] == header(account.token())["kid"]
    assert claims(cookie)["iss"] == issuer.url
    assert claims(cookie)["sub"] == account.id
    assert_no_login(service, account, cookie, "typ other than JWT")
    assert_login(service, account)


def test_a_session_cookie_signed_with_the_secret_is_no_login(
    stock: tuple[BetterAuth, Service], service: Service
) -> None:
    _, trusting_both = stock
    with better_auth(script(options=COOKIES.format("jwt"))) as issuer:
        account = issuer.sign_up()
        cookie = account.cookie("session_data")
        assert header(cookie)["alg"] == "HS256"
        for each in (service, trusting_both):
            reason = "sub is missing or not a string of 1 to 255 characters"
            assert_no_login(each, account, cookie, reason)


@pytest.mark.parametrize("strategy", ["compact", "jwe"])
def test_other_session_cookies_are_no_logins(
    stock: tuple[BetterAuth, Service], service: Service, strategy: str
) -> None:
    _, trusting_both = stock
    with better_auth(script(options=COOKIES.format(strategy))) as issuer:
        account = issuer.sign_up()
        for each in (service, trusting_both):
            assert_no_login(each, account, account.cookie("session_data"), "malformed token")


def test_links_in_emails_are_no_logins(stock: tuple[BetterAuth, Service], service: Service) -> None:
    issuer, trusting_both = stock
    account = issuer.sign_up()
    body = {"email": account.email}
    account.client.post("/request-password-reset", json=body).raise_for_status()
    verification, reset = issuer.emails()[-2:]
    assert claims(verification)["email"] == account.email
    for each in (service, trusting_both):
        reason = "sub is missing or not a string of 1 to 255 characters"
        assert_no_login(each, account, verification, reason)
        assert_no_login(each, account, reset, "malformed token")


def test_session_tokens_are_no_logins(stock: tuple[BetterAuth, Service], service: Service) -> None:
    issuer, trusting_both = stock
    account = issuer.sign_up()
    assert account.bearer
    headers = {"Authorization": f"Bearer {account.bearer}"}
    session = httpx.get(f"{issuer.url}/api/auth/get-session", headers=headers).json()
    assert session["user"]["id"] == account.id
    for token in (account.bearer, session["session"]["token"], account.cookie("session_token")):
        for each in (service, trusting_both):
            assert_no_login(each, account, token, "malformed token")


@pytest.mark.parametrize("way", [SHARED_SECRET, OWN_KEYS])
def test_a_token_is_no_login_after_its_expiry(database_url: str, way: tuple[str, str]) -> None:
    source = documented_script(*way).replace("jwt()", "jwt({ jwt: {} })")
    source = source.replace("jwt: {", 'jwt: { expirationTime: "2s",')
    with (
        better_auth(source) as issuer,
        trusting(database_url, issuer, BETTER_AUTH_SECRET=SECRET) as service,
    ):
        account = issuer.sign_up()
        token = account.token()
        assert claims(token)["exp"] - claims(token)["iat"] == 2
        assert_login(service, account, token)
        time.sleep(max(0, claims(token)["exp"] - time.time()) + 0.02)
        assert_no_login(service, account, token, "token expired")
        assert_login(service, account)


def test_tokens_of_another_installation_are_no_logins(
    stock: tuple[BetterAuth, Service], service: Service
) -> None:
    issuer, trusting_both = stock
    account = issuer.sign_up()
    # The other one even believes that it has the same URL.
    options = f'baseURL: "{issuer.url}",'
    with better_auth(script(options=options), origin=issuer.url) as other:
        stranger = other.sign_up()
        token = stranger.token()
        assert claims(token)["iss"] == issuer.url
        assert_no_login(trusting_both, stranger, token, "unknown kid")
        assert_no_login(service, stranger, token, "algorithm other than HS256")
    with better_auth(documented_script(*SHARED_SECRET), BETTER_AUTH_SECRET=NEW) as other:
        stranger = other.sign_up()
        for each in (service, trusting_both):
            assert_no_login(each, stranger, stranger.token(), "wrong signature")
    assert_login(trusting_both, account)
