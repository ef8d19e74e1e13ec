"""Keys as Better Auth publishes them, and an endpoint that counts and misbehaves."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jose import jwk

import jwks
from support.tokens import encode

ISSUER = "https://app.example.com"
USER_ID = "user_123"
KEY = Ed25519PrivateKey.generate()
ATTACKER = Ed25519PrivateKey.generate()
KID = "known"


def published(key: Ed25519PrivateKey = KEY, kid: str = KID) -> dict[str, Any]:
    raw = key.public_key().public_bytes_raw()
    return {"alg": "EdDSA", "crv": "Ed25519", "kty": "OKP", "x": encode(raw), "kid": kid}


def claims(**changes: Any) -> str:  # noqa: ANN401
    now = int(time.time())
    defaults = {"sub": USER_ID, "iss": ISSUER, "aud": ISSUER, "iat": now, "exp": now + 3600}
    return json.dumps(defaults | changes)


def token(key: Ed25519PrivateKey = KEY, payload: str | None = None, **header: Any) -> str:  # noqa: ANN401
    head = {"alg": "EdDSA", "kid": KID} | header
    text = f"{encode(json.dumps(head).encode())}.{encode((payload or claims()).encode())}"
    return f"{text}.{encode(key.sign(text.encode()))}"


class Endpoint:
    """A JWKS endpoint that answers as the test says, and counts."""

    def __init__(self) -> None:
        self.hits: list[float] = []
        self.keys = [published()]
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.publish
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.hits.append(time.monotonic())
                endpoint.answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/auth/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, request: BaseHTTPRequestHandler) -> None:
        respond(request, json.dumps({"keys": self.keys}).encode())

    def wait_until_a_fetch_is_due(self) -> None:
        time.sleep(max(0, self.hits[-1] + jwks.MIN_INTERVAL + 0.1 - time.monotonic()))


def respond(
    request: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str
) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def public_jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, alg: str) -> dict[str, Any]:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return jwk.construct(pem.decode(), alg).to_dict()


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    with contextlib.suppress(OSError):
        while True:
            request.wfile.write(b" ")
            time.sleep(0.2)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
