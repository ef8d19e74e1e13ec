// The types of openapi-typescript, and its own client openapi-fetch.
import createClient from "openapi-fetch";
import type { paths } from "./generated/openapi-typescript";
import { baseUrl, run, token, userId, type Api, type Reply } from "./scenario";

async function reply<T, E>(
  call: Promise<{ data?: T; error?: E; response: Response }>,
): Promise<Reply<T, E>> {
  const { data, error, response } = await call;
  return { status: response.status, headers: response.headers, data, error };
}

function api(headers: Record<string, string>): Api {
  const client = createClient<paths>({ baseUrl, headers });
  const tasks = { user_id: userId };
  const one = (id: number) => ({ ...tasks, task_id: id });
  return {
    live: () => reply(client.GET("/livez")),
    health: () => reply(client.GET("/health")),
    list: (query, ifNoneMatch) =>
      reply(
        client.GET("/api/{user_id}/tasks", {
          params: { path: tasks, query, header: { "If-None-Match": ifNoneMatch } },
        }),
      ),
    create: (body, key) =>
      reply(
        client.POST("/api/{user_id}/tasks", {
          params: { path: tasks, header: { "Idempotency-Key": key } },
          body,
        }),
      ),
    get: (id, ifNoneMatch) =>
      reply(
        client.GET("/api/{user_id}/tasks/{task_id}", {
          params: { path: one(id), header: { "If-None-Match": ifNoneMatch } },
        }),
      ),
    update: (id, body, ifMatch) =>
      reply(
        client.PUT("/api/{user_id}/tasks/{task_id}", {
          params: { path: one(id), header: { "If-Match": ifMatch } },
          body,
        }),
      ),
    toggle: (id, ifMatch) =>
      reply(
        client.PATCH("/api/{user_id}/tasks/{task_id}/complete", {
          params: { path: one(id), header: { "If-Match": ifMatch } },
        }),
      ),
    remove: (id, ifMatch) =>
      reply(
        client.DELETE("/api/{user_id}/tasks/{task_id}", {
          params: { path: one(id), header: { "If-Match": ifMatch } },
        }),
      ),
    updateAll: (completed, status) =>
      reply(
        client.PATCH("/api/{user_id}/tasks", {
          params: { path: tasks, query: { status } },
          body: { completed },
        }),
      ),
    removeAll: (status) =>
      reply(client.DELETE("/api/{user_id}/tasks", { params: { path: tasks, query: { status } } })),
  };
}

run(api({ Authorization: `Bearer ${token}` }), api({}));
