"use client";

import { useCallback, useRef, useState } from "react";
import { ApiError, ConflictError, type Task, type TaskPage, type TaskQuery } from "@/lib/tasks";
import { messageOf } from "./problem";
import { useApi } from "./session";
import { useRefresh } from "./use-refresh";

interface Shown {
  query: TaskQuery;
  page: TaskPage;
  /** How many tasks are pending and completed, whatever is shown. */
  left: number;
  done: number;
}

/** Load the list, keep it fresh, and change it. `onGone` hears of tasks deleted elsewhere. */
export function useTasks(query: TaskQuery, limit: number, onGone: (task: Task) => void) {
  const api = useApi();
  const [shown, setShown] = useState<Shown>();
  const [busy, setBusy] = useState(true);
  const [problem, setProblem] = useState("");
  // What the user sees already, while the API does not know it yet.
  const [optimistic, setOptimistic] = useState<ReadonlyMap<number, boolean>>(new Map());
  const latest = useRef<Shown>(undefined);
  const newest = useRef(0);
  const deletedHere = useRef(new Set<number>());

  const show = useCallback((next: Shown) => {
    latest.current = next;
    setShown(next);
  }, []);

  const load = useCallback(async () => {
    const asked = ++newest.current;
    setBusy(true);
    try {
      const [page, pending, completed] = await Promise.all([
        api.page({ ...query, limit }),
        api.page({ status: "pending", limit: 1 }),
        api.page({ status: "completed", limit: 1 }),
      ]);
      // Drop a response that arrives after a newer request was sent.
      if (asked !== newest.current) return;
      const before = latest.current;
      show({ query, page, left: pending.total, done: completed.total });
      setProblem("");
      if (before?.query === query) void report(before.page.tasks, page.tasks);
    } catch (error) {
      if (asked === newest.current) setProblem(messageOf(error));
    } finally {
      if (asked === newest.current) setBusy(false);
    }

    /** Find out which of the tasks that left the list exist no more. */
    async function report(before: Task[], now: Task[]) {
      const ids = new Set(now.map((task) => task.id));
      const missing = before.filter(({ id }) => !ids.has(id) && !deletedHere.current.has(id));
      for (const task of missing.slice(0, 3)) {
        await api.get(task.id).catch((error) => {
          if (error instanceof ApiError && error.status === 404) onGone(task);
        });
      }
    }
  }, [api, query, limit, show, onGone]);

  const tellOthers = useRefresh(load);

  /** Do something that changes the list, and load it again. */
  async function change<Result>(action: () => Promise<Result>): Promise<Result> {
    try {
      const result = await action();
      tellOthers();
      return result;
    } finally {
      await load();
    }
  }

  /** Set one task's status. The page shows it at once, and takes it back if it fails. */
  async function complete(task: Task, completed: boolean): Promise<void> {
    if (optimistic.has(task.id)) return;
    setOptimistic((current) => new Map(current).set(task.id, completed));
    try {
      await change(async () => {
        const changed = await setCompleted(task, completed);
        const current = latest.current;
        if (!current) return;
        const tasks = current.page.tasks.map((each) => (each.id === changed.id ? changed : each));
        show({ ...current, page: { ...current.page, tasks } });
      });
    } finally {
      setOptimistic((current) => new Map([...current].filter(([id]) => id !== task.id)));
    }
  }

  /** Whatever else has changed in the task meanwhile stays as it is. */
  async function setCompleted(task: Task, completed: boolean): Promise<Task> {
    try {
      return await api.update(task, { completed });
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      if (error.current.completed === completed) return error.current;
      return api.update(error.current, { completed });
    }
  }

  const tasks = shown?.page.tasks.map((task) => {
    const completed = optimistic.get(task.id);
    return completed === undefined ? task : { ...task, completed };
  });
  return {
    ...shown,
    tasks,
    busy,
    problem,
    isSaving: (task: Task) => optimistic.has(task.id),
    load,
    change,
    complete,
    setCompleted,
    /** Say nothing about these: the user has deleted them here. */
    forget: (ids: number[]) => ids.forEach((id) => deletedHere.current.add(id)),
  };
}
