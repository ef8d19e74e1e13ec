"use client";

import { useCallback, useEffect, useRef, useState } from "react";
import { newKey, ApiError, ConflictError, type NewTask, type Task } from "@/lib/tasks";
import { Empty } from "./empty";
import { NewTaskForm } from "./new-task";
import { Notice, type Message } from "./notice";
import { messageOf, Problem } from "./problem";
import { useApi } from "./session";
import { Summary } from "./summary";
import { TaskItem } from "./task-item";
import { Toolbar } from "./toolbar";
import { useTasks } from "./use-tasks";
import { useView } from "./use-query";

const PAGE = 100;
const LARGEST_PAGE = 1000;

interface Failure {
  text: string;
  retry?: () => void;
}

export default function Tasks() {
  const api = useApi();
  const { view, query, change: changeView } = useView();
  const [limit, setLimit] = useState(PAGE);
  const [message, setMessage] = useState<Message>();
  const [failure, setFailure] = useState<Failure>();
  const [running, setRunning] = useState("");
  // Tasks in an editor stay in sight, whatever the list says.
  const [held, setHeld] = useState<Task[]>([]);
  const list = useRef<HTMLUListElement>(null);
  const hadFocus = useRef(false);
  const onGone = useCallback(
    (task: Task) => setMessage({ text: `“${task.title}” was deleted elsewhere.` }),
    [],
  );
  const store = useTasks(query, limit, onGone);
  const { page, tasks, left, done } = store;

  useEffect(() => {
    document.title = left === undefined ? "Tasks" : `${left} left · Tasks`;
  });

  // The task that had the focus has left the list: the focus stays here, not at the page's top.
  useEffect(() => {
    if (hadFocus.current && document.activeElement === document.body) list.current?.focus();
  });

  /** Run one action at a time. When it fails, say so, and offer to try again. */
  async function attempt(name: string, action: () => Promise<void>) {
    if (running) return;
    setRunning(name);
    setFailure(undefined);
    try {
      await action();
      list.current?.focus();
    } catch (error) {
      setFailure({ text: messageOf(error), retry: () => void attempt(name, action) });
    } finally {
      setRunning("");
    }
  }

  async function add(task: NewTask, key: string) {
    const created = await store.change(() => api.create(task, key));
    const isHidden = view.status === "completed" || !contains(created, view.q);
    // A long list may have it far below.
    const isFar = Boolean(page?.next_cursor) && view.order !== "";
    if (!isHidden && !isFar) return setMessage(undefined);
    changeView({ status: "all", q: "", order: isFar ? "" : view.order });
    setMessage({ text: `Added “${created.title}”. The list shows all tasks again.` });
  }

  async function toggle(task: Task) {
    setFailure(undefined);
    try {
      await store.complete(task, !task.completed);
    } catch (error) {
      if (isNotFound(error)) onGone(task);
      else setFailure({ text: `“${task.title}”: ${messageOf(error)}`, retry: () => void toggle(task) });
    }
  }

  async function remove(task: Task) {
    setFailure(undefined);
    try {
      store.forget([task.id]);
      await store.change(() => api.remove(task));
      list.current?.focus();
      setMessage({ text: `Deleted “${task.title}”.`, undo: restore([task]) });
    } catch (error) {
      if (isNotFound(error)) onGone(task);
      else if (error instanceof ConflictError)
        setFailure({ text: `“${task.title}” was changed elsewhere, and is not deleted.` });
      else setFailure({ text: messageOf(error), retry: () => void remove(task) });
    }
  }

  const clearCompleted = () =>
    attempt("clear", async () => {
      const copies = await collect(api.all({ status: "completed" }));
      store.forget(copies.map(({ id }) => id));
      const count = await store.change(() => api.clearCompleted());
      setMessage({ text: `Deleted ${tasksIn(count)}.`, undo: restore(copies) });
    });

  const completeAll = () =>
    attempt("complete", async () => {
      const pending = await collect(api.all({ status: "pending" }));
      const count = await store.change(() => api.completeAll());
      const undo = () =>
        store.change(async () => {
          for (const task of pending) await store.setCompleted(task, false);
        });
      setMessage({ text: `Completed ${tasksIn(count)}.`, undo });
    });

  /** Return what creates the tasks again, each once, however often it is tried. */
  function restore(copies: Task[]) {
    const keys = copies.map(newKey);
    return () =>
      store.change(async () => {
        // The last one first: the newest is on top again.
        for (const [index, { title, description, completed }] of [...copies.entries()].reverse()) {
          const created = await api.create({ title, description }, keys[index]);
          if (completed) await store.setCompleted(created, true);
        }
      });
  }

  const undo = () =>
    attempt("undo", async () => {
      await message?.undo?.();
      setMessage(undefined);
    });

  const heldElsewhere = held.filter(({ id }) => !tasks?.some((task) => task.id === id));
  return (
    <>
      <h1>Tasks</h1>
      <NewTaskForm onAdd={add} />
      <Toolbar view={view} change={changeView} />
      <Problem {...(failure ?? { text: "" })} />
      <Problem
        text={store.problem && tasks ? `${store.problem} The list may be out of date.` : store.problem}
        retry={() => void store.load()}
      />
      <Notice
        message={message}
        busy={running === "undo"}
        onUndo={() => void undo()}
        onDismiss={() => {
          setMessage(undefined);
          list.current?.focus();
        }}
      />
      <Summary
        left={left}
        done={done}
        total={page?.total}
        busy={store.busy}
        isSearch={view.q !== ""}
        running={running}
        onCompleteAll={() => void completeAll()}
        onClearCompleted={() => void clearCompleted()}
      />
      <ul
        ref={list}
        tabIndex={-1}
        aria-label="Tasks"
        aria-busy={store.busy}
        onFocus={() => (hadFocus.current = true)}
        onBlur={(event) => (hadFocus.current = event.relatedTarget === null)}
      >
        {[...heldElsewhere, ...(tasks ?? [])].map((task) => (
          <TaskItem
            key={task.id}
            task={task}
            isSaving={store.isSaving(task)}
            onToggle={() => void toggle(task)}
            onDelete={() => remove(task)}
            onUpdate={(seen, changes) => store.change(() => api.update(seen, changes))}
            onAdd={(title, description) => store.change(() => api.create({ title, description }))}
            onHold={(isHeld) => {
              const others = held.filter(({ id }) => id !== task.id);
              setHeld(isHeld ? [...others, task] : others);
            }}
          />
        ))}
      </ul>
      {tasks?.length === 0 && (
        <Empty
          view={view}
          left={left ?? 0}
          onShowAll={() => {
            changeView({ status: "all", q: "" });
            list.current?.focus();
          }}
        />
      )}
      {page?.next_cursor && limit < LARGEST_PAGE && (
        <p className="center">
          <button className="quiet" onClick={() => setLimit(Math.min(limit + PAGE, LARGEST_PAGE))}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

const isNotFound = (error: unknown) => error instanceof ApiError && error.status === 404;
const tasksIn = (count: number) => (count === 1 ? "1 task" : `${count} tasks`);

/** Whether the task is surely a match: of other ways to write a letter only the API knows. */
function contains({ title, description }: Task, q: string): boolean {
  return `${title}\n${description ?? ""}`.toLowerCase().includes(q.toLowerCase());
}

async function collect(tasks: AsyncIterable<Task>): Promise<Task[]> {
  const collected = [];
  for await (const task of tasks) collected.push(task);
  return collected;
}
