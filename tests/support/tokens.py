"""Tokens signed by hand, so that every wrong one can be made."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

SECRET = "secret-canary-0123456789-abcdefghijklmnopqrstuvwxyz"


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: bytes | str, payload: bytes | str, secret: str = SECRET) -> str:
    """Sign any header and payload with HS256, valid JSON or not."""
    parts = [part.encode() if isinstance(part, str) else part for part in (header, payload)]
    signing_input = ".".join(map(encode, parts))
    digest = hmac.digest(secret.encode(), signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{encode(digest)}"


def signed(
    header: dict[str, Any] | None = None,
    secret: str = SECRET,
    **claims: Any,  # noqa: ANN401
) -> str:
    """Sign claims; a claim that is `...` is left out."""
    now = int(time.time())
    all_claims = {"sub": "user_123", "email": "user@example.com", "iat": now, "exp": now + 3600}
    all_claims = {name: value for name, value in (all_claims | claims).items() if value is not ...}
    return sign(
        json.dumps({"alg": "HS256", "typ": "JWT"} | (header or {})), json.dumps(all_claims), secret
    )
