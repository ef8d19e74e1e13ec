"""The frontend's code on the pages works with a real Better Auth: uv run pytest -m tokens."""

import json
import shutil
import subprocess

import pytest

from support.issuer import better_auth, documented_script
from support.pages import block, blocks, read, section
from support.service import Service, environment, running

pytestmark = pytest.mark.tokens

HEADING = "## Connect Better Auth"
# A page's own fetch: relative to the frontend, with the session's cookies.
BROWSER = """
const { frontend, cookies, user } = JSON.parse(process.env.PAGE);
const request = globalThis.fetch;
const own = { headers: { Cookie: cookies } };
const fetch = (url, options) =>
  url.startsWith("/") ? request(frontend + url, own) : request(url, options);
"""


def test_a_shared_secret_needs_no_table(service: Service) -> None:
    tables = "{ user: [], session: [], account: [], verification: [] }"
    source = documented_script("docs/authentication.md", "## With the shared secret")
    source = source.replace("...options,", f"...options, database: memoryAdapter({tables}),")
    source = f'import {{ memoryAdapter }} from "better-auth/adapters/memory";\n{source}'
    with better_auth(source) as issuer:
        account = issuer.sign_up()
        headers = {"Authorization": f"Bearer {account.token()}"}
        assert service.client.get(f"/api/{account.id}/tasks", headers=headers).status_code == 200


def test_the_readme_connects_a_frontend(database_url: str) -> None:
    text = section(read("README.md"), HEADING)
    node = shutil.which("node")
    assert node
    with better_auth(documented_script("README.md", HEADING)) as issuer:
        local = block(text, "ini").replace("http://localhost:3000", issuer.url)
        settings = dict(line.split("=") for line in local.splitlines())
        assert settings.keys() == {"BETTER_AUTH_URL", "ALLOWED_ORIGINS"}
        with running(environment(database_url, **settings)) as service:
            account = issuer.sign_up()
            service.client.post(
                f"/api/{account.id}/tasks",
                json={"title": "Buy groceries"},
                headers={"Authorization": f"Bearer {account.token()}"},
            ).raise_for_status()
            [_, call] = blocks(text, "ts")
            cookies = "; ".join(f"{name}={value}" for name, value in account.client.cookies.items())
            page = {"frontend": issuer.url, "cookies": cookies, "user": {"id": account.id}}
            answer = subprocess.run(
                [node, "--input-type=module"],
                input=BROWSER
                + call.replace("http://localhost:8000", service.url)
                + "\nconsole.log(JSON.stringify(tasks));",
                env={"PAGE": json.dumps(page)},
                capture_output=True,
                text=True,
                check=True,
            )
    assert [task["title"] for task in json.loads(answer.stdout)] == ["Buy groceries"]
