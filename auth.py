"""Verifies the bearer token of a request, and that its user may use the path."""

import math
import time
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose.backends.base import Key
from jose.backends.native import HMACKey

from config import Settings
from errors import InvalidToken, Unauthorized, UserMismatch
from logs import request_context
from models import USER_ID_MAX_LENGTH
from rendering import from_json
from texts import is_storable

if TYPE_CHECKING:
    from jwks import PublishedKeys

HS256 = "HS256"
"""The one algorithm of the shared secret."""
CLOCK_SKEW = 30
"""Seconds by which the issuer's clock may be ahead for `iat` and `nbf`."""
ACCESS_TOKEN_TYPES = {"at+jwt", "application/at+jwt"}
"""The `typ` of an OAuth access token, in any case (RFC 9068, 2.1 and 4)."""

# What is no base64url becomes what is no base64: python-jose alone would ignore it.
FROM_URL_SAFE = bytes.maketrans(b"-_+/=", b"+/   ")

bearer_scheme = HTTPBearer(
    bearerFormat="JWT",
    auto_error=False,
    description="A token from Better Auth: paste the token alone, without the word `Bearer`.",
)


async def get_current_user(
    request: Request,
    user_id: Annotated[
        str,
        Path(
            description="Your user id, which is your token's `sub`.",
            examples=["user_123"],
            json_schema_extra={"minLength": 1, "maxLength": USER_ID_MAX_LENGTH},
        ),
    ],
    _scheme: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)] = None,
) -> str:
    """Return the user id of the token, which must be the one in the path.

    Raises:
        Unauthorized: There is no token.
        InvalidToken: There is one that is not valid.
        UserMismatch: The path names another user.

    """
    token = _bearer_token(request)
    if not token:
        raise Unauthorized("no bearer token")
    verifier: TokenVerifier = request.scope["app"].state["token_verifier"]
    subject = await verifier.subject(token)
    if context := request_context.get():
        context.user_id = subject
    if unquote(user_id, errors="surrogateescape") != subject:
        raise UserMismatch("the path names another user than the token")
    return subject


CurrentUser = Annotated[str, Depends(get_current_user)]


class TokenVerifier:
    """Verifies tokens as the settings say, with keys that are built once."""

    def __init__(self, settings: Settings) -> None:
        secrets = settings.better_auth_secrets or (settings.better_auth_secret,)
        # python-jose's other one, through cryptography, takes twice as long.
        keys = [HMACKey(s.get_secret_value(), HS256) for s in secrets]
        self._secret_key = keys[0] if len(keys) == 1 else AnyKey(keys)
        self._published = _published_keys(settings.jwks_url)
        self._issuers = [settings.issuer]
        self._access_token_issuers = [settings.issuer, settings.oauth_issuer]
        self._audience = settings.better_auth_audience

    async def subject(self, token: str) -> str:
        """Return the user id of a token that is valid now.

        A `kid` in the header names one of Better Auth's published keys, and the key brings its
        algorithm. A token without a `kid` is signed with the shared secret.

        Raises:
            InvalidToken: It is not valid. The reason holds nothing from the token.

        """
        if self._published:
            header = _header(token)
            if "kid" in header:
                return await self._published_subject(token, header, self._published)
        return verify_token(token, self._secret_key, audience=self._audience)

    async def _published_subject(
        self, token: str, header: Mapping[str, Any], published: "PublishedKeys"
    ) -> str:
        # Better Auth signs its session cookies with these keys too, and names them in `typ`.
        issuers = self._issuers
        if header.get("typ", "JWT") != "JWT":
            # An access token is for the API that its `aud` names, and no audience is set here.
            if self._audience is None or not _is_access_token(header["typ"]):
                raise InvalidToken("typ other than JWT")
            issuers = self._access_token_issuers
        found = await published.find(header["kid"]) if isinstance(header["kid"], str) else None
        if found is None:
            raise InvalidToken("unknown kid")
        return verify_token(
            token, found.key, found.algorithm, issuers=issuers, audience=self._audience
        )

    async def close(self) -> None:
        """Cancel a fetch of keys that is in progress."""
        if self._published:
            await self._published.close()


