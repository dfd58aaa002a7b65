import type { ServiceDependency } from "../api/dependency.ts";
import type { TargetRef } from "../api/meta.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import { CallGraph } from "../orient/call-graph.ts";
import { liveCause, type LiveCause } from "../orient/live-cause.ts";
import type { Clock } from "../ports/clock.ts";
import type { Workload } from "../ports/platform.ts";

/** How long what was found about a service holds (ms): data comes in spans as long. */
const HOLDS_MS = 10_000;
/** The graph is made anew after this long (ms) even if nothing came or went: sources of the same calls change. */
const GRAPH_HOLDS_MS = 60_000;
/** Most searches in a second: in a storm the others wait for their turn. */
const MAX_A_SECOND = 50;
/** Most answers that are kept, and most onsets. */
const MAX_KEPT = 5_000;
/** A signal that nobody has asked about for this long begins anew when it fires again (ms). */
const ONSET_HOLDS_MS = 120_000;

/** The service graph of this moment, and what a search on it has found: made once for all who want to know. */
export class Causes {
  readonly #telemetry: Telemetry;
  readonly #clock: Clock;
  #graph: { readonly of: readonly unknown[]; readonly at: number; readonly graph: CallGraph } | undefined;
  readonly #found = new Map<string, { readonly at: number; readonly cause: LiveCause | undefined }>();
  readonly #onsets = new Map<string, { readonly onset: number; readonly at: number }>();
  #second = { at: -Infinity, searches: 0 };

  constructor(telemetry: Telemetry, clock: Clock) {
    this.#telemetry = telemetry;
    this.#clock = clock;
  }

  /** The graph of what is declared and was seen. */
  graph(dependencies: readonly ServiceDependency[], workloads: readonly Workload[]): CallGraph {
    const of = [workloads, this.#telemetry.graph?.version, ...dependencies];
    const at = this.#clock.monotonic();
    const known = this.#graph;
    const isSame = known?.of.length === of.length && known.of.every((each, i) => each === of[i]);
    if (known !== undefined && isSame && at - known.at < GRAPH_HOLDS_MS) return known.graph;
    const graph = new CallGraph(dependencies, this.#telemetry.graph?.calls() ?? [], workloads);
    this.#graph = { of, at, graph };
    return graph;
  }

  /**
   * When the symptom of a signal began (ms): the earliest that was said of it for as long as it is asked about. A condition that
   * looks at the last 30 s says that it began 30 s ago, however long it has held; what held long before would then look usual.
   */
  onset(key: string, startsAt: number): number {
    const at = this.#clock.monotonic();
    const known = this.#onsets.get(key);
    const onset = known !== undefined && at - known.at < ONSET_HOLDS_MS ? Math.min(known.onset, startsAt) : startsAt;
    this.#onsets.delete(key);
    if (this.#onsets.size >= MAX_KEPT)
      for (const [other, { at: then }] of this.#onsets)
        if (at - then >= ONSET_HOLDS_MS || this.#onsets.size >= MAX_KEPT) this.#onsets.delete(other);
    this.#onsets.set(key, { onset, at });
    return onset;
  }

  /** What statistics say about a workload whose symptom began at `onset` (ms); `Later` where too many were asked about in this second. */
  search(workload: TargetRef, graph: CallGraph, onset: number): LiveCause | "Later" | undefined {
    const node = graph.of(workload);
    if (node === undefined || graph.callees(node).length === 0) return undefined;
    const key = `${node.key}|${onset}`;
    const at = this.#clock.monotonic();
    const known = this.#found.get(key);
    if (known !== undefined && at - known.at < HOLDS_MS) return known.cause;
    if (at - this.#second.at >= 1_000) this.#second = { at, searches: 0 };
    if (this.#second.searches >= MAX_A_SECOND) return "Later";
    this.#second.searches += 1;
    const cause = liveCause(node, graph, this.#telemetry, onset, this.#clock.now());
    this.#found.delete(key);
    if (this.#found.size >= MAX_KEPT) for (const [other, { at: then }] of this.#found) if (at - then >= HOLDS_MS) this.#found.delete(other);
    if (this.#found.size < MAX_KEPT) this.#found.set(key, { at, cause });
    return cause;
  }
}
