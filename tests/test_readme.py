"""What the README and the other pages tell people to type works, and what they list is complete."""

import ast
import re
from pathlib import Path

import pytest

from auth import HS256
from config import Settings
from dev_commands import advice
from jwks import KEY_TYPES
from support.pages import PAGES, blocks, name, read, section
from support.service import PROJECT, Service

README = read("README.md")
API = read("docs/api.md")
# Who runs a command that a page shows: a pattern of the command, a file, and the words there.
RUN_BY = [
    (r"pip install uv", ".ci/run", 'pip" install --quiet uv'),
    (r"(?:PORT=8001 )?uv run dev\.py", ".ci/run", 'PORT="$PORT" uv run dev.py'),
    (r"uv run dev\.py (token|explain|reset|--help)(?: .*)?", "tests/test_dev_commands.py", r'"\1"'),
    (r"uv run -m (postman\.generate)", "tests/test_postman.py", r'"\1"'),
    (r"uv run examples/start\.py", "tests/test_browser.py", '"examples/start.py"'),
    (r"(uv sync --no-dev --frozen --compile-bytecode)", ".ci/run", r"stranger \1"),
    (r"(uv run --no-dev main\.py)", ".ci/run", r"stranger \1"),
    (r"\./check", ".ci/run", "./check"),
    (r"(uv run pytest)(?: tests/\w+\.py)?", "check", r"\1"),
    (r"(uv run (?:--group \w+ )?pytest -m \w+)(?: --full)?", ".ci/run", r"\1"),
    (r"TEST_DATABASE_URL=\S+ uv run pytest", "tests/test_pooler.py", '"TEST_DATABASE_URL"'),
    (r"(npm ci --prefix \S+)", ".ci/run", r"\1"),
    (r"uv sync (?:--no-dev )?(--extra \w+)", ".ci/run", r"\1"),
    (r"uv run --no-dev main\.py (--check)", "tests/test_operation.py", r'"\1"'),
    (r"apt-get install ([\w-]+)", ".ci/run", r"packages+=(\1)"),
    (r"(openssl rand -base64 32)", "tests/test_examples.py", "openssl"),
    (r"uv run -m benchmarks\.\w+.*", ".ci/run", '-m "benchmarks.$measurement"'),
    (r"uv run (-m scaling\.size) .*", "tests/test_scaling.py", r'"-m", "scaling.size"'),
    (r"uv run --group scaling (-m scaling\.\w+)", ".ci/run", r"\1"),
    (r"(uv run ruff format)(?: && uv run ruff check --fix)?", "check", r"\1"),
    (r"uv run (alembic revision .*)", "tests/test_new_column.py", '"alembic revision'),
    (r"npm install (@better-auth/\S+) @better-auth/\S+", "tests/better_auth/package.json", r'"\1"'),
    (r"npm install jose", "tests/better_auth/package.json", '"jose"'),
    (r"npm install -g @railway/cli", "tests/test_platforms.py", "railway"),
    (r"docker (?:build|run|compose) .*", "tests/test_image.py", "image"),
    (
        r"uv run --no-dev (alembic downgrade -1)",
        "tests/test_database.py",
        "alembic.command.downgrade",
    ),
    (r"npm run types", "tests/test_browser.py", "npm run types"),
]
PROGRAMS = {"uv", "npm", "npx", "pip", "apt-get", "openssl", "docker", "./check"}


def commands(text: str) -> list[str]:
    """Return the commands that a page shows, in code blocks and in its sentences."""
    shown = [line for code in blocks(text, "sh") for line in code.splitlines()]
    shown += [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    return [
        line for line in shown if PROGRAMS & set(re.sub(r"^[A-Z_]+=\S* ", "", line).split()[:1])
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_run_by_a_test_or_by_ci(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        runs = [
            words in read(file)
            for pattern, file, template in RUN_BY
            if (match := re.fullmatch(pattern, command)) and (words := match.expand(template))
        ]
        assert any(runs), command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_have_no_comment(page: Path) -> None:
    """Typed into zsh, which is what macOS has, a comment is an error."""
    for code in blocks(page.read_text(encoding="utf-8"), "sh"):
        assert "#" not in code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_column_of_a_table_has_a_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for head in re.findall(r"^(\|.*)\n\|[-|: ]+\|$", text, re.MULTILINE):
        assert all(cell.strip() for cell in head.strip("|").split("|")), head


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != PROJECT], ids=name)
def test_a_page_begins_with_three_lines_that_say_it_all(page: Path) -> None:
    title, summary, _ = page.read_text(encoding="utf-8").split("\n\n", 2)
    assert re.fullmatch("# .+", title)
    assert len(summary.splitlines()) == 3


def test_the_documented_way_to_a_token_is_the_one_of_the_example() -> None:
    [get_token, _] = blocks(section(read("docs/authentication.md"), "## Use the token"), "ts")
    assert get_token == read("examples/frontend/lib/auth-client.ts")


def test_every_setting_is_explained() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (required|optional|`[^`]*`) \|", read("docs/settings.md"), re.MULTILINE
    )
    expected = []
    for setting, field in Settings.model_fields.items():
        default = "optional" if field.default in (None, ()) else f"`{field.default}`"
        expected.append((setting.upper(), "required" if field.is_required() else default))
    assert rows == expected


def test_every_error_code_is_explained() -> None:
    codes = set(re.findall(r"^\| \d+ \| `([A-Z_]+)` \|", section(API, "## Errors"), re.MULTILINE))
    source = read("errors.py")
    assert codes == {*re.findall(r'code = "([A-Z_]+)"', source), "METHOD_NOT_ALLOWED"}
    common = set(re.findall(r"^\| \d+ \| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert common < codes


def test_every_endpoint_is_listed(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    operations = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    listed = re.findall(r"^\| `([A-Z]+ \S+)` \|", section(README, "## Endpoints"), re.MULTILINE)
    assert set(listed) == operations


def test_every_file_at_the_top_has_its_place_in_the_layout() -> None:
    layout = section(README, "## Layout")
    listed = [path.name for path in PROJECT.glob("*.py")]
    assert listed
    assert [path for path in listed if f"`{path}`" not in layout] == []


def test_every_reason_of_a_401_is_explained() -> None:
    table = section(read("docs/authentication.md"), "## It says 401: why?")
    explained = {
        reason
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for reason in re.findall(r"`(.*?)`", row)
    }
    raised = set()
    for node in ast.walk(ast.parse(read("auth.py"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "Unauthorized",
            "InvalidToken",
        }:
            text = ast.literal_eval(ast.unparse(node.args[0]).removeprefix("f"))
            raised |= {text.format(claim=claim, algorithm="") for claim in ("iat", "nbf")}
    raised.remove("algorithm other than ")
    raised |= {f"algorithm other than {algorithm}" for algorithm in (HS256, *KEY_TYPES)}
    assert explained == raised
    for reason in raised:
        assert advice(reason) in table


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_to_a_file_leads_there(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")
    ):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor[1:] in anchors(linked), anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
