"""Which of the published keys are used: public ones, for signatures, strong, of a known kind."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import jwks
from support.jwks_endpoint import KID, public_jwk, published
from support.tokens import SECRET, encode

RSA = public_jwk(rsa.generate_private_key(65537, 2048), "RS256")
WEAK_RSA = public_jwk(rsa.generate_private_key(65537, 1024), "RS256")
P256 = public_jwk(ec.generate_private_key(ec.SECP256R1()), "ES256")
USELESS: dict[str, Any] = {
    "symmetric": {"kty": "oct", "alg": "HS256", "k": encode(SECRET.encode())},
    "symmetric, of another alg": {"kty": "oct", "alg": "EdDSA", "k": "AAAA", "crv": "Ed25519"},
    "public, for HS256": published() | {"alg": "HS256"},
    "no alg": {name: value for name, value in published().items() if name != "alg"},
    "alg none": published() | {"alg": "none"},
    "alg a list": published() | {"alg": ["EdDSA"]},
    "alg unknown": published() | {"alg": "RS512"},
    "for encryption": published() | {"use": "enc"},
    "for signing alone": published() | {"key_ops": ["sign"]},
    "private": published() | {"d": "AAAA"},
    "kid a number": {"kid": 5},
    "kid null": {"kid": None},
    "another curve": published() | {"crv": "Ed448"},
    "x too short": published() | {"x": "AAAA"},
    "x no text": published() | {"x": 5},
    "x missing": {name: value for name, value in published().items() if name != "x"},
    "P-256 for ES512": P256 | {"alg": "ES512"},
    "not on the curve": P256 | {"x": P256["y"]},
    "RSA for EdDSA": RSA | {"alg": "EdDSA"},
    "RSA of 1024 bits": WEAK_RSA,
    "RSA-PSS of 1024 bits": WEAK_RSA | {"alg": "PS256"},
    "RSA without n": RSA | {"n": None},
    "text": "key",
    "null": None,
}


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_key_is_refused_and_its_neighbours_are_kept(name: str) -> None:
    entry = USELESS[name]
    if isinstance(entry, dict):
        entry = {"kid": name} | {k: v for k, v in entry.items() if (k, v) != ("kid", KID)}
    document = {"keys": [entry, published(), RSA | {"kid": "rsa"}, P256 | {"kid": "ec"}]}
    keys = jwks.parse(json.dumps(document).encode())
    assert {kid: key.algorithm for kid, key in keys.items()} == {
        KID: "EdDSA",
        "rsa": "RS256",
        "ec": "ES256",
    }
