"""A real Better Auth on Node, and the tokens that it really issues."""

import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from support.network import free_port
from support.pages import blocks, read, section
from support.service import PATIENCE, PROJECT, wait_for
from support.tokens import SECRET

FOLDER = PROJECT / "tests" / "better_auth"
STOCK = "jwt()"
SCRIPT = """
import { betterAuth } from "better-auth";
import { bearer, jwt } from "better-auth/plugins";
import { SignJWT } from "jose";
import { options, serve } from "./server.mjs";
export const auth = betterAuth({ ...options, OPTIONS plugins: [PLUGINS] });
serve(auth);
"""


def script(plugins: str = STOCK, options: str = "") -> str:
    """Configure Better Auth as JavaScript says."""
    return SCRIPT.replace("PLUGINS", plugins).replace("OPTIONS", options)


def documented_script(page: str, heading: str) -> str:
    """Configure it as a page says under a heading, to the letter."""
    [code] = [
        code
        for code in blocks(section(read(page), heading), "ts")
        if "import { betterAuth }" in code
    ]
    assert code.count("// … database") == 1
    configured = re.sub(r"// … database.*", "...options,", code)
    return f'import {{ options, serve }} from "./server.mjs";\n{configured}\nserve(auth);'


@dataclass
class Account:
    """Somebody who signed up, in a browser of their own."""

    id: str
    email: str
    client: httpx.Client
    bearer: str | None
    """The session's own token, from the bearer plugin."""

    def token(self) -> str:
        """Get a token as a frontend does."""
        response = self.client.get("/token").raise_for_status()
        token: str = response.json()["token"]
        return token

    def cookie(self, name: str) -> str:
        """Return the value of Better Auth's cookie."""
        value = self.client.cookies[f"better-auth.{name}"]
        assert value
        return value


@dataclass
class BetterAuth:
    """A running Better Auth."""

    url: str
    base: str
    origin: str
    browsers: ExitStack

    def sign_up(self) -> Account:
        headers = {"Origin": self.origin}
        client = self.browsers.enter_context(
            httpx.Client(base_url=self.url + self.base, headers=headers, timeout=PATIENCE)
        )
        email = f"{uuid.uuid4().hex}@example.com"
        body = {"email": email, "password": "a-password-of-30-characters-000", "name": "Ada"}
        response = client.post("/sign-up/email", json=body).raise_for_status()
        user_id = response.json()["user"]["id"]
        return Account(user_id, email, client, response.headers.get("set-auth-token"))

    def emails(self) -> list[str]:
        """Return the tokens of the links that were sent."""
        tokens: list[str] = httpx.get(f"{self.url}/emails").json()
        return tokens

    def jwks(self) -> list[dict[str, str]]:
        keys: list[dict[str, str]] = httpx.get(f"{self.url}/api/auth/jwks").json()["keys"]
        return keys


@contextmanager
def better_auth(
    source: str, *, base: str = "/api/auth", origin: str | None = None, **environment: str
) -> Iterator[BetterAuth]:
    """Run Better Auth until the block ends.

    Args:
        source: What `script` or `documented_script` made.
        base: Its `basePath`.
        origin: Of its `baseURL`, if that is not where it listens.
        environment: Variables besides BETTER_AUTH_URL and BETTER_AUTH_SECRET.

    """
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").exists():
        pytest.fail("This needs Node.js 20 or newer, and: npm ci --prefix tests/better_auth")
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [node, "--input-type=module"],
        cwd=FOLDER,
        env={"BETTER_AUTH_URL": url, "BETTER_AUTH_SECRET": SECRET, **environment},
        stdin=subprocess.PIPE,
    )
    try:
        assert process.stdin
        process.stdin.write(source.encode())
        process.stdin.close()

        def answers() -> bool:
            assert process.poll() is None, "Better Auth ended; its own message is above"
            try:
                return httpx.get(f"{url}{base}/ok").is_success
            except httpx.TransportError:
                return False

        wait_for(answers)
        with ExitStack() as browsers:
            yield BetterAuth(url, base, origin or url, browsers)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
