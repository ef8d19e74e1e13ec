import type { Metadata } from "next";
import type { ReactNode } from "react";
import { Session } from "./session";
import "./style.css";
import "./tasks.css";

export const metadata: Metadata = {
  title: "Tasks",
  description: "An example frontend of todo-backend",
};
// Read API_URL when the page is served, not when it is built.
export const dynamic = "force-dynamic";

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <Session apiUrl={process.env.API_URL ?? "http://localhost:8000"}>{children}</Session>
      </body>
    </html>
  );
}
