"use client";

import Link from "next/link";
import { useSearchParams } from "next/navigation";
import { useEffect, useRef, useState } from "react";
import type { Task, TaskChanges } from "@/lib/tasks";
import { TaskEditor } from "./task-editor";

interface Props {
  task: Task;
  isSaving: boolean;
  onToggle: () => void;
  onDelete: () => Promise<void>;
  /** Change a version of the task, and load the list again. */
  onUpdate: (seen: Task, changes: TaskChanges) => Promise<unknown>;
  /** Create the task again that was deleted elsewhere during the edit. */
  onAdd: (title: string, description: string | null) => Promise<unknown>;
  /** Hold the task in the list, whatever happens to it, or let it go. */
  onHold: (held: boolean) => void;
}

export function TaskItem({ task, isSaving, onToggle, onDelete, onUpdate, onAdd, onHold }: Props) {
  const [editing, setEditing] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const edit = useRef<HTMLButtonElement>(null);
  const wasEditing = useRef(false);
  const params = useSearchParams();

  // After editing, put the focus back on the Edit button.
  useEffect(() => {
    if (wasEditing.current && !editing) edit.current?.focus();
    wasEditing.current = editing;
  }, [editing]);

  function open(isOpen: boolean) {
    setEditing(isOpen);
    onHold(isOpen);
  }

  async function remove() {
    if (deleting) return;
    setDeleting(true);
    await onDelete();
    setDeleting(false);
  }

  if (editing) {
    return (
      <li>
        <TaskEditor task={task} onUpdate={onUpdate} onAdd={onAdd} onClose={() => open(false)} />
      </li>
    );
  }
  return (
    <li className={task.completed ? "task done" : "task"} aria-busy={isSaving || deleting}>
      <input
        type="checkbox"
        checked={task.completed}
        onChange={onToggle}
        aria-label={`${task.title}: done`}
      />
      <div className="text">
        {/* Not a request for each task in the list. */}
        <Link href={`/tasks/${task.id}${params.size ? `?${params}` : ""}`} prefetch={false}>
          {task.title}
        </Link>
        {task.description && <p>{task.description}</p>}
        {isSaving && <p className="saving">Saving…</p>}
      </div>
      <div className="actions">
        <button
          ref={edit}
          className="quiet"
          aria-label={`Edit ${task.title}`}
          onClick={() => open(true)}
        >
          Edit
        </button>
        <button
          className="quiet danger"
          aria-label={`Delete ${task.title}`}
          aria-disabled={deleting}
          onClick={() => void remove()}
        >
          {deleting ? "Deleting…" : "Delete"}
        </button>
      </div>
    </li>
  );
}
