// Every call of the API, whichever client was generated for it.
import assert from "node:assert/strict";

export interface Task {
  id: number;
  user_id: string;
  title: string;
  description: string | null;
  completed: boolean;
  created_at: string;
  updated_at: string;
}

export interface TaskList {
  tasks: Task[];
  count: number;
}

export interface Page extends TaskList {
  total: number;
  next_cursor: string | null;
}

export interface Health {
  status: "healthy" | "unhealthy";
  database: "connected" | "disconnected";
  timestamp: string;
}

export interface Failure {
  detail: string;
  code: "UNAUTHORIZED" | "IDEMPOTENCY_KEY_REUSED" | "PRECONDITION_FAILED" | (string & {});
}

export interface Reply<T, E = Failure> {
  status: number;
  headers: Headers;
  data?: T;
  error?: E;
}

export interface Query {
  status?: "all" | "pending" | "completed";
  sort?: "created" | "title" | "updated";
  order?: "asc" | "desc";
  q?: string;
  limit?: number;
  cursor?: string;
}

export interface Api {
  live(): Promise<Reply<{ status: "alive" }>>;
  health(): Promise<Reply<Health, Health | Failure>>;
  list(query: Query, ifNoneMatch?: string): Promise<Reply<TaskList | Page>>;
  create(body: { title: string; description?: string | null }, key?: string): Promise<Reply<Task>>;
  get(id: number, ifNoneMatch?: string): Promise<Reply<Task>>;
  update(
    id: number,
    body: { title?: string; description?: string | null; completed?: boolean },
    ifMatch?: string,
  ): Promise<Reply<Task>>;
  toggle(id: number, ifMatch?: string): Promise<Reply<Task>>;
  remove(id: number, ifMatch?: string): Promise<Reply<unknown>>;
  updateAll(completed: boolean, status?: Query["status"]): Promise<Reply<{ updated: number }>>;
  removeAll(status: NonNullable<Query["status"]>): Promise<Reply<{ deleted: number }>>;
}

function variable(name: string): string {
  const value = process.env[name];
  assert(value, name);
  return value;
}

export const baseUrl = variable("SERVICE");
export const userId = variable("USER_ID");
export const token = variable("TOKEN");

function body<T, E>(reply: Reply<T, E>, status: number): T {
  assert.equal(reply.status, status, JSON.stringify(reply.error));
  assert(reply.data !== undefined);
  return reply.data;
}

function refused(reply: Reply<unknown>, status: number, code: Failure["code"]): void {
  assert.equal(reply.status, status);
  assert.equal(reply.error?.code, code);
}

/** Return all tasks, page by page. */
async function pages(api: Api, query: Query): Promise<Task[]> {
  const tasks: Task[] = [];
  let cursor: string | undefined;
  do {
    const page = body(await api.list({ ...query, limit: 2, cursor }), 200);
    assert("next_cursor" in page, "a page has the fields of a page");
    tasks.push(...page.tasks);
    cursor = page.next_cursor ?? undefined;
  } while (cursor);
  return tasks;
}

async function everyCall(api: Api): Promise<void> {
  assert.equal(body(await api.live(), 200).status, "alive");
  assert.equal(body(await api.health(), 200).database, "connected");

  const first = body(await api.create({ title: "Écrire", description: "au stylo" }), 201);
  assert.deepEqual([first.title, first.description, first.completed], ["Écrire", "au stylo", false]);
  const key = crypto.randomUUID();
  const keyed = await api.create({ title: "Once 🎉" }, key);
  const again = await api.create({ title: "Once 🎉" }, key);
  assert.deepEqual(body(again, 201), body(keyed, 201));
  assert.equal(again.headers.get("Idempotency-Replayed"), "true");
  refused(await api.create({ title: "Another" }, key), 422, "IDEMPOTENCY_KEY_REUSED");
  const third = body(await api.create({ title: "third" }), 201);

  const whole = await api.list({});
  const { tasks, count } = body(whole, 200);
  assert.equal(count, 3);
  assert.deepEqual(await pages(api, {}), tasks);
  assert.deepEqual(await pages(api, { order: "asc" }), [...tasks].reverse());
  const byTitle = body(await api.list({ sort: "title", status: "pending" }), 200).tasks;
  assert.deepEqual(byTitle.map(({ title }) => title), ["Écrire", "Once 🎉", "third"]);
  assert.deepEqual(body(await api.list({ q: "éCRI" }), 200).tasks, [first]);
  assert.equal((await api.list({}, whole.headers.get("ETag") ?? "")).status, 304);

  const got = await api.get(first.id);
  const tag = `"${first.updated_at}"`;
  assert.deepEqual(body(got, 200), first);
  assert.equal(got.headers.get("ETag"), tag);
  assert.equal((await api.get(first.id, tag)).status, 304);

  const changed = body(await api.update(first.id, { description: null }, tag), 200);
  assert.equal(changed.description, null);
  refused(await api.update(first.id, { completed: true }, tag), 412, "PRECONDITION_FAILED");
  refused(await api.toggle(first.id, tag), 412, "PRECONDITION_FAILED");
  assert.equal(body(await api.toggle(first.id), 200).completed, true);
  assert.equal(body(await api.update(third.id, { title: "Third" }), 200).title, "Third");

  assert.deepEqual(body(await api.updateAll(true, "pending"), 200), { updated: 2 });
  assert.deepEqual(body(await api.updateAll(false), 200), { updated: 3 });
  assert.equal((await api.remove(third.id, '"old"')).status, 412);
  assert.equal((await api.remove(third.id)).status, 204);
  assert.equal((await api.get(third.id)).error?.code, "NOT_FOUND");
  assert.deepEqual(body(await api.removeAll("completed"), 200), { deleted: 0 });
  assert.deepEqual(body(await api.removeAll("all"), 200), { deleted: 2 });
}

export function run(api: Api, withoutToken: Api): void {
  everyCall(api)
    .then(async () => refused(await withoutToken.list({}), 401, "UNAUTHORIZED"))
    .then(() => console.log("every call works"));
}
