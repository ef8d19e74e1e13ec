import { createAuthClient } from "better-auth/react";
import { jwtClient } from "better-auth/client/plugins";
import { ConnectionError, SessionEnded } from "./http";

export const authClient = createAuthClient({ plugins: [jwtClient()] });

/** Get a token for the API from the session. */
export async function getToken(): Promise<string> {
  const { data, error } = await authClient
    .token()
    .catch(() => ({ data: null, error: { status: 0 } }));
  if (data) return data.token;
  if (error?.status === 401) throw new SessionEnded("Your session has ended. Please sign in again.");
  throw new ConnectionError("The sign-in cannot be reached. Please try again.");
}
