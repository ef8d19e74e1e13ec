"""DATABASE_URL is read as libpq reads it, and as people write it."""

import pytest
from psycopg2.extensions import parse_dsn

from database_url import normalized

URL = "postgresql://user:password-canary@host:5432/name"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (URL, URL),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("postgresql://h/d?user=a@b", "postgresql://h/d?user=a@b"),
        *(
            (url, url)
            for url in (
                "postgresql://u:p@x-pooler.neon.tech/d?sslmode=require&channel_binding=require",
                "postgresql://u:p%40%2F%3A@h/d",
                "postgresql://u:p@h1:1,h2:2,[::1]:3/d?target_session_attrs=read-write",
            )
        ),
    ],
)
def test_a_url_is_read_as_meant(sent: str, meant: str) -> None:
    assert normalized(sent) == meant


@pytest.mark.parametrize(
    "password", ["p@p", "p/p", "p?p", "p#p", "1/p", "p@/?#p", "@", "%zz@", "p@h2/d", "p@h2:1/d?a=b"]
)
def test_a_password_is_read_as_meant(password: str) -> None:
    url = f"postgresql://u:{password}@h:1/d?sslmode=require"
    assert parse_dsn(normalized(url)) == {
        "user": "u",
        "password": password,
        "host": "h",
        "port": "1",
        "dbname": "d",
        "sslmode": "require",
    }
