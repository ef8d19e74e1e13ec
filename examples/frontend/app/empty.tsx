import type { View } from "./use-query";

interface Props {
  view: View;
  left: number;
  onShowAll: () => void;
}

/** Say why the list is empty. */
export function Empty({ view, left, onShowAll }: Props) {
  const isFiltered = view.q !== "" || view.status !== "all";
  return (
    <div className="empty">
      <p>{reason(view, left)}</p>
      {isFiltered && (
        <button className="quiet" onClick={onShowAll}>
          Show all tasks
        </button>
      )}
    </div>
  );
}

function reason({ q, status }: View, left: number): string {
  const which = status === "all" ? "" : `${status} `;
  if (q) return `No ${which}task contains “${q}”.`;
  if (status === "pending") return "Nothing is left to do.";
  if (status === "completed") return `Nothing is completed yet. ${left} left.`;
  return "You have no tasks yet. Add the first one above.";
}
