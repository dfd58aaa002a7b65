import { setTimeout as sleep } from "node:timers/promises";

const LOOK_EVERY_MS = 10;

/** Resolves when `isDone`, or after `ms`, or when `signal` aborts. */
export async function drained(isDone: () => boolean, ms: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + ms;
  while (!isDone() && performance.now() < deadline && !signal.aborted) await sleep(LOOK_EVERY_MS);
}

/** Leaves the failure of what goes on beside to those whom it concerns. */
export function quiet(work: Promise<unknown>): void {
  void work.catch(() => undefined);
}

/** `1 connection`, `2 connections`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
