"use client";

import { createContext, useContext, useMemo, type ReactNode } from "react";
import { authClient, getToken } from "@/lib/auth-client";
import { tasksApi, type TasksApi } from "@/lib/tasks";
import { SignIn } from "./sign-in";

const Api = createContext<TasksApi | null>(null);

/** Return the API client of the signed-in user. */
export function useApi(): TasksApi {
  const api = useContext(Api);
  if (!api) throw new Error("useApi is for components inside Session");
  return api;
}

/** Show the children to signed-in users, and the sign-in form to everybody else. */
export function Session({ apiUrl, children }: { apiUrl: string; children: ReactNode }) {
  const { data, isPending } = authClient.useSession();
  const userId = data?.user.id;
  const api = useMemo(() => userId && tasksApi({ url: apiUrl, userId, getToken }), [apiUrl, userId]);

  if (isPending) return <main aria-busy="true" />;
  if (!api) return <SignIn />;
  return (
    <Api value={api}>
      <header>
        <span>{data?.user.name}</span>
        <button className="quiet" onClick={() => authClient.signOut()}>
          Sign out
        </button>
      </header>
      <main>{children}</main>
    </Api>
  );
}
