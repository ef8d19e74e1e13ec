"""What the README tells people to type works."""

import ast
import re
import shlex

from config import Settings
from support.service import PROJECT, Service
from support.tokens import signed

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_curl_calls_do_what_they_say(service: Service) -> None:
    user = service.user()
    block = re.search(r"## curl\n\n```sh\n(.*?)```", README, re.DOTALL)
    assert block
    commands = [line for line in block[1].splitlines() if line.startswith("curl")]
    statuses = []
    task_id = ""
    for command in commands:
        line = command.replace("$BASE", service.url).replace("$USER_ID", user.id)
        line = line.replace("$TOKEN", signed(sub=user.id)).replace("/tasks/1", f"/tasks/{task_id}")
        words = shlex.split(line)[1:]
        options = {words[i]: words[i + 1] for i in range(len(words)) if words[i] in {"-X", "-d"}}
        headers = dict(words[i + 1].split(": ") for i in range(len(words)) if words[i] == "-H")
        method = options.get("-X", "POST" if "-d" in options else "GET")
        url = next(word for word in words if word.startswith("http"))
        response = service.client.request(
            method, url, headers=headers, content=options.get("-d", "").encode()
        )
        statuses.append((method, response.status_code))
        if response.status_code == 201:
            task_id = str(response.json()["id"])
    assert statuses == [
        ("GET", 200),
        ("POST", 201),
        ("GET", 200),
        ("GET", 200),
        ("PUT", 200),
        ("PATCH", 200),
        ("DELETE", 204),
    ]


def test_every_setting_is_explained() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (required|optional|`[^`]*`) \|", README, re.MULTILINE)
    expected = []
    for name, field in Settings.model_fields.items():
        default = "optional" if field.default in (None, ()) else f"`{field.default}`"
        expected.append((name.upper(), "required" if field.is_required() else default))
    assert rows == expected


def test_every_error_code_is_explained() -> None:
    codes = set(re.findall(r"^\| \d+ \| `([A-Z_]+)` \|", README, re.MULTILINE))
    source = (PROJECT / "errors.py").read_text(encoding="utf-8")
    assert codes == {*re.findall(r'code = "([A-Z_]+)"', source), "METHOD_NOT_ALLOWED"}


def test_every_file_at_the_top_has_its_place_in_the_layout() -> None:
    layout = README.partition("## Layout")[2]
    listed = [path.name for path in PROJECT.glob("*.py")]
    assert listed
    assert [name for name in listed if name not in layout] == []


def test_every_reason_of_a_401_is_explained() -> None:
    table = README.partition("### It says 401: why?")[2].partition("\n## ")[0]
    explained = {
        reason
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for reason in re.findall(r"`(.*?)`", row)
    }
    raised = set()
    for node in ast.walk(ast.parse((PROJECT / "auth.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Unauthorized":
            text = ast.literal_eval(ast.unparse(node.args[0]).removeprefix("f"))
            raised |= {text.format(claim=claim, algorithm="HS256") for claim in ("iat", "nbf")}
    assert explained == raised
