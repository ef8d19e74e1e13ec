"use client";

import { useEffect, useRef, useState, type FormEvent } from "react";
import { ApiError, ConflictError, type Task, type TaskChanges } from "@/lib/tasks";
import { messageOf } from "./problem";

interface Props {
  task: Task;
  onUpdate: (seen: Task, changes: TaskChanges) => Promise<unknown>;
  onAdd: (title: string, description: string | null) => Promise<unknown>;
  onClose: () => void;
}

/** Edit the version of a task that was there when the editor opened. */
export function TaskEditor({ task, onUpdate, onAdd, onClose }: Props) {
  const [seen, setSeen] = useState(task);
  const [title, setTitle] = useState(task.title);
  const [description, setDescription] = useState(task.description ?? "");
  const [theirs, setTheirs] = useState<Task>();
  const [isGone, setIsGone] = useState(false);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const conflict = useRef<HTMLElement>(null);

  useEffect(() => {
    if (theirs) conflict.current?.focus();
  }, [theirs]);

  async function save(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError("");
    try {
      const changes = { title, description: description || null };
      await (isGone ? onAdd(title, changes.description) : update(seen, changes));
      onClose();
    } catch (problem) {
      setBusy(false);
      if (problem instanceof ConflictError) {
        setTheirs(problem.current);
        // Saved again, it replaces the version that the user has now seen.
        setSeen(problem.current);
      } else if (problem instanceof ApiError && problem.status === 404) {
        setTheirs(undefined);
        setIsGone(true);
      } else setError(messageOf(problem));
    }
  }

  async function update(version: Task, changes: TaskChanges): Promise<unknown> {
    try {
      return await onUpdate(version, changes);
    } catch (problem) {
      if (!(problem instanceof ConflictError)) throw problem;
      const { current } = problem;
      const isSameText =
        current.title === version.title && current.description === version.description;
      // Completed elsewhere, for example: the two changes do not touch each other.
      if (!isSameText) throw problem;
      return onUpdate(current, changes);
    }
  }

  return (
    <form
      className="stack"
      aria-label={`Edit ${task.title}`}
      onSubmit={(event) => void save(event)}
      onKeyDown={(event) => event.key === "Escape" && onClose()}
    >
      {theirs && (
        <section ref={conflict} tabIndex={-1} className="conflict" aria-label="Edit conflict">
          <p className="error">Somebody changed this task while you were editing it.</p>
          <h2>Their version</h2>
          <p className="version">{theirs.title}</p>
          {theirs.description && <p className="version">{theirs.description}</p>}
          <p className="hint">{theirs.completed ? "Completed" : "Pending"}</p>
          <h2>Your version</h2>
        </section>
      )}
      <label>
        Title
        <input value={title} onChange={(event) => setTitle(event.target.value)} autoFocus />
      </label>
      <label>
        Description
        <textarea
          rows={2}
          value={description}
          onChange={(event) => setDescription(event.target.value)}
        />
      </label>
      <p role="alert" className="error">
        {isGone ? "This task was deleted elsewhere. You can add your version as a new task." : error}
      </p>
      <div className="actions">
        <button aria-disabled={busy}>{label(busy, isGone, Boolean(theirs))}</button>
        <button type="button" className="quiet" onClick={onClose}>
          {theirs ? "Keep theirs" : "Cancel"}
        </button>
      </div>
    </form>
  );
}

function label(busy: boolean, isGone: boolean, isConflict: boolean): string {
  if (busy) return "Saving…";
  if (isGone) return "Add as a new task";
  return isConflict ? "Save yours" : "Save";
}
