"""The bearer token of a request, verified: who is asking, and may they use this path."""

import json
import math
import re
import time
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import jws
from jose.backends.base import Key

from errors import Unauthorized, UserMismatch
from logs import request_context
from models import USER_ID_MAX_LENGTH
from schemas import is_storable

ALGORITHMS = ["HS256"]
CLOCK_SKEW = 30
"""Seconds by which the issuer's clock may be ahead for `iat` and `nbf`."""

# A JWS in compact form; python-jose alone would skip padding and foreign characters.
COMPACT_JWS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

bearer_scheme = HTTPBearer(
    bearerFormat="JWT",
    auto_error=False,
    description="A token from Better Auth, signed with the shared secret (HS256).",
)


async def get_current_user(
    request: Request,
    user_id: Annotated[
        str,
        Path(
            description="Your user id, which is your token's `sub`.",
            examples=["user_123"],
        ),
    ],
    _scheme: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)] = None,
) -> str:
    """Return the id of the request's user: the token's, which must be the path's too.

    Raises:
        Unauthorized: There is no valid token.
        UserMismatch: The path names another user.

    """
    if not hasattr(request.state, "current_user"):
        credentials = await bearer_scheme(request)
        if credentials is None:
            raise Unauthorized("no bearer token")
        subject = verify_token(credentials.credentials, request.app.state.token_key)
        if context := request_context.get():
            context.user_id = subject
        if unquote(user_id, errors="surrogateescape") != subject:
            raise UserMismatch("the path names another user than the token")
        request.state.current_user = subject
    return str(request.state.current_user)


CurrentUser = Annotated[str, Depends(get_current_user)]


def verify_token(token: str, key: Key) -> str:
    """Return the user id of a token that is valid now.

    Raises:
        Unauthorized: It is not; the reason holds nothing from the token.

    """
    if not COMPACT_JWS.fullmatch(token):
        raise Unauthorized("malformed token")
    try:
        claims = json.loads(jws.verify(token, key, ALGORITHMS))
        header = jws.get_unverified_header(token)
    except Exception as exc:
        # More than JWSError: a deeply nested header, for one, is a RecursionError.
        raise Unauthorized(_failure(exc)) from exc
    if "crit" in header:
        # RFC 7515, 4.1.11: who does not understand an extension that is critical must refuse it.
        raise Unauthorized("critical extension in the header")
    if not isinstance(claims, dict):
        raise Unauthorized("claims are not an object")
    return _subject(claims, time.time())


def _failure(exc: Exception) -> str:
    message = str(exc)
    if message.startswith("Signature verification failed"):
        return "wrong signature"
    if "alg" in message:
        return "algorithm other than HS256"
    return "malformed token"


def _subject(claims: dict[str, Any], now: float) -> str:
    if not _is_number(claims.get("exp")):
        raise Unauthorized("exp is missing or not a number")
    if claims["exp"] <= now:
        raise Unauthorized("token expired")
    for claim in ("iat", "nbf"):
        if claim in claims and not _is_number(claims[claim]):
            raise Unauthorized(f"{claim} is not a number")
        if claims.get(claim, now) > now + CLOCK_SKEW:
            raise Unauthorized(f"{claim} is in the future")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= USER_ID_MAX_LENGTH:
        raise Unauthorized("sub is missing or not a string of 1 to 255 characters")
    if not is_storable(subject):
        raise Unauthorized("sub has characters that cannot be stored")
    return subject


def _is_number(value: object) -> bool:
    # Not isinstance: bool is an int too. Not isfinite(int): it fails above the largest float.
    return type(value) is int or (type(value) is float and math.isfinite(value))
