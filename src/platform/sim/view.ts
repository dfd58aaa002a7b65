import type { TargetRef } from "../../api/meta.ts";
import type { Workload } from "../../ports/platform.ts";
import type { SimProcess } from "./process.ts";
import type { Delivery } from "./watch-stream.ts";

/** How long nothing may be heard of the API server before what is known counts as out of date (ms): as the Kubernetes platform has it. */
const MAX_AGE_MS = 180_000;
/** How long news that a wait was cut off from are waited for (ms): as the Kubernetes platform has it. */
const OWED_MS = 300_000;

interface Shown {
  readonly workload: Workload;
  readonly version: number;
}

/** The workloads as one operator's caches have them. */
export class OperatorView {
  readonly #process: SimProcess;
  readonly #delivery: Delivery;
  readonly #shown = new Map<string, Shown>();
  readonly #listeners = new Set<(workload: TargetRef) => void>();
  /** When the newest news of each workload arrive, and of any (monotonic ms). */
  readonly #lastOf = new Map<string, number>();
  #last = 0;
  #list: readonly Workload[] | undefined;
  #heardAt: number;
  #onArrival: (() => void)[] = [];
  /** What waits of `reached` were cut off from, by workload. */
  readonly #owed = new Map<string, { readonly version: number; readonly since: number }>();

  constructor(process: SimProcess, delivery: Delivery) {
    this.#process = process;
    this.#delivery = delivery;
    this.#heardAt = process.monotonic();
  }

  workloads(): readonly Workload[] {
    this.#list ??= [...this.#shown.values()].map(({ workload }) => workload);
    return this.#list;
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** A workload has changed: the news set out. */
  changed(workload: { readonly uid: string; readonly version: number }, described: Workload): void {
    const now = this.#process.monotonic();
    const { version, uid } = workload;
    for (const delay of this.#delivery.delays("Workload")) {
      const after = this.#delivery.mayReorder() ? (this.#lastOf.get(uid) ?? 0) : this.#last;
      const at = Math.max(now + delay, after + 0.001);
      this.#lastOf.set(uid, at);
      this.#last = Math.max(this.#last, at);
      this.#process.after(at - now, () => this.#arrive(described, version));
    }
  }

  /** Everything is listed anew. */
  listed(all: readonly { readonly described: Workload; readonly version: number }[]): void {
    for (const { described, version } of all) this.#arrive(described, version);
  }

  /** The API server has proven that nothing else has changed. */
  heard(): void {
    this.#heardAt = this.#process.monotonic();
  }

  staleness(): string | undefined {
    if (this.ageMs() > MAX_AGE_MS)
      return `nothing was heard of the API server for more than ${MAX_AGE_MS / 1000} s: what is known of the cluster may be out of date`;
    for (const [uid, { version, since }] of this.#owed) {
      if (this.versionOf(uid) < version && this.#process.monotonic() - since < OWED_MS)
        return "what was written has not been heard of again: what is known of the cluster is out of date";
      this.#owed.delete(uid);
    }
    return undefined;
  }

  /** How long ago it was heard of the API server (ms). */
  ageMs(): number {
    return this.#process.monotonic() - this.#heardAt;
  }

  /** The version of a workload that is known; 0 where none is. */
  versionOf(uid: string): number {
    return this.#shown.get(uid)?.version ?? 0;
  }

  /** Resolves when a workload is known as it was at `version`; rejects when `signal` aborts first. */
  async reached(uid: string, version: number, signal: AbortSignal): Promise<void> {
    while (this.versionOf(uid) < version) {
      if (signal.aborted) {
        this.#owed.set(uid, { version, since: this.#process.monotonic() });
        throw signal.reason;
      }
      await new Promise<void>((resolve) => {
        this.#onArrival.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  #arrive(described: Workload, version: number): void {
    this.heard();
    const { uid } = described.ref;
    if (version < this.versionOf(uid)) return;
    this.#shown.set(uid, { workload: described, version });
    this.#list = undefined;
    for (const resolve of this.#onArrival.splice(0)) resolve();
    for (const listener of this.#listeners) listener(described.ref);
  }
}
