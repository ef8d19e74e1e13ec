// The functions of orval for fetch, and its zod schemas for what they send and get.
import * as client from "./generated/orval/client";
import * as zod from "./generated/orval/zod";
import { run, token, userId, type Api, type Failure, type Reply } from "./scenario";

type Response<T> = { headers: Headers } & (
  | { status: 200 | 201 | 204; data: T }
  | { status: 304; data: void }
  | { status: 400 | 401 | 403 | 404 | 408 | 412 | 413 | 422 | 429 | 431 | 500; data: Failure }
);

async function reply<T>(
  call: Promise<Response<T>>,
  schema?: { parse: (value: unknown) => T },
): Promise<Reply<T>> {
  const { headers, status, data } = await call;
  if (status === 304) return { headers, status };
  if (status < 300) return { headers, status, data: schema ? schema.parse(data) : (data as T) };
  return { headers, status, error: data as Failure };
}

function api(authorization: Record<string, string>): Api {
  const options = (name?: string, value?: string): RequestInit => ({
    headers: name && value !== undefined ? { ...authorization, [name]: value } : authorization,
  });
  return {
    live: () => reply(client.checkLiveness(), zod.checkLivenessResponse),
    health: async () => {
      const { headers, status, data } = await client.checkHealth();
      return status === 200
        ? { headers, status, data: zod.checkHealthResponse.parse(data) }
        : { headers, status, error: data };
    },
    list: (query, ifNoneMatch) =>
      reply(
        client.listTasks(
          userId,
          zod.listTasksQueryParams.parse(query),
          options("If-None-Match", ifNoneMatch),
        ),
        zod.listTasksResponse,
      ),
    create: (body, key) =>
      reply(
        client.createTask(
          userId,
          zod.createTaskBody.parse(body),
          options(
            "Idempotency-Key",
            zod.createTaskHeader.parse({ "Idempotency-Key": key })["Idempotency-Key"],
          ),
        ),
      ),
    get: (id, ifNoneMatch) =>
      reply(client.getTask(userId, id, options("If-None-Match", ifNoneMatch)), zod.getTaskResponse),
    update: (id, body, ifMatch) =>
      reply(
        client.updateTask(
          userId,
          id,
          zod.updateTaskBody.parse(body),
          options("If-Match", zod.updateTaskHeader.parse({ "If-Match": ifMatch })["If-Match"]),
        ),
        zod.updateTaskResponse,
      ),
    toggle: (id, ifMatch) =>
      reply(client.toggleTask(userId, id, options("If-Match", ifMatch)), zod.toggleTaskResponse),
    remove: (id, ifMatch) => reply(client.deleteTask(userId, id, options("If-Match", ifMatch))),
    updateAll: (completed, status) =>
      reply(
        client.updateTasks(userId, zod.updateTasksBody.parse({ completed }), { status }, options()),
        zod.updateTasksResponse,
      ),
    removeAll: (status) =>
      reply(client.deleteTasks(userId, { status }, options()), zod.deleteTasksResponse),
  };
}

run(api({ Authorization: `Bearer ${token}` }), api({}));
