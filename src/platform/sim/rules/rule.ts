import type { Change, ApiServer } from "../api-server.ts";
import type { Mutation } from "../effect.ts";
import type { Scenario } from "../scenario.ts";
import type { Delivered } from "../surroundings.ts";
import type { Traffic } from "../traffic.ts";
import type { SimWorld } from "../world.ts";
import type { AuditRecord } from "../../../record/audit.ts";
import type { MonitoringSystem } from "../monitoring.ts";

/** What is truly so, whatever an operator takes it for. Rules look at nothing else. */
export interface Truth {
  readonly scenario: Scenario;
  /** The true time (ms since the epoch). */
  readonly now: number;
  readonly world: Pick<SimWorld, "workloads" | "nodes" | "namespaceMarked" | "pod" | "workload" | "poolOf">;
  readonly api: Pick<ApiServer, "get" | "list">;
  readonly traffic: Pick<Traffic, "errorRate" | "ownErrorRate">;
  readonly monitoring: Pick<MonitoringSystem, "firing">;
  /** The epoch of the Lease; undefined where nobody holds it. */
  readonly leaderEpoch: number | undefined;
  /** Everything that operators did to the cluster, oldest first. */
  readonly mutations: readonly Mutation[];
  /** What is durable on the audit trail, oldest first. */
  readonly records: readonly { readonly at: number; readonly record: AuditRecord }[];
  /** What has reached the person on call, oldest first. */
  readonly pages: readonly Delivered[];
  /** Of what that person has heard that it is over, or needs no answer any more, oldest first. */
  readonly resolved: readonly Delivered[];
  /** Writes of operators that took effect, to resources and to the cluster; renewals of the Lease are none. */
  readonly writes: readonly { readonly at: number; readonly what: string }[];
  /** Since when an operator has heard nothing of telemetry, true time in ms; undefined while it comes. */
  readonly telemetryGapSince: number | undefined;
  /** Until when there was an outage that the operators are still getting over (ms since the epoch). */
  readonly outageEndedAt: number | undefined;
  /** When the faults stopped (ms since the epoch); undefined while they last. */
  readonly faultsEndedAt: number | undefined;
}

/** What one rule looks at in one run. Each method returns what broke it, in a sentence. */
export interface Checks {
  /** A write to the cluster took effect. */
  mutated?(mutation: Mutation): string | undefined;
  /** A resource has changed. */
  stored?(change: Change): string | undefined;
  /** A page has arrived. */
  paged?(delivered: Delivered): string | undefined;
  /** Something may have changed: after every event. */
  checked?(): string | undefined;
  /** The run is over: faults have stopped, and everything had its time. */
  ended?(): readonly string[];
}

/** One of the design's rules. */
export interface Rule {
  /** As the design has it: `S1` to `S13`, `L1` to `L4`. */
  readonly name: string;
  /** The rule, and how it is asked here. */
  readonly doc: string;
  /** Begins to watch a run. */
  watch(truth: Truth): Checks;
}

/** A broken rule. */
export interface Violation {
  readonly rule: string;
  readonly message: string;
  /** Milliseconds since the beginning of the run. */
  readonly at: number;
}
