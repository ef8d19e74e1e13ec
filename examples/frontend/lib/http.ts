// Requests to the API: the token, retries, ETags and errors.

/** An error from the API. `message` is a sentence for people, `code` a constant for programs. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    /** The `ETag` header: with a 412, the version that is there now. */
    readonly etag?: string,
    /** An earlier attempt may have been executed: its answer did not arrive. */
    readonly repeated = false,
  ) {
    super(message);
  }
}

/** No answer arrived. A write may have been executed or not. */
export class ConnectionError extends Error {}

/** The user has to sign in again. */
export class SessionEnded extends Error {}

export interface Request {
  method?: string;
  path: string;
  body?: object;
  headers?: Record<string, string>;
  /** Sending it twice has the effect of sending it once. */
  repeatable?: boolean;
}

const ATTEMPTS = 4;
const TIMEOUT = 30_000;
// A person who waits longer than this wants to know why.
const LONGEST_WAIT = 20_000;
const KEPT_ANSWERS = 50;
// 429: refused before anything was done. The others: it is open what was done.
const OVERLOADED = 429;
const RETRIED = [500, 502, 503, 504];

/** Return a function that sends requests below `base`, with a token that it renews. */
export function transport(base: string, getToken: () => Promise<string>) {
  let token: Promise<string> | undefined;
  const kept = new Map<string, { etag: string; body: unknown }>();

  async function bearer() {
    const used = (token ??= getToken());
    // Another request may have renewed it already.
    const renew = () => {
      if (token === used) token = undefined;
    };
    return { value: await used.catch((error) => (renew(), Promise.reject(error))), renew };
  }

  async function attempt({ method = "GET", path, body, headers }: Request, value: string) {
    const etag = method === "GET" ? kept.get(path)?.etag : undefined;
    const sent: Record<string, string> = { Authorization: `Bearer ${value}`, ...headers };
    if (body) sent["Content-Type"] = "application/json";
    if (etag) sent["If-None-Match"] = etag;
    const signal = AbortSignal.timeout(TIMEOUT);
    try {
      const response = await fetch(base + path, {
        method,
        headers: sent,
        body: body && JSON.stringify(body),
        signal,
      });
      const empty = response.status === 204 || response.status === 304;
      // The body is part of the answer: the connection may end in the middle of it.
      return { response, text: empty ? "" : await response.text() };
    } catch {
      return undefined;
    }
  }

  return async function send<Body>(request: Request): Promise<Body> {
    const { method = "GET", path } = request;
    const repeatable = request.repeatable || method === "GET";
    let repeated = false;
    let renewed = false;
    for (let count = 1; ; ) {
      const { value, renew } = await bearer();
      const answer = await attempt(request, value);
      const status = answer?.response.status;
      if (status === 401) renew();
      if (status === 401 && !renewed) {
        renewed = true;
        continue;
      }
      const unknown = !status || RETRIED.includes(status);
      if (status === OVERLOADED || (unknown && repeatable)) {
        const wait = delay(count, answer?.response.headers.get("Retry-After"));
        if (count < ATTEMPTS && wait <= LONGEST_WAIT) {
          repeated ||= unknown;
          count += 1;
          await new Promise((resolve) => setTimeout(resolve, wait));
          continue;
        }
      }
      if (!answer) throw new ConnectionError("The server cannot be reached. Please try again.");
      const { response, text } = answer;
      const etag = response.headers.get("ETag") ?? undefined;
      if (!response.ok && response.status !== 304) throw errorOf(response, text, etag, repeated);
      return read<Body>(method, path, response.status, text, etag);
    }
  };

  function read<Body>(method: string, path: string, status: number, text: string, etag?: string) {
    // The same object as before: React renders nothing again.
    if (status === 304) return kept.get(path)?.body as Body;
    const body = (text ? JSON.parse(text) : undefined) as Body;
    if (method === "GET" && etag) {
      kept.delete(path);
      kept.set(path, { etag, body });
      const [oldest] = kept.keys();
      if (kept.size > KEPT_ANSWERS && oldest !== undefined) kept.delete(oldest);
    }
    return body;
  }
}

/** Return the milliseconds to wait before the next attempt. */
function delay(count: number, retryAfter?: string | null): number {
  // Not all clients at the same moment.
  const backoff = 300 * 2 ** (count - 1) * (0.5 + Math.random());
  if (!retryAfter) return backoff;
  const seconds = Number(retryAfter);
  const wait = Number.isNaN(seconds) ? Date.parse(retryAfter) - Date.now() : seconds * 1000;
  return Math.max(backoff, wait || 0);
}

function errorOf({ status }: Response, text: string, etag: string | undefined, repeated: boolean) {
  try {
    const { detail, code } = JSON.parse(text);
    return new ApiError(detail, status, code, etag, repeated);
  } catch {
    // A proxy in between answers in its own format.
    const message = "The server has a problem. Please try again.";
    return new ApiError(message, status, "UNKNOWN", etag, repeated);
  }
}
