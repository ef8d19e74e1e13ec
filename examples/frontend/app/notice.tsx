/** What has just happened, and a way back. */
export interface Message {
  text: string;
  undo?: () => Promise<void>;
}

interface Props {
  message?: Message;
  busy: boolean;
  onUndo: () => void;
  onDismiss: () => void;
}

/** Show the message until the user dismisses it, or something else happens. */
export function Notice({ message, busy, onUndo, onDismiss }: Props) {
  return (
    <div className={message ? "notice" : undefined}>
      <p role="status">{message?.text}</p>
      {message?.undo && (
        <button className="quiet" aria-disabled={busy} onClick={onUndo}>
          {busy ? "Undoing…" : "Undo"}
        </button>
      )}
      {message && (
        <button className="quiet" aria-label="Dismiss" onClick={onDismiss}>
          ✕
        </button>
      )}
    </div>
  );
}
