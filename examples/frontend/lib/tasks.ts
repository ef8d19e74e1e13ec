// A typed client for the API. `npm run types` generates its types from the OpenAPI document.
import type { components, operations } from "./openapi";

export type Task = components["schemas"]["TaskResponse"];
export type NewTask = components["schemas"]["TaskCreate"];
export type TaskChanges = components["schemas"]["TaskUpdate"];
export type TaskQuery = NonNullable<operations["list_tasks"]["parameters"]["query"]>;
export type TasksApi = ReturnType<typeof tasksApi>;

/** An error from the API. `message` is a sentence for people, `code` a constant for programs. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
  ) {
    super(message);
  }
}

interface Options {
  url: string;
  userId: string;
  getToken: () => Promise<string>;
}

/** The API client of one user. It keeps its token, and gets a new one when the API answers 401. */
export function tasksApi({ url, userId, getToken }: Options) {
  let token: Promise<string> | undefined;

  async function call<Answer>(method: string, path: string, body?: object): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      const used = (token ??= getToken());
      const renew = () => {
        // Another call may have renewed it already.
        if (token === used) token = undefined;
      };
      let bearer: string;
      try {
        bearer = await used;
      } catch (error) {
        renew();
        throw error;
      }
      const response = await fetch(`${url}/api/${encodeURIComponent(userId)}/tasks${path}`, {
        method,
        headers: { Authorization: `Bearer ${bearer}`, "Content-Type": "application/json" },
        body: body && JSON.stringify(body),
      }).catch(() => {
        throw new Error("The server cannot be reached. Please try again.");
      });
      if (response.status === 401) renew();
      if (response.status === 401 && attempt === 1) continue;
      if (response.status === 204) return undefined as Answer;
      const answer = await response.json();
      if (!response.ok) throw new ApiError(answer.detail, response.status, answer.code);
      return answer;
    }
  }

  return {
    list: (query: TaskQuery = {}) =>
      call<components["schemas"]["TaskListResponse"]>("GET", `?${new URLSearchParams(query)}`),
    get: (id: number) => call<Task>("GET", `/${id}`),
    create: (task: NewTask) => call<Task>("POST", "", task),
    update: (id: number, changes: TaskChanges) => call<Task>("PUT", `/${id}`, changes),
    toggle: (id: number) => call<Task>("PATCH", `/${id}/complete`),
    remove: (id: number) => call<void>("DELETE", `/${id}`),
  };
}
