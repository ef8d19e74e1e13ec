"""Better Auth's published keys, each with its `kid` and its algorithm."""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from jose import jwk
from jose.backends.base import Key
from jose.backends.cryptography_backend import CryptographyRSAKey
from jose.utils import base64url_decode

FETCH_TIMEOUT = 3.0
MAX_SIZE = 256 * 1024
MIN_INTERVAL = 1.0
"""Seconds from one fetch to the next, however many unknown `kid`s arrive."""
REFRESH_INTERVAL = 300.0
"""Seconds after which known keys are fetched again, so that a withdrawn one is forgotten."""
MAX_AGE = 24 * 3600.0
"""Seconds after which keys are dropped that could not be fetched again."""
MAX_KEYS = 100
MIN_RSA_BITS = 2048

# The algorithms of Better Auth's `keyPairConfig`, with the type of key that each needs.
KEY_TYPES = {
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}

logger = logging.getLogger(__name__)


class EdDSAKey(Key):
    """Ed25519: Better Auth's default, which python-jose does not support."""

    def __init__(self, key: Mapping[str, str], algorithm: str) -> None:
        super().__init__(key, algorithm)
        self._public_key = Ed25519PublicKey.from_public_bytes(base64url_decode(key["x"].encode()))

    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Tell whether the signature is this key's."""
        with contextlib.suppress(InvalidSignature):
            self._public_key.verify(sig, msg)
            return True
        return False


class PS256Key(CryptographyRSAKey):
    """RSASSA-PSS, whose padding python-jose does not support."""

    def __init__(self, key: dict[str, Any], algorithm: str) -> None:
        super().__init__(key, "RS256")
        self._algorithm = algorithm

    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Tell whether the signature is this key's."""
        # RFC 7518, 3.5: MGF1 with the same hash, and a salt of the hash's length.
        pss = padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)
        with contextlib.suppress(InvalidSignature):
            self.prepared_key.verify(sig, msg, pss, SHA256())
            return True
        return False


jwk.register_key("EdDSA", EdDSAKey)
jwk.register_key("PS256", PS256Key)


class PublishedKey(NamedTuple):
    """A key, and the one algorithm that it verifies."""

    key: Key
    algorithm: str


class PublishedKeys:
    """The keys at a URL by their `kid`. They are cached, and fetched again for an unknown `kid`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, PublishedKey] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._started = -math.inf
        self._fetched = -math.inf
        # Redirects are not followed: the keys come from the configured place or not at all.
        # Uncompressed, so that the size limit also limits memory.
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"}, follow_redirects=False, timeout=FETCH_TIMEOUT
        )

    async def find(self, kid: str) -> PublishedKey | None:
        """Return the key. Wait for a fetch only if the key is unknown and a fetch is due."""
        if self._keys and time.monotonic() > self._fetched + MAX_AGE:
            logger.warning("Better Auth's keys are dropped: not fetched for %d s", MAX_AGE)
            self._keys = {}
        if key := self._keys.get(kid):
            self._fetch_after(REFRESH_INTERVAL)
            return key
        if fetching := self._fetch_after(MIN_INTERVAL):
            # Shielded: other requests wait for the same fetch if this one is cancelled.
            await asyncio.shield(fetching)
        return self._keys.get(kid)

    async def close(self) -> None:
        """Cancel a fetch that is in progress."""
        if self._fetching:
            self._fetching.cancel()
        await self._client.aclose()

    def _fetch_after(self, interval: float) -> "asyncio.Task[None] | None":
        """Return the fetch in progress, or start one if the last one is long enough ago."""
        if self._fetching is None or self._fetching.done():
            now = time.monotonic()
            if now < self._started + interval:
                return None
            self._started = now
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        """Replace the keys by those at the URL. Keep them if the response is no valid key set."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                keys = await asyncio.to_thread(parse, await self._download())
        except Exception as exc:  # noqa: BLE001  # whatever it is, the known keys go on working
            reason = str(exc) if type(exc) is ValueError else type(exc).__name__
            logger.warning("Better Auth's keys cannot be fetched from %s: %s", self._url, reason)
            return
        if keys.keys() != self._keys.keys():
            logger.info("Better Auth's keys from %s: %d", self._url, len(keys))
        self._keys = keys
        self._fetched = time.monotonic()

    async def _download(self) -> bytes:
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_SIZE:
                    raise ValueError(f"more than {MAX_SIZE} bytes")
            return bytes(body)


def parse(body: bytes) -> dict[str, PublishedKey]:
    """Return the usable keys of a JWKS by their `kid`: none if it is empty, as all are withdrawn.

    Raises:
        ValueError: It is no JWKS, or none of its keys is usable.

    """
    try:
        entries = json.loads(body)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise ValueError("no JWKS") from exc
    if not isinstance(entries, list):
        raise ValueError("no JWKS")  # noqa: TRY004  # what came is wrong, not our call
    if len(entries) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    keys = {}
    for entry in entries:
        try:
            keys[_key_id(entry)] = PublishedKey(_construct(entry), entry["alg"])
        except Exception:  # noqa: BLE001  # cryptography and python-jose raise many kinds
            logger.warning("One of Better Auth's keys is refused: of no kind that it signs with")
    if entries and not keys:
        raise ValueError("no usable key")
    return keys


def _key_id(entry: Mapping[str, Any]) -> str:
    if not isinstance(entry["kid"], str):
        raise TypeError("kid is not a string")
    return entry["kid"]


def _construct(entry: dict[str, Any]) -> Key:
    """Make a key from an entry that is public, strong, for signatures, and fits its algorithm."""
    if KEY_TYPES[entry["alg"]] != (entry["kty"], entry.get("crv")):
        raise ValueError("alg does not fit the key")
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise ValueError("not for signatures")
    if "d" in entry:
        raise ValueError("a private key, which is nobody's secret any more")
    key = jwk.construct(entry, entry["alg"])
    if isinstance(key, CryptographyRSAKey) and key.prepared_key.key_size < MIN_RSA_BITS:
        raise ValueError("weak")
    return key
