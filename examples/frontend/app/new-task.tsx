"use client";

import { useRef, useState, type FormEvent } from "react";
import { newKey, type NewTask } from "@/lib/tasks";
import { messageOf } from "./problem";

/** The form for a new task. `onAdd` creates it under the key. */
export function NewTaskForm({ onAdd }: { onAdd: (task: NewTask, key: string) => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  // The same task, tried again, is the same operation: it must not be there twice.
  const intent = useRef({ key: "", payload: "" });

  async function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (busy) return;
    const form = event.currentTarget;
    const data = new FormData(form);
    const title = String(data.get("title"));
    const task = { title, description: String(data.get("description")) || null };
    const payload = JSON.stringify(task);
    if (payload !== intent.current.payload) intent.current = { key: newKey(), payload };
    setBusy(true);
    setError("");
    try {
      await onAdd(task, intent.current.key);
      intent.current = { key: "", payload: "" };
      // Somebody who is already typing the next one keeps it.
      if (String(new FormData(form).get("title")) === title) form.reset();
    } catch (problem) {
      setError(messageOf(problem));
    } finally {
      setBusy(false);
    }
    if (form.contains(document.activeElement)) form.querySelector("input")?.focus();
  }

  return (
    <form className="card stack" onSubmit={(event) => void add(event)} aria-label="New task">
      <label>
        New task
        <input name="title" placeholder="What is to be done?" autoComplete="off" />
      </label>
      <label>
        Description <span className="hint">optional</span>
        <textarea name="description" rows={2} />
      </label>
      <p role="alert" className="error">
        {error}
      </p>
      <button aria-disabled={busy}>{busy ? "Adding…" : "Add task"}</button>
    </form>
  );
}
