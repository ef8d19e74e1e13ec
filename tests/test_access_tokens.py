"""Access tokens of Better Auth's OAuth provider: accepted where BETTER_AUTH_AUDIENCE names us."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.jwks_endpoint import ATTACKER, ISSUER, KEY, USER_ID, Endpoint, claims, token
from support.service import Service, assert_clean_log, environment, running, wait_for
from support.tokens import signed

AUDIENCE = "https://api.example.com"
BASE = f"{ISSUER}/api/auth"


def access_token(typ: object = "at+jwt", **changes: Any) -> str:  # noqa: ANN401
    """Make one as the provider does: its `iss` is its base URL, not the origin."""
    provider = {"iss": BASE, "aud": AUDIENCE, "client_id": "c", "azp": "c", "scope": "openid"}
    return token(KEY, claims(**provider | {"jti": "x"} | changes), typ=typ)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def status(service: Service, bearer: str) -> int:
    headers = {"Authorization": f"Bearer {bearer}"}
    return service.client.get(f"/api/{USER_ID}/tasks", headers=headers).status_code


@pytest.fixture(scope="module")
def audience(database_url: str, endpoint: Endpoint) -> Iterator[Service]:
    """The service with an audience."""
    env = environment(
        database_url,
        BETTER_AUTH_URL=ISSUER,
        BETTER_AUTH_JWKS_URL=endpoint.url,
        BETTER_AUTH_AUDIENCE=AUDIENCE,
    )
    with running(env) as service:
        wait_for(lambda: status(service, token(KEY, claims(aud=AUDIENCE))) == 200)
        yield service
        output = service.output()
    assert_clean_log(output)


ACCEPTED = {
    **{
        f"typ {typ}": access_token(typ)
        for typ in ("at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/AT+jwt")
    },
    "several audiences": access_token(aud=[f"{BASE}/oauth2/userinfo", AUDIENCE]),
    "the origin as iss": access_token(iss=ISSUER),
    "a session's token": token(KEY, claims(aud=AUDIENCE)),
    "the shared secret's": signed({"typ": "at+jwt"}, sub=USER_ID, aud=AUDIENCE),
}
REFUSED = {
    "another audience": access_token(aud="https://other.example.com"),
    "no audience": access_token(aud=None),
    "another issuer": access_token(iss="https://evil.example.com/api/auth"),
    "another path of the issuer": access_token(iss=f"{BASE}/"),
    "another key": token(ATTACKER, claims(iss=BASE, aud=AUDIENCE), typ="at+jwt"),
    "expired": access_token(exp=int(time.time())),
    "no sub": access_token(sub=None),
    "an ID token": token(KEY, claims(iss=BASE, aud="client", nonce="n", at_hash="h", acr="0")),
    "an ID token for this audience": token(KEY, claims(iss=BASE, aud=AUDIENCE, at_hash="h")),
    "an opaque token": "Zr8kQWmTnLxVbCyDfGhJkLpOiUyTrEwQ",
    "a cookie": access_token("better-auth.session-cache+jwt"),
    "the shared secret's, for others": signed({"typ": "at+jwt"}, sub=USER_ID, aud="other"),
    **{
        f"typ {typ!r}": access_token(typ)
        for typ in ("at", "jwt+at", "x/at+jwt", "at+jwt ", "", None, 1, ["at+jwt"], {"at+jwt": 1})
    },
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_access_token_for_this_audience_is_accepted(audience: Service, name: str) -> None:
    assert status(audience, ACCEPTED[name]) == 200


@pytest.mark.parametrize("name", REFUSED)
def test_another_token_is_unauthorized(audience: Service, name: str) -> None:
    assert status(audience, REFUSED[name]) == 401


def test_no_access_token_is_accepted_without_an_audience(
    database_url: str, endpoint: Endpoint
) -> None:
    env = environment(database_url, BETTER_AUTH_URL=ISSUER, BETTER_AUTH_JWKS_URL=endpoint.url)
    with running(env) as service:
        wait_for(lambda: status(service, token()) == 200)
        for bearer in (access_token(), access_token(iss=ISSUER), access_token(aud=ISSUER)):
            assert status(service, bearer) == 401
