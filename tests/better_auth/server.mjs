// What the tests' Better Auth has beside its plugins: users in memory, and e-mails to be read.
import http from "node:http";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";

const emails = [];

const tables = ["user", "session", "account", "verification", "jwks", "apikey", "deviceCode"];
for (const name of ["Client", "Resource", "ClientResource", "AccessToken", "RefreshToken", "Consent"])
  tables.push(`oauth${name}`);

export const options = {
  database: memoryAdapter(Object.fromEntries(tables.map((name) => [name, []]))),
  emailAndPassword: {
    enabled: true,
    sendResetPassword: async ({ token }) => void emails.push(token),
  },
  emailVerification: {
    sendOnSignUp: true,
    sendVerificationEmail: async ({ token }) => void emails.push(token),
  },
};

/** Serve Better Auth, and beside it the frontend's own routes by their paths. */
export function serve(auth, routes = {}) {
  const handle = toNodeHandler(auth);
  http
    .createServer((request, response) => {
      if (request.url === "/emails") return response.end(JSON.stringify(emails));
      const route = routes[request.url];
      return route ? toNodeHandler(route)(request, response) : handle(request, response);
    })
    .listen(new URL(process.env.BETTER_AUTH_URL).port, "127.0.0.1", () => console.log("ready"));
}
