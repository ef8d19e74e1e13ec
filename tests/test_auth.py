"""Tokens: who gets in, and who does not, on every route."""

import base64
import json
import math
import time
from typing import Any

import httpx
import pytest
from jose import jwk

from auth import AnyKey, verify_token
from errors import Unauthorized
from support.service import Service, User
from support.tokens import SECRET, encode, sign, signed

UNAUTHORIZED = {"detail": "Invalid or expired authentication token", "code": "UNAUTHORIZED"}
MISMATCH = {"detail": "Access denied: user_id mismatch", "code": "FORBIDDEN"}
USER_ID = "user_123"
HEADER = '{"alg":"HS256","typ":"JWT"}'

ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/1"),
    ("PUT", "/1"),
    ("DELETE", "/1"),
    ("PATCH", "/1/complete"),
]


def claims(**changes: Any) -> str:  # noqa: ANN401
    now = int(time.time())
    return json.dumps({"sub": USER_ID, "iat": now, "exp": now + 3600} | changes)


def raw_claims(extra: str) -> str:
    return f'{{"sub":"{USER_ID}","iat":{int(time.time())},"exp":{int(time.time()) + 3600},{extra}}}'


def raw_exp(exp: str) -> str:
    return f'{{"sub":"{USER_ID}","exp":{exp}}}'


def unsigned(alg: object) -> str:
    return f"{encode(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{encode(claims().encode())}."


def tampered() -> str:
    header, _, signature = signed().split(".")
    return f"{header}.{encode(claims(sub=USER_ID, admin=True).encode())}.{signature}"


def padded_base64() -> str:
    header, payload, _ = signed().split(".")
    _, _, signature = sign(base64.urlsafe_b64decode(header + "=="), claims()).split(".")
    return f"{header}=.{payload}=.{signature}="


NOW = int(time.time())
DEEP = "[" * 1400 + "]" * 1400
BAD_TOKENS: dict[str, str] = {
    # The text
    "one word": "token",
    "what JavaScript makes of nothing": "undefined",
    "two parts": signed().rpartition(".")[0],
    "four parts": signed() + ".e30",
    "five parts, as encrypted ones have": "a.b.c.d.e",
    "only dots": "..",
    "no signature": signed().rpartition(".")[0] + ".",
    "no header": "." + signed().partition(".")[2],
    "not base64": "%%%.***.!!!",
    "padding": signed() + "=",
    "padded parts": padded_base64(),
    "trailing garbage": signed() + "!",
    "a comma": signed() + "," + signed(),
    "two tokens": signed() + " " + signed(),
    "quoted": f'"{signed()}"',
    "not ASCII": "é" + signed(),
    "100 kB of a letter": "a" * 30_000,
    # The header
    "header is no JSON": sign("HS256", claims()),
    "header is a list": sign("[]", claims()),
    "header is null": sign("null", claims()),
    "header is a number": sign("1", claims()),
    "header is a string": sign('"HS256"', claims()),
    "header is not UTF-8": sign(b"\xff\xfe", claims()),
    "header is nested deeply": sign(DEEP, claims()),
    "header is nested objects": sign('{"alg":' * 1400 + "1" + "}" * 1400, claims()),
    "no alg": sign('{"typ":"JWT"}', claims()),
    "alg null": sign('{"alg":null}', claims()),
    "alg empty": sign('{"alg":""}', claims()),
    "alg list": sign('{"alg":["HS256"]}', claims()),
    "alg object": sign('{"alg":{"HS256":1}}', claims()),
    "alg number": sign('{"alg":256}', claims()),
    "alg in lower case": sign('{"alg":"hs256"}', claims()),
    "alg part of the name": sign('{"alg":"HS"}', claims()),
    "alg HS512": sign('{"alg":"HS512"}', claims()),
    "alg RS256": sign('{"alg":"RS256"}', claims()),
    "alg ES256": sign('{"alg":"ES256"}', claims()),
    "alg EdDSA": sign('{"alg":"EdDSA"}', claims()),
    "alg unknown": sign('{"alg":"XS1"}', claims()),
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg none with a signature": sign('{"alg":"none"}', claims()),
    "critical extension": sign('{"alg":"HS256","crit":["b64"],"b64":false}', claims()),
    "critical nothing": sign('{"alg":"HS256","crit":[]}', claims()),
    # The signature
    "wrong secret": signed(secret="another-secret-of-more-than-32-characters"),
    "empty secret": signed(secret=""),
    "signature cut": signed()[:-3],
    "signature of another token": tampered(),
    "secret with a line break": signed(secret=SECRET + "\n"),
    # The payload
    "payload empty": sign(HEADER, ""),
    "payload is no JSON": sign(HEADER, "sub"),
    "payload is a list": sign(HEADER, f"[{claims()}]"),
    "payload is null": sign(HEADER, "null"),
    "payload is a string": sign(HEADER, json.dumps(claims())),
    "payload is not UTF-8": sign(HEADER, b"\xff" + claims().encode()),
    "payload is nested deeply": sign(HEADER, raw_claims(f'"x":{DEEP * 20}')),
    "payload is only nested": sign(HEADER, DEEP * 20),
    "payload has a number of 5000 digits": sign(HEADER, raw_claims('"x":' + "9" * 5000)),
    # exp
    "no exp": signed(exp=...),
    "exp a second ago": signed(exp=NOW - 1),
    "exp now": signed(exp=NOW),
    "exp long ago": signed(exp=0),
    "exp negative": signed(exp=-1),
    "exp null": signed(exp=None),
    "exp text": signed(exp="9999999999"),
    "exp true": signed(exp=True),
    "exp list": signed(exp=[NOW + 3600]),
    "exp object": signed(exp={}),
    "exp Infinity": sign(HEADER, raw_exp("Infinity")),
    "exp -Infinity": sign(HEADER, raw_exp("-Infinity")),
    "exp NaN": sign(HEADER, raw_exp("NaN")),
    "exp 1e400": sign(HEADER, raw_exp("1e400")),
    # iat and nbf
    "iat in the future": signed(iat=NOW + 3600),
    "iat null": signed(iat=None),
    "iat text": signed(iat=str(NOW)),
    "iat list": signed(iat=[]),
    "iat true": signed(iat=True),
    "iat Infinity": sign(HEADER, raw_claims('"iat":Infinity')),
    "iat 1e400": sign(HEADER, raw_claims('"iat":1e400')),
    "iat NaN": sign(HEADER, raw_claims('"iat":NaN')),
    "nbf in the future": signed(nbf=NOW + 3600),
    "nbf null": signed(nbf=None),
    "nbf text": signed(nbf="0"),
    "nbf object": signed(nbf={}),
    "nbf Infinity": sign(HEADER, raw_claims('"nbf":Infinity')),
    "nbf of 400 digits": signed(nbf=int("9" * 400)),
    # sub
    "no sub, as in an e-mail verification link": signed(sub=...),
    "sub empty": signed(sub=""),
    "sub null": signed(sub=None),
    "sub number": signed(sub=1),
    "sub list": signed(sub=[USER_ID]),
    "sub object": signed(sub={"id": USER_ID}),
    "sub true": signed(sub=True),
    "sub of 256 characters": signed(sub="x" * 256),
    "sub of 30 kB": signed(sub="x" * 30_000),
    "sub with NUL": signed(sub=USER_ID + "\0"),
    "sub with a lone surrogate": signed(sub="\ud800"),
}

