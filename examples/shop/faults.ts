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

/**
 * `SHOP_FAULT` names the faults, by comma; `SHOP_FAULT_AFTER` says after how many seconds of traffic they begin.
 * With `SHOP_CANARY`, the path of a file, only the first process that starts has them: the canary of a bad release.
 * It creates the file, and whoever finds it, its own replacement included, runs the good release. The file says who it was.
 */
export function faultsOf(env: NodeJS.ProcessEnv = process.env): Faults {
  const named = (env["SHOP_FAULT"] ?? "").split(",").filter((name) => name !== "");
  for (const name of named) if (!FAULTS.includes(name)) throw new Error(`SHOP_FAULT: ${name} is no fault; there are ${FAULTS.join(", ")}`);
  const seconds = Number(env["SHOP_FAULT_AFTER"] ?? 0);
  if (!Number.isFinite(seconds) || seconds < 0) throw new Error("SHOP_FAULT_AFTER: expected seconds, such as 3");
  const canary = env["SHOP_CANARY"];
  const mine = named.length > 0 && (canary === undefined || isFirst(canary)) ? new Set(named) : new Set<string>();
  return { has: (fault) => mine.has(fault), afterMs: seconds * 1_000 };
}

/** Whether this process is the one that created the file: `O_EXCL` lets exactly one win. */
function isFirst(path: string): boolean {
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
