"""The requests of the collection, in an order that works: what the OpenAPI document cannot say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CREATED = """
const task = pm.response.json();
pm.collectionVariables.set("task_id", task.id);
pm.collectionVariables.set("etag", pm.response.headers.get("ETag"));
"""
CHANGED = """
pm.collectionVariables.set("old_etag", pm.collectionVariables.get("etag"));
pm.collectionVariables.set("etag", pm.response.headers.get("ETag"));
pm.test("its version is another one", () =>
  pm.expect(pm.response.headers.get("ETag")).to.not.equal(pm.collectionVariables.get("old_etag")));
"""
HAS_THE_TASK = """
const { tasks, count } = pm.response.json();
pm.test("the task is in the list", () => pm.expect(tasks.map(({ id }) => id)).to.include(
  Number(pm.collectionVariables.get("task_id"))));
pm.test("count is their number", () => pm.expect(count).to.equal(tasks.length));
"""


def code(constant: str) -> str:
    """Test the constant of an error."""
    return f"""
pm.test("the code is {constant}", () =>
  pm.expect(pm.response.json().code).to.equal("{constant}"));
"""


@dataclass(frozen=True)
class Step:
    """One request.

    Args:
        name: What it shows.
        operation: Its `operationId` in the document.
        status: The one that it must have.
        query: Parameters that are sent; the document's others are there, switched off.
        headers: Headers beside the token and the content type.
        body: What is sent instead of the document's example.
        user: Whose tasks.
        before: JavaScript that runs before the request.
        tests: JavaScript that runs after it, beside the tests of status and schema.
        has_token: Whether the token is sent.

    """

    name: str
    operation: str
    status: int = 200
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    user: str = "{{user_in_path}}"
    before: str = ""
    tests: str = ""
    has_token: bool = True


FOLDERS: Mapping[str, Sequence[Step]] = {
    "Health": [
        Step("Is the service alive?", "check_liveness", has_token=False),
        Step("Does its database work?", "check_health", has_token=False),
    ],
    "One task": [
        Step(
            "Create a task",
            "create_task",
            201,
            tests=f"""{CREATED}
const sent = JSON.parse(pm.request.body.raw);
pm.test("it is what was sent", () => pm.expect(task).to.include({{ ...sent, completed: false }}));
""",
        ),
        Step(
            "Get the task",
            "get_task",
            tests="""
pm.test("it is this task", () => pm.expect(pm.response.json().id).to.equal(
  Number(pm.collectionVariables.get("task_id"))));
""",
        ),
        Step(
            "Get the task only if it has changed",
            "get_task",
            304,
            headers={"If-None-Match": "{{etag}}"},
        ),
        Step("List all tasks", "list_tasks", tests=HAS_THE_TASK),
        Step(
            "List the pending tasks by title",
            "list_tasks",
            query={"status": "pending", "sort": "title", "order": "asc"},
            tests=HAS_THE_TASK,
        ),
        Step(
            "Search",
            "list_tasks",
            query={"q": "GROCERIES"},
            tests=f"""{HAS_THE_TASK}
pm.test("each one has the text", () => tasks.forEach(({{ title, description }}) =>
  pm.expect(`${{title}} ${{description}}`.toLowerCase()).to.include("groceries")));
""",
        ),
        Step(
            "Change the task",
            "update_task",
            tests=f"""{CHANGED}
const sent = JSON.parse(pm.request.body.raw);
pm.test("it is as sent", () => pm.expect(pm.response.json()).to.include(sent));
""",
        ),
        Step(
            "Change a version that is no longer current",
            "update_task",
            412,
            headers={"If-Match": "{{old_etag}}"},
            tests=f"""{code("PRECONDITION_FAILED")}
pm.test("the current version is named", () => pm.expect(pm.response.headers.get("ETag"))
  .to.equal(pm.collectionVariables.get("etag")));
""",
        ),
        Step(
            "Change the current version",
            "update_task",
            headers={"If-Match": "{{etag}}"},
            body={"description": None, "completed": True},
            tests=f"""{CHANGED}
