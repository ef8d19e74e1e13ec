// The same contract in Node.js: Fastify with jose and postgres.js.
import cluster from "node:cluster";
import Fastify from "fastify";
import { jwtVerify } from "jose";
import postgres from "postgres";

const { BETTER_AUTH_SECRET, DATABASE_URL, LOG_LEVEL, PORT, WEB_CONCURRENCY } = process.env;
const workers = Number(WEB_CONCURRENCY ?? 1);

// A CryptoKey: jose would import bytes anew for each token.
const secret = new TextEncoder().encode(BETTER_AUTH_SECRET);
const hmac = { name: "HMAC", hash: "SHA-256" };
const key = await crypto.subtle.importKey("raw", secret, hmac, false, ["verify"]);
const required = { algorithms: ["HS256"], requiredClaims: ["sub", "exp"] };

// Timestamps as text, for a Date would lose the microseconds.
const parse = (text) => `${text.replace(" ", "T")}Z`;
const timestamp = { to: 1114, from: [1114], serialize: (moment) => moment, parse };
// As many connections as the service has.
const sql = postgres(DATABASE_URL, { max: 10, types: { timestamp } });
const COLUMNS = sql`id, user_id, title, description, completed, created_at, updated_at`;
const NOW = sql`timezone('utc', clock_timestamp())`;
const STATUS = { all: sql``, pending: sql`AND NOT completed`, completed: sql`AND completed` };
const ORDER = { created: sql`created_at DESC, id DESC`, title: sql`lower(title), id` };

const object = (properties, ...required) => ({ type: "object", properties, required });
const string = { type: "string" };
const title = { type: "string", minLength: 1, maxLength: 200, pattern: "\\S" };
const description = { type: ["string", "null"], maxLength: 1000 };
const completed = { type: "boolean" };
const times = { created_at: string, updated_at: string };
const id = { type: "integer" };
const task = object({ id, user_id: string, title: string, description, completed, ...times });
const taskList = object({ tasks: { type: "array", items: task }, count: { type: "integer" } });
const query = object({
  status: { enum: Object.keys(STATUS), default: "all" },
  sort: { enum: Object.keys(ORDER), default: "created" },
});
const params = object({ id: { type: "string", pattern: "^-?[0-9]+$" } });
const oneTask = { params, response: { 200: task } };

class ApiError extends Error {
  constructor(statusCode, code, detail) {
    super(detail);
    Object.assign(this, { statusCode, code });
  }
}

const app = Fastify({
  logger: { level: LOG_LEVEL },
  disableRequestLogging: true, // two lines; one is written below, as the service does
  genReqId: () => crypto.randomUUID(),
  ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
});

app.addHook("onRequest", async (request, reply) => {
  reply.header("X-Request-ID", request.id);
  const token = /^Bearer (.+)$/i.exec(request.headers.authorization)?.[1] ?? "";
  const { payload } = await jwtVerify(token, key, required).catch(() => {
    throw new ApiError(401, "UNAUTHORIZED", "Invalid or expired authentication token");
  });
  if (payload.sub !== request.params.user)
    throw new ApiError(403, "FORBIDDEN", "Access denied: user_id mismatch");
});

app.addHook("onResponse", async ({ log, method, url, params }, reply) => {
  log.info({ user: params.user, method, url, status: reply.statusCode, ms: reply.elapsedTime });
});

app.setErrorHandler((error, request, reply) => {
  if (error.validation) error = new ApiError(400, "VALIDATION_ERROR", error.message);
  if (!(error instanceof ApiError)) {
    request.log.error(error);
    error = new ApiError(error.statusCode ?? 500, "SERVER_ERROR", "Internal server error");
  }
  reply.code(error.statusCode).send({ detail: error.message, code: error.code });
});

async function found([row], id) {
  if (row) return row;
  const [other] = await sql`SELECT 1 FROM tasks WHERE id = ${id}`;
  if (other) throw new ApiError(403, "FORBIDDEN", "Access denied: task belongs to another user");
  throw new ApiError(404, "NOT_FOUND", `Task with id ${id} not found`);
}

const owned = ({ user, id }) => sql`WHERE id = ${id} AND user_id = ${user}`;

app.get(
  "/api/:user/tasks",
  { schema: { querystring: query, response: { 200: taskList } } },
  async ({ params, query: { status, sort } }) => {
    const tasks = await sql`SELECT ${COLUMNS} FROM tasks
      WHERE user_id = ${params.user} ${STATUS[status]} ORDER BY ${ORDER[sort]}`;
    return { tasks, count: tasks.length };
  },
);

app.post(
  "/api/:user/tasks",
  { schema: { body: object({ title, description }, "title"), response: { 201: task } } },
  async ({ params, body }, reply) => {
    const [row] = await sql`INSERT INTO tasks (user_id, title, description)
      VALUES (${params.user}, ${body.title}, ${body.description ?? null}) RETURNING ${COLUMNS}`;
    reply.code(201);
    return row;
  },
);

const getTask = async ({ params }) =>
  found(await sql`SELECT ${COLUMNS} FROM tasks ${owned(params)}`, params.id);
app.get("/api/:user/tasks/:id", { schema: oneTask }, getTask);

app.put(
  "/api/:user/tasks/:id",
  { schema: { ...oneTask, body: object({ title, description, completed }) } },
  async (request) => {
    const { params, body } = request;
    const sent = ["title", "description", "completed"].filter((name) => name in body);
    if (!sent.length) return getTask(request);
    const rows = await sql`UPDATE tasks SET ${sql(body, sent)}, updated_at = ${NOW}
      ${owned(params)} RETURNING ${COLUMNS}`;
    return found(rows, params.id);
  },
);

app.patch("/api/:user/tasks/:id/complete", { schema: oneTask }, async ({ params }) => {
  const rows = await sql`UPDATE tasks SET completed = NOT completed, updated_at = ${NOW}
    ${owned(params)} RETURNING ${COLUMNS}`;
  return found(rows, params.id);
});

app.delete("/api/:user/tasks/:id", { schema: { params } }, async ({ params }, reply) => {
  await found(await sql`DELETE FROM tasks ${owned(params)} RETURNING id`, params.id);
  reply.code(204);
});

if (cluster.isPrimary && workers > 1) for (let n = 0; n < workers; n += 1) cluster.fork();
else await app.listen({ port: Number(PORT) });
