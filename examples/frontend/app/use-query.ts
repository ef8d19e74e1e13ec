"use client";

import { useSearchParams } from "next/navigation";
import { useCallback, useMemo } from "react";
import type { TaskQuery } from "@/lib/tasks";

export const STATUSES = ["all", "pending", "completed"] as const;
/** What the user can sort by, as it stands in the address. */
export const ORDERS = {
  "": { label: "newest", sort: "created", order: "desc" },
  oldest: { label: "oldest", sort: "created", order: "asc" },
  changed: { label: "last changed", sort: "updated", order: "desc" },
  title: { label: "title", sort: "title", order: "asc" },
} as const;

export type Order = keyof typeof ORDERS;
export interface View {
  status: (typeof STATUSES)[number];
  order: Order;
  q: string;
}

/** Return what the address says about the list, as a query of the API, and a way to change it. */
export function useView() {
  const params = useSearchParams();
  const view = useMemo<View>(() => {
    const order = params.get("order") ?? "";
    return {
      status: STATUSES.find((status) => status === params.get("status")) ?? "all",
      order: order in ORDERS ? (order as Order) : "",
      q: (params.get("q") ?? "").slice(0, 200),
    };
  }, [params]);
  const query = useMemo<TaskQuery>(() => {
    const { sort, order } = ORDERS[view.order];
    return { status: view.status, sort, order, q: view.q };
  }, [view]);

  /** While somebody types, the address is replaced: the Back button skips the letters. */
  const change = useCallback((changes: Partial<View>, isTyped = false) => {
    const next = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value && value !== "all") next.set(name, value);
      else next.delete(name);
    }
    const address = next.size ? `?${next}` : location.pathname;
    if (isTyped) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }, []);

  return { view, query, change };
}
