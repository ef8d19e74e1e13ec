// The SDK of @hey-api/openapi-ts, which checks requests and responses with its zod schemas.
import * as sdk from "./generated/hey-api";
import { createClient } from "./generated/hey-api/client";
import { baseUrl, run, token, userId, type Api, type Reply } from "./scenario";

async function reply<T, E>(
  call: Promise<{ data?: T; error?: E; response?: Response }>,
): Promise<Reply<T, E>> {
  const { data, error, response } = await call;
  if (!response) throw error;
  return { status: response.status, headers: response.headers, data, error };
}

function api(auth?: string): Api {
  const client = createClient({ baseUrl, auth });
  const tasks = { client, path: { user_id: userId } };
  const one = (id: number) => ({ client, path: { user_id: userId, task_id: id } });
  return {
    live: () => reply(sdk.checkLiveness({ client })),
    health: () => reply(sdk.checkHealth({ client })),
    list: (query, ifNoneMatch) =>
      reply(sdk.listTasks({ ...tasks, query, headers: { "If-None-Match": ifNoneMatch } })),
    create: (body, key) =>
      reply(sdk.createTask({ ...tasks, body, headers: { "Idempotency-Key": key } })),
    get: (id, ifNoneMatch) =>
      reply(sdk.getTask({ ...one(id), headers: { "If-None-Match": ifNoneMatch } })),
    update: (id, body, ifMatch) =>
      reply(sdk.updateTask({ ...one(id), body, headers: { "If-Match": ifMatch } })),
    toggle: (id, ifMatch) => reply(sdk.toggleTask({ ...one(id), headers: { "If-Match": ifMatch } })),
    remove: (id, ifMatch) => reply(sdk.deleteTask({ ...one(id), headers: { "If-Match": ifMatch } })),
    updateAll: (completed, status) =>
      reply(sdk.updateTasks({ ...tasks, body: { completed }, query: { status } })),
    removeAll: (status) => reply(sdk.deleteTasks({ ...tasks, query: { status } })),
  };
}

run(api(token), api());
