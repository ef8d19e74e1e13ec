"use client";

import Link from "next/link";
import { useEffect, useRef, useState, type FormEvent } from "react";
import type { Task, TaskChanges } from "@/lib/tasks";

interface Props {
  task: Task;
  onToggle: () => void;
  /** Change the task. Returns the error message, or "" on success. */
  onUpdate: (changes: TaskChanges) => Promise<string>;
  onDelete: () => void;
}

export function TaskItem({ task, onToggle, onUpdate, onDelete }: Props) {
  const [editing, setEditing] = useState(false);
  const [error, setError] = useState("");
  const edit = useRef<HTMLButtonElement>(null);
  const wasEditing = useRef(false);

  // After editing, put the focus back on the Edit button.
  useEffect(() => {
    if (wasEditing.current && !editing) edit.current?.focus();
    wasEditing.current = editing;
  }, [editing]);

  async function save(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const title = String(data.get("title"));
    const description = String(data.get("description")) || null;
    const problem = await onUpdate({ title, description });
    setError(problem);
    if (!problem) setEditing(false);
  }

  if (editing) {
    return (
      <li>
        <form
          className="stack"
          onSubmit={save}
          onKeyDown={(event) => event.key === "Escape" && setEditing(false)}
        >
          <label>
            Title
            <input name="title" defaultValue={task.title} autoFocus />
          </label>
          <label>
            Description
            <textarea name="description" rows={2} defaultValue={task.description ?? ""} />
          </label>
          <p role="alert" className="error">
            {error}
          </p>
          <div className="actions">
            <button>Save</button>
            <button type="button" className="quiet" onClick={() => setEditing(false)}>
              Cancel
            </button>
          </div>
        </form>
      </li>
    );
  }
  return (
    <li className={task.completed ? "task done" : "task"}>
      <input
        type="checkbox"
        checked={task.completed}
        onChange={onToggle}
        aria-label={`${task.title}: done`}
      />
      <div className="text">
        <Link href={`/tasks/${task.id}`}>{task.title}</Link>
        {task.description && <p>{task.description}</p>}
      </div>
      <div className="actions">
        <button
          ref={edit}
          className="quiet"
          aria-label={`Edit ${task.title}`}
          onClick={() => {
            setError("");
            setEditing(true);
          }}
        >
          Edit
        </button>
        <button className="quiet danger" aria-label={`Delete ${task.title}`} onClick={onDelete}>
          Delete
        </button>
      </div>
    </li>
  );
}
