"use client";

import { useEffect, useRef } from "react";

const INTERVAL = 30_000;

/**
 * Call `load` at once, on focus, on reconnect, every 30 s while the page is visible, and when
 * another tab has changed something. Returns a function that tells the other tabs.
 */
export function useRefresh(load: () => Promise<void>): () => void {
  const channel = useRef<BroadcastChannel>(null);

  useEffect(() => {
    const visible = () => document.visibilityState === "visible" && void load();
    const others = new BroadcastChannel("tasks");
    channel.current = others;
    others.onmessage = () => void load();
    const timer = setInterval(visible, INTERVAL);
    window.addEventListener("focus", visible);
    window.addEventListener("online", visible);
    document.addEventListener("visibilitychange", visible);
    void load();
    return () => {
      others.close();
      clearInterval(timer);
      window.removeEventListener("focus", visible);
      window.removeEventListener("online", visible);
      document.removeEventListener("visibilitychange", visible);
    };
  }, [load]);

  return () => channel.current?.postMessage("changed");
}
