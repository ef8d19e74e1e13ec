"use client";

import { useState, type FormEvent } from "react";
import { authClient } from "@/lib/auth-client";

/** Sign in or up. `again` is the address of a user whose session has ended. */
export function SignIn({ again }: { again?: string }) {
  const [isNew, setIsNew] = useState(false);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (busy) return;
    const form = new FormData(event.currentTarget);
    const email = String(form.get("email"));
    const password = String(form.get("password"));
    setBusy(true);
    setError("");
    const answer = await (isNew
      ? authClient.signUp.email({ email, password, name: String(form.get("name")) })
      : authClient.signIn.email({ email, password })
    ).catch(() => ({ error: { message: "The sign-in cannot be reached. Please try again." } }));
    setBusy(false);
    setError(answer.error ? (answer.error.message ?? "That did not work. Please try again.") : "");
  }

  const action = isNew ? "Sign up" : "Sign in";
  return (
    <main className="narrow">
      <h1>{isNew ? "Create your account" : "Welcome back"}</h1>
      {again && (
        <p role="status">Your session has ended. Sign in again to go on: what you typed is kept.</p>
      )}
      <form className="card stack" onSubmit={submit}>
        {isNew && (
          <label>
            Name
            <input name="name" autoComplete="name" required />
          </label>
        )}
        <label>
          Email
          <input name="email" type="email" autoComplete="email" defaultValue={again} required />
        </label>
        <label>
          Password
          <input
            name="password"
            type="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            minLength={8}
            required
            autoFocus={Boolean(again)}
          />
        </label>
        <p role="alert" className="error">
          {error}
        </p>
        <button aria-disabled={busy}>{busy ? "One moment…" : action}</button>
      </form>
      <p className="center">
        {isNew ? "You have an account?" : "New here?"}{" "}
        <button
          className="link"
          onClick={() => {
            setIsNew(!isNew);
            setError("");
          }}
        >
          {isNew ? "Sign in" : "Create an account"}
        </button>
      </p>
    </main>
  );
}