GOOD_TOKENS = {
    "the spec's": signed(name="John Doe"),
    "with iss and aud, as Better Auth sets them": signed(
        iss="http://localhost:3000", aud="http://localhost:3000"
    ),
    "with aud a list": signed(aud=["a", "b"]),
    "with aud a number": signed(aud=5, iss=None, jti=[1], at_hash=7),
    "without iat": signed(iat=...),
    "without typ": sign('{"alg":"HS256"}', claims()),
    "with an unknown typ and kid": signed({"typ": "at+jwt", "kid": "x", "jku": "http://x"}),
    "issued by a clock 20 s ahead": signed(iat=NOW + 25, nbf=NOW + 25),
    "exp a fraction": signed(exp=NOW + 3600.5),
    "exp far away": signed(exp=10**400),
    "white space in the JSON": sign(' { "alg" : "HS256" } ', f"\n{claims()}\n"),
    "a key twice, the last one counts": sign(HEADER, raw_claims('"sub":"x","sub":"user_123"')),
}


def call(service: Service, method: str, path: str, authorization: str) -> httpx.Response:
    # As bytes: httpx takes text for ASCII.
    headers = [(b"Authorization", authorization.encode("latin-1"))]
    return service.client.request(method, f"/api/{USER_ID}/tasks{path}", headers=headers)


def assert_unauthorized(response: httpx.Response, *, sent: bool = True) -> None:
    """A 401 that tells whether a token was sent (RFC 6750, 3.1)."""
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)
    challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
    assert response.headers.get_list("www-authenticate") == [challenge]
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_unauthorized_on_every_route(service: Service, name: str) -> None:
    for method, path in ROUTES:
        assert_unauthorized(call(service, method, path, f"Bearer {BAD_TOKENS[name]}"))


@pytest.mark.parametrize("name", GOOD_TOKENS)
def test_a_good_token_is_accepted(service: Service, name: str) -> None:
    assert call(service, "GET", "", f"Bearer {GOOD_TOKENS[name]}").status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Basic dXNlcjpwYXNz", "Token x", signed(), "Bearer\t" + signed()),
        *(f"Bearer{signed()}", f"Bearer: {signed()}", f"Basic {signed()}", f"x Bearer {signed()}"),
        "bearer",
    ],
)
def test_an_authorization_without_a_bearer_token_is_unauthorized(
    service: Service, method: str, path: str, authorization: str
) -> None:
    assert_unauthorized(call(service, method, path, authorization), sent=False)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_authorization_is_unauthorized(service: Service, method: str, path: str) -> None:
    response = service.client.request(method, f"/api/{USER_ID}/tasks{path}")
    assert_unauthorized(response, sent=False)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_case_insensitive(service: Service, scheme: str) -> None:
    assert call(service, "GET", "", f"{scheme} {signed()}").status_code == 200


