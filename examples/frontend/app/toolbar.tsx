"use client";

import { useEffect, useRef, useState } from "react";
import { ORDERS, STATUSES, type Order, type View } from "./use-query";

interface Props {
  view: View;
  change: (changes: Partial<View>, isTyped?: boolean) => void;
}

/** Choose which tasks are shown, and in which order. */
export function Toolbar({ view, change }: Props) {
  return (
    <div className="toolbar">
      <Search q={view.q} onSearch={(q) => change({ q }, true)} />
      <fieldset>
        <legend className="hidden">Show</legend>
        {STATUSES.map((status) => (
          <label key={status}>
            <input
              type="radio"
              name="status"
              checked={view.status === status}
              onChange={() => change({ status })}
            />
            <span>{status}</span>
          </label>
        ))}
      </fieldset>
      <label className="inline">
        Sort by
        <select
          value={view.order}
          onChange={(event) => change({ order: event.target.value as Order })}
        >
          {Object.entries(ORDERS).map(([order, { label }]) => (
            <option key={order} value={order}>
              {label}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

const PAUSE = 300;

/** Search when the user pauses, not for every letter. */
function Search({ q, onSearch }: { q: string; onSearch: (q: string) => void }) {
  const [text, setText] = useState(q);
  const sent = useRef(q);

  // The Back button, or "Show all tasks", has changed it.
  useEffect(() => {
    if (q !== sent.current) setText(q);
    sent.current = q;
  }, [q]);

  useEffect(() => {
    if (text === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = text;
      onSearch(text);
    }, PAUSE);
    return () => clearTimeout(timer);
  });

  return (
    <label className="inline search">
      Search
      <input
        type="search"
        maxLength={200}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </label>
  );
}