pm.test("it is as sent", () => pm.expect(pm.response.json()).to.include(
  {{ description: null, completed: true }}));
""",
        ),
        Step(
            "Toggle the task",
            "toggle_task",
            tests=f"""{CHANGED}
pm.test("it is pending again", () => pm.expect(pm.response.json().completed).to.equal(false));
""",
        ),
    ],
    "Exactly one task": [
        Step(
            "Create a task with a key",
            "create_task",
            201,
            headers={"Idempotency-Key": "{{key}}"},
            before='pm.collectionVariables.set("key", pm.variables.replaceIn("{{$guid}}"));',
            tests="""
pm.collectionVariables.set("first", pm.response.text());
pm.test("it is new", () => pm.response.to.not.have.header("Idempotency-Replayed"));
""",
        ),
        Step(
            "Send it again",
            "create_task",
            201,
            headers={"Idempotency-Key": "{{key}}"},
            tests="""
pm.test("the first response came again", () => {
  pm.expect(pm.response.text()).to.equal(pm.collectionVariables.get("first"));
  pm.expect(pm.response.headers.get("Idempotency-Replayed")).to.equal("true");
});
""",
        ),
        Step(
            "Use the key for another task",
            "create_task",
            422,
            headers={"Idempotency-Key": "{{key}}"},
            body={"title": "Something else"},
            tests=code("IDEMPOTENCY_KEY_REUSED"),
        ),
    ],
    "Pages": [
        Step(
            "Get the first page",
            "list_tasks",
            query={"limit": "1"},
            tests="""
const { tasks, count, total, next_cursor } = pm.response.json();
pm.test("it is a page", () => {
  pm.expect([count, tasks.length]).to.eql([1, 1]);
  pm.expect(total).to.be.above(1);
  pm.expect(pm.response.headers.get("Link")).to.include('rel="next"');
});
pm.collectionVariables.set("cursor", encodeURIComponent(next_cursor));
pm.collectionVariables.set("first_id", tasks[0].id);
""",
        ),
        Step(
            "Get the next page",
            "list_tasks",
            query={"limit": "1", "cursor": "{{cursor}}"},
            tests="""
pm.test("it has another task", () => pm.expect(pm.response.json().tasks[0].id).to.not.equal(
  Number(pm.collectionVariables.get("first_id"))));
""",
        ),
    ],
    "Delete": [
        Step("Delete the task", "delete_task", 204),
        Step("Get it nevertheless", "get_task", 404, tests=code("NOT_FOUND")),
    ],
    "Many tasks": [
        Step(
            "Complete all tasks",
            "update_tasks",
            tests="""
pm.test("some changed", () => pm.expect(pm.response.json().updated).to.be.above(0));
""",
        ),
        Step(
            "Complete those that are pending: none is",
            "update_tasks",
            query={"status": "pending"},
            tests="""
pm.test("none changed", () => pm.expect(pm.response.json()).to.eql({ updated: 0 }));
""",
        ),
        Step(
            "Delete all completed tasks",
            "delete_tasks",
            query={"status": "completed"},
            tests="""
pm.test("some are deleted", () => pm.expect(pm.response.json().deleted).to.be.above(0));
""",
        ),
        Step(
            "List all tasks: there is none",
            "list_tasks",
            tests="""
pm.test("the list is empty", () => pm.expect(pm.response.json()).to.eql({ tasks: [], count: 0 }));
""",
        ),
    ],
    "What is refused": [
        Step(
            "No token",
            "list_tasks",
            401,
            has_token=False,
            tests=f"""{code("UNAUTHORIZED")}
pm.test("a token is asked for", () => pm.response.to.have.header("WWW-Authenticate", "Bearer"));
""",
        ),
        Step("Another user", "list_tasks", 403, user="somebody-else", tests=code("FORBIDDEN")),
        Step(
            "An empty title",
            "create_task",
            400,
            body={"title": ""},
            tests=f"""{code("VALIDATION_ERROR")}
pm.test("a sentence says why", () => pm.expect(pm.response.json().detail).to.equal(
  "Title must be between 1 and 200 characters"));
""",
        ),
    ],
}
