"""Better Auth's published keys: forgeries, floods, and an endpoint that misbehaves."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import jwks
from support.jwks_endpoint import (
    ATTACKER,
    ISSUER,
    KEY,
    KID,
    USER_ID,
    Endpoint,
    claims,
    drip,
    hang_up,
    published,
    respond,
    token,
)
from support.service import Service, assert_clean_log, environment, patient, running, wait_for
from support.tokens import encode, sign, signed


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture(scope="module")
def trusting(database_url: str, endpoint: Endpoint) -> Iterator[Service]:
    """The service, which has met the published key."""
    env = environment(database_url, BETTER_AUTH_URL=ISSUER, BETTER_AUTH_JWKS_URL=endpoint.url)
    with running(env) as service:
        wait_for(lambda: call(service, token()).status_code == 200)
        yield service
        output = service.output()
    assert_clean_log(output)


@pytest.fixture(autouse=True)
def _mended(endpoint: Endpoint) -> Iterator[None]:
    yield
    endpoint.answer = endpoint.publish
    endpoint.keys = [published()]


def call(service: Service, bearer: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {bearer}"}
    return service.client.get(f"/api/{USER_ID}/tasks", headers=headers)


def assert_unauthorized(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")


def forged(secret: bytes, **header: Any) -> str:  # noqa: ANN401
    """Sign with HMAC and something public."""
    head = {"alg": "HS256", "kid": KID} | header
    head = {name: value for name, value in head.items() if value is not ...}
    text = f"{encode(json.dumps(head).encode())}.{encode(claims().encode())}"
    return f"{text}.{encode(hmac.digest(secret, text.encode(), hashlib.sha256))}"


PUBLIC = KEY.public_key()
PEM = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
FORGERIES = {
    **{
        f"the public key as HMAC secret: {name}{', no kid' if kid is ... else ''}": forged(
            secret, kid=kid
        )
        for kid in (KID, ...)
        for name, secret in {
            "PEM": PEM,
            "PEM without its last line break": PEM.strip(),
            "DER": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "raw": PUBLIC.public_bytes_raw(),
            "x": published()["x"].encode(),
            "JWK": json.dumps(published()).encode(),
            "JWKS": json.dumps({"keys": [published()]}).encode(),
            "nothing": b"",
        }.items()
    },
    "the shared secret, with the key's kid": sign(
        json.dumps({"alg": "HS256", "kid": KID}), claims()
    ),
    "the shared secret, as if it were the key's": sign(
        json.dumps({"alg": "EdDSA", "kid": KID}), claims()
    ),
    "the key, as if it were the shared secret": token(alg="HS256"),
    "another key with its kid": token(ATTACKER),
    "jwk": token(ATTACKER, jwk=published(ATTACKER)),
    "jwk and no kid of ours": token(ATTACKER, jwk=published(ATTACKER, "x"), kid="x"),
    "x5c": token(ATTACKER, x5c=[base64.b64encode(PEM).decode()]),
    "alg none": token(alg="none").rpartition(".")[0] + ".",
    "alg none, with a signature": token(alg="none"),
    "alg of another key": token(alg="ES256"),
    "alg in lower case": token(alg="eddsa"),
    "alg Ed25519": token(alg="Ed25519"),
    "alg a list": token(alg=["EdDSA"]),
    "alg null": token(alg=None),
    **{f"kid {kid!r:.20}": token(kid=kid) for kid in (None, 1, True, [KID], {KID: 1}, "", "x" * 9)},
    "kid a path": token(ATTACKER, kid="../../../../dev/null"),
    "kid a URL": token(ATTACKER, kid=f"{ISSUER}/api/auth/jwks#{KID}"),
    "kid with NUL": token(kid=KID + "\0"),
    "kid half of a surrogate pair": token(kid="\ud800"),
    "kid of 20 kB": token(kid="x" * 20_000),
    "no kid": sign('{"alg":"EdDSA"}', claims()),
    "a session cookie": token(typ="better-auth.session-cache+jwt"),
    "typ of something else": token(typ="at+jwt"),
    "typ a list": token(typ=["JWT"]),
    "critical extension": token(crit=["b64"], b64=False),
    "no iss": token(payload=claims(iss=None)),
    "another iss": token(payload=claims(iss="https://evil.example.com")),
    "iss with a slash": token(payload=claims(iss=f"{ISSUER}/")),
    "iss a list": token(payload=claims(iss=[ISSUER])),
    "expired": token(payload=claims(exp=int(time.time()))),
    "no exp": token(payload=claims(exp=None)),
    "no sub": token(payload=claims(sub=None)),
    "not yet": token(payload=claims(nbf=int(time.time()) + 3600)),
    "payload is a list": token(payload="[]"),
    "payload is no JSON": token(payload="{"),
    "payload is nested deeply": token(payload="[" * 30_000),
    "signature cut": token()[:-4],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_unauthorized(trusting: Service, name: str) -> None:
    assert_unauthorized(call(trusting, FORGERIES[name]))


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_no_address_in_a_token_is_called(trusting: Service, endpoint: Endpoint, name: str) -> None:
    elsewhere = Endpoint()
    elsewhere.keys = [published(ATTACKER), published(ATTACKER, "x")]
    endpoint.wait_until_a_fetch_is_due()
    for kid in (KID, "x"):
        assert_unauthorized(call(trusting, token(ATTACKER, kid=kid, **{name: elsewhere.url})))
    elsewhere.server.shutdown()
    elsewhere.server.server_close()
    assert elsewhere.hits == []


def test_both_kinds_of_tokens_are_accepted(trusting: Service) -> None:
    assert call(trusting, token()).status_code == 200
    assert call(trusting, token(typ="JWT")).status_code == 200
    assert call(trusting, signed()).status_code == 200


def test_one_fetch_serves_all_who_wait_for_the_first(database_url: str, endpoint: Endpoint) -> None:
    env = environment(database_url, BETTER_AUTH_URL=ISSUER, BETTER_AUTH_JWKS_URL=endpoint.url)

    def slowly(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        endpoint.publish(request)

    endpoint.answer = slowly
    with running(env) as service, ThreadPoolExecutor(20) as clients:
        before = len(endpoint.hits)
        answers = list(clients.map(lambda _: call(service, token()), range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20
        assert len(endpoint.hits) == before + 1


def test_forged_kids_fetch_at_a_bounded_rate(trusting: Service, endpoint: Endpoint) -> None:
    endpoint.wait_until_a_fetch_is_due()
    before, started = len(endpoint.hits), time.monotonic()
    with ThreadPoolExecutor(10) as clients:
        forgeries = [token(ATTACKER, kid=f"forged-{i}") for i in range(600)]
        for answer in clients.map(lambda each: call(trusting, each), forgeries):
            assert_unauthorized(answer)
    seconds = time.monotonic() - started
    assert 1 <= len(endpoint.hits) - before <= 1 + seconds / jwks.MIN_INTERVAL
    assert call(trusting, token()).status_code == 200


def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(
    trusting: Service, endpoint: Endpoint
) -> None:
    new = Ed25519PrivateKey.generate()
    endpoint.keys = [published(new, "new")]
    wait_for(lambda: call(trusting, token(new, kid="new")).status_code == 200)
    assert_unauthorized(call(trusting, token()))
    endpoint.keys.append(published())
    wait_for(lambda: call(trusting, token()).status_code == 200)
    assert call(trusting, token(new, kid="new")).status_code == 200


THOUSANDS_OF_KEYS = b'{"keys": [%s]}' % b",".join(100_000 * [b"1"])
FAULTS: dict[str, tuple[str, Callable[[BaseHTTPRequestHandler], None]]] = {
    "an error": ("status 500", lambda r: respond(r, b"{}", 500)),
    "not found": ("status 404", lambda r: respond(r, b"{}", 404)),
    "a redirect": ("status 302", lambda r: respond(r, b"", 302, Location=f"{r.path}?followed")),
    "no JSON": ("no JWKS", lambda r: respond(r, b"<html>")),
    "no object": ("no JWKS", lambda r: respond(r, b"[]")),
    "no keys": ("no JWKS", lambda r: respond(r, b"{}")),
    "keys null": ("no JWKS", lambda r: respond(r, b'{"keys": null}')),
    "keys an object": ("no JWKS", lambda r: respond(r, b'{"keys": {}}')),
    "keys a text": ("no JWKS", lambda r: respond(r, b'{"keys": ""}')),
    "no usable key": ("no usable key", lambda r: respond(r, b'{"keys": [{}]}')),
    "too many keys": ("more than 100 keys", lambda r: respond(r, THOUSANDS_OF_KEYS)),
    "nested deeply": ("no JWKS", lambda r: respond(r, b"[" * 100_000)),
    "too much": ("more than 262144 bytes", lambda r: respond(r, b" " * 300_000)),
    "nothing": ("RemoteProtocolError", hang_up),
    "a byte now and then": ("TimeoutError", drip),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_known_keys_outlive_a_faulty_endpoint(
    trusting: Service, endpoint: Endpoint, fault: str
) -> None:
    reason, endpoint.answer = FAULTS[fault]
    endpoint.wait_until_a_fetch_is_due()
    before = len(endpoint.hits)
    assert_unauthorized(call(trusting, token(kid=fault)))
    assert len(endpoint.hits) == before + 1
    assert f"fetched from {endpoint.url}: {reason} request_id=" in trusting.output()
    assert call(trusting, token()).status_code == 200


def test_nobody_waits_for_a_hanging_endpoint_but_unknown_keys(
    database_url: str, endpoint: Endpoint
) -> None:
    released = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        released.wait()
        hang_up(request)

    env = environment(database_url, BETTER_AUTH_URL=ISSUER, BETTER_AUTH_JWKS_URL=endpoint.url)
    with (
        running(env, program=patient("jwks.FETCH_TIMEOUT")) as service,
        ThreadPoolExecutor(20) as clients,
    ):
        assert call(service, token()).status_code == 200
        endpoint.answer = hang
        endpoint.wait_until_a_fetch_is_due()
        before = len(endpoint.hits)
        waiting = [clients.submit(call, service, token(kid=f"new-{i}")) for i in range(20)]
        wait_for(lambda: len(endpoint.hits) > before)
        for _ in range(20):
            assert call(service, token()).status_code == 200
            assert call(service, signed()).status_code == 200
            assert service.client.get("/health").status_code == 200
            assert not any(each.done() for each in waiting)
        released.set()
        for each in waiting:
            assert_unauthorized(each.result())
        assert len(endpoint.hits) == before + 1


def test_an_unreachable_endpoint_is_a_401(database_url: str) -> None:
    env = environment(database_url, BETTER_AUTH_URL="http://127.0.0.1:1")
    with running(env) as service:
        assert_unauthorized(call(service, token()))
        assert call(service, signed()).status_code == 200
        output = service.output()
    assert "from http://127.0.0.1:1/api/auth/jwks: ConnectError" in output
    assert "unknown kid" in output
    assert_clean_log(output)


def test_an_empty_set_withdraws_all_keys(trusting: Service, endpoint: Endpoint) -> None:
    endpoint.keys = []
    endpoint.wait_until_a_fetch_is_due()
    assert_unauthorized(call(trusting, token(kid="unknown")))
    assert_unauthorized(call(trusting, token()))
    assert call(trusting, signed()).status_code == 200
    endpoint.keys = [published()]
    endpoint.wait_until_a_fetch_is_due()
    assert call(trusting, token()).status_code == 200


def test_keys_that_cannot_be_fetched_for_a_day_are_dropped(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "MIN_INTERVAL", 0.0)

    async def scenario() -> None:
        keys = jwks.PublishedKeys(endpoint.url)
        try:
            assert await keys.find(KID)
            endpoint.answer = hang_up
            assert await keys.find("unknown") is None
            assert await keys.find(KID)
            monkeypatch.setattr(jwks, "MAX_AGE", 0.0)
            assert await keys.find(KID) is None
            assert "keys are dropped" in caplog.text
            endpoint.answer = endpoint.publish
            assert await keys.find(KID)
        finally:
            await keys.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_known_keys_are_fetched_again_in_the_background(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A withdrawn key is forgotten although no unknown one arrives."""
    monkeypatch.setattr(jwks, "REFRESH_INTERVAL", 0.0)

    async def scenario() -> None:
        keys = jwks.PublishedKeys(endpoint.url)
        try:
            assert await keys.find(KID)
            endpoint.keys = [published(kid="other")]
            for _ in range(10_000):
                if await keys.find(KID) is None:
                    break
                await asyncio.sleep(0.01)
            assert await keys.find(KID) is None
            assert await keys.find("other")
        finally:
            await keys.close()

    asyncio.run(scenario())
