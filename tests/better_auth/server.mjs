// What the tests' Better Auth has beside its plugins: users in memory, and e-mails to be read.
import http from "node:http";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";

const emails = [];

export const options = {
  database: memoryAdapter({ user: [], session: [], account: [], verification: [], jwks: [] }),
  emailAndPassword: {
    enabled: true,
    sendResetPassword: async ({ token }) => void emails.push(token),
  },
  emailVerification: {
    sendOnSignUp: true,
    sendVerificationEmail: async ({ token }) => void emails.push(token),
  },
};

export function serve(auth) {
  const handle = toNodeHandler(auth);
  http
    .createServer((request, response) =>
      request.url === "/emails" ? response.end(JSON.stringify(emails)) : handle(request, response),
    )
    .listen(new URL(process.env.BETTER_AUTH_URL).port, "127.0.0.1", () => console.log("ready"));
}
