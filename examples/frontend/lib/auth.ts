import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { SignJWT } from "jose";
import { Pool } from "pg";

// Users have a database of their own, beside the one of the tasks.
const database = new Pool({ connectionString: process.env.USERS_DATABASE_URL, max: 5 });
// Without a listener, a restart of the database would end this process.
database.on("error", (error) => console.error(`The users' database: ${error.message}`));

const expirationTime = process.env.TOKEN_LIFETIME ?? "15m";
const secret = new TextEncoder().encode(process.env.BETTER_AUTH_SECRET);

/** Sign tokens with Better Auth's own keys, which it publishes. */
const withOwnKeys = () => jwt({ jwt: { expirationTime } });

/** Sign tokens with the secret that this page shares with the API. */
const withSharedSecret = () =>
  jwt({
    // The plugin requires both settings, but with `sign` it uses neither.
    jwks: { remoteUrl: "https://unused.invalid/jwks.json", keyPairConfig: { alg: "ES256" } },
    jwt: {
      expirationTime,
      definePayload: ({ user }) => ({ email: user.email, name: user.name }),
      sign: (claims) =>
        new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(secret),
    },
  });

export const auth = betterAuth({
  database,
  emailAndPassword: { enabled: true },
  plugins: [process.env.TOKENS === "shared-secret" ? withSharedSecret() : withOwnKeys()],
});