class AnyKey(Key):
    """Several secrets, for the time in which one replaces another."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(None, HS256)
        self._keys = keys

    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Tell whether the signature is one of the keys'."""
        return any(key.verify(msg, sig) for key in self._keys)


def _published_keys(url: str | None) -> "PublishedKeys | None":
    if url is None:
        return None
    from jwks import PublishedKeys  # noqa: PLC0415  # its HTTP client takes 5 MB

    return PublishedKeys(url)


def verify_token(
    token: str,
    key: Key,
    algorithm: str = HS256,
    *,
    issuers: Sequence[str | None] = (),
    audience: str | None = None,
) -> str:
    """Return the user id of a token that is valid now, signed with the key and its algorithm.

    Raises:
        InvalidToken: It is not valid. The reason holds nothing from the token.

    """
    header = _header(token)
    if header.get("alg") != algorithm:
        raise InvalidToken(f"algorithm other than {algorithm}")
    if "crit" in header:
        # RFC 7515, 4.1.11: refuse a critical extension that you do not understand.
        raise InvalidToken("critical extension in the header")
    signed, _, signature = token.encode().rpartition(b".")
    try:
        genuine = key.verify(signed, _bytes_of(signature))
        claims = from_json(_bytes_of(signed.partition(b".")[2]))
    except Exception as exc:
        # The library raises many types; deeply nested claims raise RecursionError.
        raise InvalidToken("malformed token") from exc
    if not genuine:
        raise InvalidToken("wrong signature")
    if not isinstance(claims, dict):
        raise InvalidToken("claims are not an object")
    if issuers and claims.get("iss") not in issuers:
        raise InvalidToken("iss is not BETTER_AUTH_URL's")
    if audience is not None and not _names(claims.get("aud"), audience):
        raise InvalidToken("aud is not BETTER_AUTH_AUDIENCE")
    return _subject(claims, time.time())


def _bearer_token(request: Request) -> str:
    """Return what `bearer_scheme` would, without an object for each step, or nothing."""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _bytes_of(segment: bytes) -> bytes:
    """Decode base64url without padding in one call, where python-jose makes seven."""
    padding = b"=" * (-len(segment) % 4)
    return a2b_base64(segment.translate(FROM_URL_SAFE) + padding, strict_mode=True)


def _header(token: str) -> Mapping[str, Any]:
    if token.count(".") != 2:  # noqa: PLR2004  # RFC 7515, 7.1
        raise InvalidToken("malformed token")
    return _decoded_header(token.partition(".")[0])


@lru_cache(maxsize=16)
def _decoded_header(segment: str) -> Mapping[str, Any]:
    """Return the header of a token. Those of one issuer are all the same."""
    try:
        header = from_json(_bytes_of(segment.encode()))
    except (ValueError, RecursionError) as exc:
        raise InvalidToken("malformed token") from exc
    if not isinstance(header, dict):
        raise InvalidToken("malformed token")
    return MappingProxyType(header)


def _is_access_token(typ: object) -> bool:
    return isinstance(typ, str) and typ.lower() in ACCESS_TOKEN_TYPES


def _names(claim: object, audience: str) -> bool:
    return claim == audience or (isinstance(claim, list) and audience in claim)


def _subject(claims: dict[str, Any], now: float) -> str:
    if not _is_number(claims.get("exp")):
        raise InvalidToken("exp is missing or not a number")
    if claims["exp"] <= now:
        raise InvalidToken("token expired")
    for claim in ("iat", "nbf"):
        if claim in claims and not _is_number(claims[claim]):
            raise InvalidToken(f"{claim} is not a number")
        if claims.get(claim, now) > now + CLOCK_SKEW:
            raise InvalidToken(f"{claim} is in the future")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= USER_ID_MAX_LENGTH:
        raise InvalidToken("sub is missing or not a string of 1 to 255 characters")
    if not is_storable(subject):
        raise InvalidToken("sub has characters that cannot be stored")
    return subject


def _is_number(value: object) -> bool:
    # Not isinstance: bool is an int too. Not isfinite(int): it fails above the largest float.
    return type(value) is int or (type(value) is float and math.isfinite(value))
