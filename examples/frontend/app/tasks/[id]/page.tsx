"use client";

import Link from "next/link";
import { useParams, useSearchParams } from "next/navigation";
import { useCallback, useState } from "react";
import { messageOf, Problem } from "@/app/problem";
import { useApi } from "@/app/session";
import { useRefresh } from "@/app/use-refresh";
import { ApiError, type Task } from "@/lib/tasks";

/** Show one task at its own address, or the API's error: another user's task, for example. */
export default function TaskPage() {
  const api = useApi();
  const { id } = useParams<{ id: string }>();
  const list = useSearchParams();
  const [task, setTask] = useState<Task>();
  const [problem, setProblem] = useState("");
  const [canRetry, setCanRetry] = useState(false);

  const load = useCallback(async () => {
    try {
      const found = await api.get(Number(id));
      setTask(found);
      setProblem("");
      document.title = `${found.title} · Tasks`;
    } catch (error) {
      // Deleted elsewhere, or not this user's: what is shown is no more.
      const isRefused = error instanceof ApiError && error.status < 500;
      if (isRefused) setTask(undefined);
      setCanRetry(!isRefused);
      setProblem(messageOf(error));
    }
  }, [api, id]);
  useRefresh(load);

  return (
    <>
      <p>
        <Link href={list.size ? `/?${list}` : "/"}>← All tasks</Link>
      </p>
      <Problem text={problem} retry={canRetry ? () => void load() : undefined} />
      {!task && <h1>Task</h1>}
      {!task && !problem && <p role="status">Loading the task…</p>}
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
