"use client";

import { useState, type FormEvent } from "react";
import { authClient } from "@/lib/auth-client";

export function SignIn() {
  const [isNew, setIsNew] = useState(false);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const email = String(form.get("email"));
    const password = String(form.get("password"));
    setBusy(true);
    const answer = isNew
      ? await authClient.signUp.email({ email, password, name: String(form.get("name")) })
      : await authClient.signIn.email({ email, password });
    setBusy(false);
    setError(answer.error ? (answer.error.message ?? "That did not work. Please try again.") : "");
  }

  return (
    <main className="narrow">
      <h1>{isNew ? "Create your account" : "Welcome back"}</h1>
      <form className="card stack" onSubmit={submit}>
        {isNew && (
          <label>
            Name
            <input name="name" autoComplete="name" required />
          </label>
        )}
        <label>
          Email
          <input name="email" type="email" autoComplete="email" required />
        </label>
        <label>
          Password
          <input
            name="password"
            type="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            minLength={8}
            required
          />
        </label>
        <p role="alert" className="error">
          {error}
        </p>
        <button disabled={busy}>{isNew ? "Sign up" : "Sign in"}</button>
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