@pytest.mark.parametrize("place", ["cookie", "query", "body"])
def test_a_token_elsewhere_than_in_the_header_is_not_looked_at(
    service: Service, place: str
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "cookie": {"headers": {"Cookie": f"token={signed()}"}},
        "query": {"params": {"access_token": signed(), "token": signed()}},
        "body": {"json": {"access_token": signed()}},
    }
    response = service.client.request("POST", f"/api/{USER_ID}/tasks", **arguments[place])
    assert_unauthorized(response, sent=False)


def test_a_token_expires_to_the_second(service: Service) -> None:
    expiry = math.floor(time.time()) + 2
    token = signed(exp=expiry)
    asked = time.time()
    while (response := call(service, "GET", "", f"Bearer {token}")).status_code == 200:
        assert asked < expiry
        time.sleep(0.05)
        asked = time.time()
    assert_unauthorized(response)
    assert time.time() >= expiry


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 60_000, b"x" * 200_000, b'{"title": "ok"}'])
def test_unauthorized_comes_before_whatever_else_is_wrong(
    service: Service, method: str, path: str, content: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    for wrong_path in (path, path.replace("1", "abc"), path + "?status=bad"):
        url = f"/api/{USER_ID}/tasks{wrong_path}"
        response = service.client.request(method, url, content=content, headers=headers)
        assert_unauthorized(response, sent=False)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_unauthorized_needs_no_database(down: Service, method: str, path: str) -> None:
    started = down.output().count("Internal server error")
    assert_unauthorized(call(down, method, path, "Bearer x"))
    assert down.output().count("Internal server error") == started


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_forbidden_needs_no_database(down: Service, method: str, path: str) -> None:
    response = call(down, method, path, f"Bearer {signed(sub='other')}")
    assert (response.status_code, response.json()) == (403, MISMATCH)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "path_user",
    [
        *("other", "USER_123", "user_123%20", "%20user_123", "user_12", "user_1234", "user_123%00"),
        *("%00", "%ED%A0%80", "%FF", "user%5F123%2F", "user_123%E2%80%8B", "%75ser_124"),
    ],
)
def test_another_user_in_the_path_is_forbidden(
    service: Service, path_user: str, method: str, path: str
) -> None:
    headers = {"Authorization": f"Bearer {signed()}"}
    url = f"/api/{path_user}/tasks{path}"
    response = service.client.request(method, url, headers=headers, json={"title": "x"})
    assert (response.status_code, response.json()) == (403, MISMATCH)


def test_the_path_may_spell_the_user_with_any_escapes(service: Service) -> None:
    headers = {"Authorization": f"Bearer {signed()}"}
    for spelling in ("user%5F123", "%75%73%65%72_123", "user%5f123"):
        response = service.client.get(f"/api/{spelling}/tasks", headers=headers)
        assert response.status_code == 200


def test_two_users_never_see_each_others_tasks(user: User, stranger: User) -> None:
    mine, theirs = user.create("mine"), stranger.create("theirs")
    for owner, task, other in ((user, mine, stranger), (stranger, theirs, user)):
        assert owner.list() == [task]
        token = other.headers
        for method, path in ROUTES:
            foreign_path = owner.path + path.replace("1", str(task["id"]))
            response = owner.client.request(
                method, foreign_path, headers=token, json={"title": "stolen"}
            )
            assert (response.status_code, response.json()) == (403, MISMATCH)
        assert owner.list() == [task]


@pytest.mark.parametrize(
    "secret", [' 123"quotes" and a # sign, more than 32', '{"keys": []}' + " " * 30, "ü" * 32]
)
def test_any_secret_of_32_characters_works(secret: str) -> None:
    key = jwk.construct(secret, "HS256")
    assert verify_token(signed(secret=secret), key) == USER_ID
    with pytest.raises(Unauthorized):
        verify_token(signed(), key)


def test_each_of_several_secrets_signs() -> None:
    secrets = [letter * 32 for letter in "abc"]
    key = AnyKey([jwk.construct(secret, "HS256") for secret in secrets])
    assert [verify_token(signed(secret=secret), key) for secret in secrets] == [USER_ID] * 3
    with pytest.raises(Unauthorized):
        verify_token(signed(), key)


def test_the_audience_is_checked_where_set() -> None:
    key = jwk.construct(SECRET, "HS256")
    for right in ("tasks", ["other", "tasks"]):
        assert verify_token(signed(aud=right), key, audience="tasks") == USER_ID
    for wrong in ("task", "tasks2", ["other"], {"tasks": 1}, None, ..., 5, ""):
        with pytest.raises(Unauthorized, match="aud is not"):
            verify_token(signed(aud=wrong), key, audience="tasks")
