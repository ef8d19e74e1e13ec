import { createAuthClient } from "better-auth/react";
import { jwtClient } from "better-auth/client/plugins";

export const authClient = createAuthClient({ plugins: [jwtClient()] });

/** Get a token for the API from the session. */
export async function getToken(): Promise<string> {
  const { data, error } = await authClient.token();
  if (error) throw new Error("Your session has ended. Please sign in again.");
  return data.token;
}
