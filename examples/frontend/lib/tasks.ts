// A typed client for the API. `npm run types` generates its types from the OpenAPI document.
import { ApiError, transport } from "./http";
import type { components, operations } from "./openapi";

export { ApiError, ConnectionError, SessionEnded } from "./http";

type Schemas = components["schemas"];
type Query = NonNullable<operations["list_tasks"]["parameters"]["query"]>;

export type Task = Schemas["TaskResponse"];
export type NewTask = Schemas["TaskCreate"];
export type TaskChanges = Schemas["TaskUpdate"];
export type TaskList = Schemas["TaskListResponse"];
export type TaskPage = Schemas["TaskPageResponse"];
export type TaskStatus = NonNullable<Query["status"]>;
/** Which tasks, and in which order. */
export type TaskQuery = Omit<Query, "limit" | "cursor">;
export type PageQuery = TaskQuery & { limit: number; cursor?: string };
export type TasksApi = ReturnType<typeof tasksApi>;

/** Somebody else changed the task: nothing was written. `current` is the version that is there. */
export class ConflictError extends ApiError {
  constructor(
    error: ApiError,
    readonly current: Task,
  ) {
    super(error.message, error.status, error.code, etagOf(current));
  }
}

/** Return the ETag of a task, which any item of a list has too. */
export const etagOf = (task: Task) => `"${task.updated_at}"`;

/** Return a new idempotency key. (`crypto.randomUUID` exists only on https and localhost.) */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");

interface Options {
  url: string;
  userId: string;
  getToken: () => Promise<string>;
}

/**
 * The API client of one user.
 *
 * It keeps its token and renews it. It sends again what may be sent again: reads, creations, and
 * changes of a version. A change is conditional when it gets a task rather than an id: it fails
 * with ConflictError if the task is not the one that you have seen.
 */
export function tasksApi({ url, userId, getToken }: Options) {
  const send = transport(`${url}/api/${encodeURIComponent(userId)}/tasks`, getToken);

  const get = (id: number) => send<Task>({ path: `/${id}` });

  /** Change one task. `isDone` tells whether a task is as this change leaves it. */
  async function change(
    target: Task | number,
    request: { method: string; path?: string; body?: object },
    isDone: (current: Task) => boolean,
  ): Promise<Task> {
    const seen = typeof target === "number" ? undefined : target;
    const id = seen?.id ?? (target as number);
    try {
      return await send<Task>({
        ...request,
        path: `/${id}${request.path ?? ""}`,
        headers: seen && { "If-Match": etagOf(seen) },
        repeatable: seen !== undefined,
      });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) throw error;
      const current = await get(id);
      // An attempt whose answer was lost made this version.
      if (error.repeated && isDone(current)) return current;
      throw new ConflictError(error, current);
    }
  }

  const page = (query: PageQuery) => send<TaskPage>({ path: search(query) });

  return {
    /** Get the whole list. */
    list: (query: TaskQuery = {}) => send<TaskList>({ path: search(query) }),
    /** Get one page of the list; `next_cursor` leads to the next one. */
    page,
    /** Get task after task, a page at a time: `for await (const task of api.all())`. */
    async *all(query: TaskQuery = {}): AsyncGenerator<Task, void> {
      let cursor: string | null | undefined;
      do {
        const { tasks, next_cursor } = await page({ ...query, limit: 100, ...(cursor && { cursor }) });
        yield* tasks;
        cursor = next_cursor;
      } while (cursor);
    },
    get,
    /** Create a task. To try again later without a second task, pass the same key again. */
    create: (task: NewTask, key = newKey()) =>
      send<Task>({
        method: "POST",
        path: "",
        body: task,
        headers: { "Idempotency-Key": key },
        repeatable: true,
      }),
    /** Change the fields that are there; the others stay. */
    update: (target: Task | number, changes: TaskChanges) =>
      change(target, { method: "PUT", body: changes }, (current) =>
        Object.entries(changes).every(
          ([field, value]) => value === undefined || current[field as keyof Task] === value,
        ),
      ),
    toggle: (target: Task | number) =>
      change(
        target,
        { method: "PATCH", path: "/complete" },
        ({ completed }) => typeof target !== "number" && completed !== target.completed,
      ),
    async remove(target: Task | number): Promise<void> {
      try {
        await change(target, { method: "DELETE" }, () => false);
      } catch (error) {
        // An attempt whose answer was lost has deleted it.
        if (!(error instanceof ApiError && error.status === 404 && error.repeated)) throw error;
      }
    },
    /** Complete all tasks. Returns how many changed. */
    completeAll: () => setAll(true),
    /** Make all tasks pending. Returns how many changed. */
    reopenAll: () => setAll(false),
    /** Delete the completed tasks. Returns how many there were. */
    clearCompleted: async () =>
      (await send<Schemas["TasksDeletedResponse"]>({ method: "DELETE", path: "?status=completed" }))
        .deleted,
  };

  async function setAll(completed: boolean): Promise<number> {
    const body = { completed };
    return (await send<Schemas["TasksUpdatedResponse"]>({ method: "PATCH", path: "", body })).updated;
  }
}

function search(query: Partial<PageQuery>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}
