import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { closeSync, openSync, writeSync } from "node:fs";

/**
 * What is wrong with a process of the shop:
 * `leak` (payments: receipts are kept for ever), `deadlock` (payments: two locks taken in opposite order),
 * `errors` (any service: it answers 500), `mute` (any service: its metrics stop).
 */
export type Fault = "leak" | "deadlock" | "errors" | "mute";
const FAULTS: readonly string[] = ["leak", "deadlock", "errors", "mute"] satisfies Fault[];

/** The faults of this process, from its environment. */
export interface Faults {
  has(fault: Fault): boolean;
  /** Milliseconds from the first request until `deadlock`, `errors` and `mute` begin. */
  readonly afterMs: number;
}

/** How long a process waits for whoever knows the canary (ms). */
const CANARY_MS = 60_000;

/**
 * `SHOP_FAULT` names the faults, by comma; `SHOP_FAULT_AFTER` says after how many seconds of traffic they begin.
 * With `SHOP_CANARY` only the first process that starts has them: the canary of a bad release; whoever comes later, its own
 * replacement included, runs the good release. It is the path of a file that the first one creates, or, where processes
 * share no files, the address of one that remembers (`POST`, 201 for the first, 200 for the others).
 */
export async function faultsOf(env: NodeJS.ProcessEnv = process.env): Promise<Faults> {
  const named = (env["SHOP_FAULT"] ?? "").split(",").filter((name) => name !== "");
  for (const name of named) if (!FAULTS.includes(name)) throw new Error(`SHOP_FAULT: ${name} is no fault; there are ${FAULTS.join(", ")}`);
  const seconds = Number(env["SHOP_FAULT_AFTER"] ?? 0);
  if (!Number.isFinite(seconds) || seconds < 0) throw new Error("SHOP_FAULT_AFTER: expected seconds, such as 3");
  const canary = env["SHOP_CANARY"];
  const mine = named.length > 0 && (canary === undefined || (await isFirst(canary))) ? new Set(named) : new Set<string>();
  return { has: (fault) => mine.has(fault), afterMs: seconds * 1_000 };
}

/** Whether this process is the first: `O_EXCL` lets exactly one create the file. */
async function isFirst(path: string): Promise<boolean> {
  if (/^https?:/.test(path)) return isFirstBy(path);
  try {
    const file = openSync(path, "wx");
    writeSync(file, JSON.stringify({ pid: process.pid, resource: process.env["OTEL_RESOURCE_ATTRIBUTES"] ?? "" }));
    closeSync(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function isFirstBy(url: string): Promise<boolean> {
  const body = JSON.stringify({ id: randomUUID() });
  for (const began = performance.now(); ; await sleep(500)) {
    try {
      const { status } = await fetch(url, { method: "POST", body, signal: AbortSignal.timeout(2_000) });
      if (status === 201 || status === 200) return status === 201;
    } catch (error) {
      if (performance.now() - began > CANARY_MS) throw error;
    }
  }
}
