import { request } from "node:http";
import { createInterface } from "node:readline";
import { NightshiftError } from "../../src/api/errors.ts";
import type { Layout } from "./layout.ts";
import type { Progress } from "./toolchain.ts";

/** A component and how it is: `died` is one that ended although nobody stopped it. */
export interface ComponentStatus {
  readonly name: string;
  readonly state: "running" | "paused" | "stopped" | "died";
  /** How often it was started. */
  readonly starts: number;
}

export interface ClusterStatus {
  readonly ready: boolean;
  readonly failure?: string;
  /** What happened since the start. */
  readonly lines: readonly string[];
  readonly components: readonly ComponentStatus[];
}

/** Asks a cluster's supervisor for something. */
export function ask<T>(layout: Layout, path: string, body: unknown = {}): Promise<T> {
  return new Promise((done, fail) => {
    const outgoing = request({ socketPath: layout.control, path, method: "POST" }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      answer.once("error", fail);
      answer.once("end", () => {
        if (answer.statusCode === 200) return done(JSON.parse(text) as T);
        fail(new NightshiftError("CLUSTER_CONTROL", `the supervisor could not do ${path}: ${text}`, { where: layout.dir }));
      });
    });
    outgoing.once("error", (cause) => fail(new NightshiftError("CLUSTER_GONE", "the cluster is gone", { where: layout.dir, cause })));
    outgoing.end(JSON.stringify(body));
  });
}

interface Event {
  readonly line?: string;
  readonly ready?: boolean;
  readonly failure?: string;
}

/** Follows the start of a cluster to its end; resolves with the failure, or with undefined once it is ready. */
export function follow(layout: Layout, progress: Progress): Promise<string | undefined> {
  return new Promise((done, fail) => {
    const outgoing = request({ socketPath: layout.control, path: "/events" }, (answer) => {
      let outcome: Event | undefined;
      const reader = createInterface({ input: answer });
      reader.on("line", (text) => {
        const event = JSON.parse(text) as Event;
        if (event.line === undefined) outcome = event;
        else progress(event.line);
      });
      reader.once("close", () => done(outcome === undefined ? "the supervisor ended" : outcome.failure));
      answer.once("error", () => undefined);
    });
    outgoing.once("error", fail);
    outgoing.end();
  });
}
