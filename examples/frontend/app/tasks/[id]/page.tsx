"use client";

import Link from "next/link";
import { useParams } from "next/navigation";
import { useEffect, useState } from "react";
import { useApi } from "@/app/session";
import type { Task } from "@/lib/tasks";

/** Show one task at its own address, or the API's error: another user's task, for example. */
export default function TaskPage() {
  const api = useApi();
  const { id } = useParams<{ id: string }>();
  const [task, setTask] = useState<Task>();
  const [error, setError] = useState("");

  useEffect(() => {
    api.get(Number(id)).then(setTask, (problem: Error) => setError(problem.message));
  }, [api, id]);

  return (
    <>
      <p>
        <Link href="/">← All tasks</Link>
      </p>
      <p role="alert" className="error">
        {error}
      </p>
      {task && (
        <article className="card">
          <h1>{task.title}</h1>
          {task.description && <p className="description">{task.description}</p>}
          <dl>
            <dt>Status</dt>
            <dd>{task.completed ? "completed" : "pending"}</dd>
            <dt>Created</dt>
            <dd>{new Date(task.created_at).toLocaleString()}</dd>
            <dt>Changed</dt>
            <dd>{new Date(task.updated_at).toLocaleString()}</dd>
          </dl>
        </article>
      )}
    </>
  );
}
