"use client";

import { useCallback, useEffect, useRef, useState, type FormEvent } from "react";
import type { Task, TaskQuery } from "@/lib/tasks";
import { useApi } from "./session";
import { TaskItem } from "./task-item";

const STATUSES = ["all", "pending", "completed"] as const;

export default function Tasks() {
  const api = useApi();
  const [query, setQuery] = useState<TaskQuery>({ status: "all", sort: "created" });
  const [tasks, setTasks] = useState<Task[]>();
  const [addError, setAddError] = useState("");
  const [listError, setListError] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const newest = useRef(0);

  const load = useCallback(async () => {
    const asked = ++newest.current;
    const answer = await api.list(query);
    // Drop a response that arrives after a newer request was sent.
    if (asked === newest.current) setTasks(answer.tasks);
  }, [api, query]);

  /** Run an action and reload the list. Returns the error message, or "" on success. */
  const attempt = useCallback(
    async (action?: () => Promise<unknown>): Promise<string> => {
      try {
        await action?.();
        await load();
        return "";
      } catch (problem) {
        return problem instanceof Error ? problem.message : String(problem);
      }
    },
    [load],
  );

  useEffect(() => {
    void attempt().then(setListError);
  }, [attempt]);

  async function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    const title = String(data.get("title"));
    const description = String(data.get("description")) || null;
    const error = await attempt(() => api.create({ title, description }));
    setAddError(error);
    if (!error) form.reset();
    form.querySelector("input")?.focus();
  }

  async function remove(task: Task) {
    const error = await attempt(() => api.remove(task.id));
    setListError(error);
    if (!error) list.current?.focus();
  }

  return (
    <>
      <h1>Tasks</h1>
      <form className="card stack" onSubmit={add}>
        <label>
          New task
          <input name="title" placeholder="What is to be done?" autoComplete="off" />
        </label>
        <label>
          Description <span className="hint">optional</span>
          <textarea name="description" rows={2} />
        </label>
        <p role="alert" className="error">
          {addError}
        </p>
        <button>Add task</button>
      </form>

      <div className="toolbar">
        <fieldset>
          <legend className="hidden">Show</legend>
          {STATUSES.map((status) => (
            <label key={status}>
              <input
                type="radio"
                name="status"
                checked={query.status === status}
                onChange={() => setQuery({ ...query, status })}
              />
              <span>{status}</span>
            </label>
          ))}
        </fieldset>
        <label className="inline">
          Sort by
          <select
            value={query.sort}
            onChange={(event) =>
              setQuery({ ...query, sort: event.target.value as TaskQuery["sort"] })
            }
          >
            <option value="created">newest</option>
            <option value="title">title</option>
          </select>
        </label>
      </div>

      <p role="alert" className="error">
        {listError}
      </p>
      <p className="hidden" role="status">
        {tasks && `${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}`}
      </p>
      <ul ref={list} tabIndex={-1} aria-label="Tasks" aria-busy={!tasks}>
        {tasks?.map((task) => (
          <TaskItem
            key={task.id}
            task={task}
            onToggle={() => void attempt(() => api.toggle(task.id)).then(setListError)}
            onUpdate={(changes) => attempt(() => api.update(task.id, changes))}
            onDelete={() => remove(task)}
          />
        ))}
      </ul>
      {tasks?.length === 0 && <p className="empty">Nothing here.</p>}
    </>
  );
}
