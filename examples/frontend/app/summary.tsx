"use client";

import { useEffect, useState } from "react";

interface Props {
  left?: number;
  done?: number;
  total?: number;
  busy: boolean;
  isSearch: boolean;
  running: string;
  onCompleteAll: () => void;
  onClearCompleted: () => void;
}

/** Say how many tasks there are, and change many at once. */
export function Summary({ left, done, total, busy, isSearch, running, ...on }: Props) {
  const isSlow = useDelay(busy);
  const isKnown = left !== undefined && done !== undefined;
  const counts = isKnown ? `${left} left, ${done} completed` : "";
  return (
    <div className="summary">
      <p role="status" aria-label="Counts">
        {isSearch && isKnown ? `${total} found. ${counts}` : counts}
        {isSlow && <span className="hint">{isKnown ? " · Updating…" : "Loading your tasks…"}</span>}
      </p>
      {/* They are about all tasks: nobody expects that in the middle of a search. */}
      {!isSearch && (
        <div className="actions">
          {Boolean(left) && (
            <button className="quiet" aria-disabled={Boolean(running)} onClick={on.onCompleteAll}>
              {running === "complete" ? "Completing…" : "Complete all"}
            </button>
          )}
          {Boolean(done) && (
            <button
              className="quiet danger"
              aria-disabled={Boolean(running)}
              onClick={on.onClearCompleted}
            >
              {running === "clear" ? "Clearing…" : "Clear completed"}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Become true when something takes longer than a moment: nothing flickers. */
function useDelay(busy: boolean): boolean {
  const [isSlow, setIsSlow] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setIsSlow(busy), busy ? 400 : 0);
    return () => clearTimeout(timer);
  }, [busy]);
  return isSlow && busy;
}
