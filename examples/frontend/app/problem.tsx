/** Announce what went wrong, with a way to try again. */
export function Problem({ text, retry }: { text: string; retry?: () => void }) {
  return (
    <div className="problem">
      <p role="alert" className="error">
        {text}
      </p>
      {text && retry && (
        <button type="button" className="quiet" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function messageOf(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}
