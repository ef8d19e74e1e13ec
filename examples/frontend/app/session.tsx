"use client";

import {
  createContext,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  type ReactNode,
} from "react";
import { authClient, getToken } from "@/lib/auth-client";
import { SessionEnded, tasksApi, type TasksApi } from "@/lib/tasks";
import { Problem } from "./problem";
import { SignIn } from "./sign-in";

const Api = createContext<TasksApi | null>(null);

/** Return the API client of the signed-in user. */
export function useApi(): TasksApi {
  const api = useContext(Api);
  if (!api) throw new Error("useApi is for components inside Session");
  return api;
}

/**
 * Show the children to signed-in users, and the sign-in form to everybody else.
 *
 * When a session has ended, the children stay mounted, but hidden: after the sign-in, what was typed
 * is still there, and requests that waited for a token go on.
 */
export function Session({ apiUrl, children }: { apiUrl: string; children: ReactNode }) {
  const session = authClient.useSession();
  const signedIn = session.data?.user;
  const [user, setUser] = useState(signedIn);
  const [leaving, setLeaving] = useState(false);
  const [known, setKnown] = useState(false);
  const [problem, setProblem] = useState("");
  const focused = useRef<HTMLElement>(null);
  const { ended, token } = useRenewal(signedIn?.id, session.data?.session.id);
  const userId = user?.id;
  const api = useMemo(
    () => userId && tasksApi({ url: apiUrl, userId, getToken: () => token(userId) }),
    [apiUrl, userId, token],
  );
  const locked = !signedIn || ended;

  if (!session.isPending && !known) setKnown(true);
  if (signedIn && signedIn.id !== userId) setUser(signedIn);
  if (!signedIn && leaving) {
    setUser(undefined);
    setLeaving(false);
  }

  useEffect(() => {
    if (locked) document.title = "Sign in · Tasks";
    else if (focused.current?.isConnected) focused.current.focus();
  }, [locked]);

  async function signOut() {
    if (leaving) return;
    setLeaving(true);
    const { error } = await authClient.signOut().catch((error: Error) => ({ error }));
    if (!error) return;
    setLeaving(false);
    setProblem("You are still signed in: the sign-out did not work.");
  }

  if (!known) return <main aria-busy="true" className="loading" />;
  if (!user && session.error) {
    return (
      <main className="narrow">
        <h1>Tasks</h1>
        <Problem text="The sign-in cannot be reached." retry={() => void session.refetch()} />
      </main>
    );
  }
  return (
    <>
      {locked && <SignIn again={user?.email} />}
      {api && (
        // Another user gets a page of their own.
        <div
          key={userId}
          hidden={locked}
          onFocus={(event) => (focused.current = event.target as HTMLElement)}
        >
          <header>
            <span className="name">{user?.name}</span>
            <button
              className="quiet"
              aria-disabled={leaving}
              onClick={() => void signOut()}
            >
              {leaving ? "Signing out…" : "Sign out"}
            </button>
          </header>
          <main>
            <Problem text={problem} />
            <Api value={api}>{children}</Api>
          </main>
        </div>
      )}
    </>
  );
}

/** Return a way to tokens that, when the session has ended, waits until the user is back. */
function useRenewal(userId?: string, sessionId?: string) {
  const [ended, setEnded] = useState(false);
  const waiting = useRef<((userId: string) => void)[]>([]);

  useEffect(() => {
    if (!userId || !sessionId) return;
    setEnded(false);
    waiting.current.splice(0).forEach((goOn) => goOn(userId));
  }, [userId, sessionId]);

  const token = useMemo(
    () =>
      async function token(owner: string): Promise<string> {
        try {
          return await getToken();
        } catch (error) {
          if (!(error instanceof SessionEnded)) throw error;
          setEnded(true);
          const next = await new Promise<string>((goOn) => waiting.current.push(goOn));
          if (next !== owner) throw error;
          return token(owner);
        }
      },
    [],
  );
  return { ended, token };
}
