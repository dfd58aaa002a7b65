import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Artifact } from "../src/api/remediation.ts";

/** What is read at the time of a scrape. */
export interface AgentReadings {
  /** Captures that run or wait. */
  readonly running: number;
  /** Memory limits that a capture raised and that are not yet what they were. */
  readonly raisedLimits: number;
  /** Bytes and number of artifacts that this node keeps, as of the last look. */
  readonly keptBytes: number;
  readonly kept: number;
  /** Whether Remediations are watched without a break. */
  readonly isSynced: boolean;
}

/** The agent's metrics about itself, in a registry of its own, for Prometheus. */
export class AgentMetrics {
  readonly registry = new Registry();
  readonly #captures: Counter<"type" | "result">;
  readonly #seconds: Histogram<"type">;
  readonly #deleted: Counter<"reason">;
  #readings: () => AgentReadings | undefined = () => undefined;

  constructor(version: string) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    const gauge = (name: string, help: string, read: (readings: AgentReadings) => number): Gauge => {
      const readings = (): AgentReadings | undefined => this.#readings();
      return new Gauge({
        name,
        help,
        registers,
        collect() {
          const now = readings();
          if (now !== undefined) this.set(read(now));
        },
      });
    };
    new Gauge({
      name: "nightshift_build_info",
      help: "Which Nightshift this is; always 1.",
      labelNames: ["version", "node"],
      registers,
    }).set({ version, node: process.version }, 1);
    this.#captures = new Counter({
      name: "nightshift_agent_captures_total",
      help: "Captures that ended, by what was asked for and what came of it: Done or an error's code.",
      labelNames: ["type", "result"],
      registers,
    });
    this.#seconds = new Histogram({
      name: "nightshift_agent_capture_seconds",
      help: "Time from taking a capture up to its artifact's being kept.",
      labelNames: ["type"],
      buckets: [1, 2.5, 5, 10, 15, 20, 30, 60, 120, 300],
      registers,
    });
    this.#deleted = new Counter({
      name: "nightshift_agent_artifacts_deleted_total",
      help: "Artifacts that were deleted: Expired, or Limit where others needed the room.",
      labelNames: ["reason"],
      registers,
    });
    gauge("nightshift_agent_captures", "Captures that run or wait.", (now) => now.running);
    gauge(
      "nightshift_agent_raised_limits",
      "Memory limits that were raised for a capture and are not yet what they were.",
      (now) => now.raisedLimits,
    );
    gauge("nightshift_agent_artifact_bytes", "Bytes of artifacts that this node keeps.", (now) => now.keptBytes);
    gauge("nightshift_agent_artifacts", "Artifacts that this node keeps.", (now) => now.kept);
    gauge("nightshift_agent_synced", "1 while Remediations are watched without a break.", (now) => (now.isSynced ? 1 : 0));
  }

  /** Where the gauges look. */
  read(readings: () => AgentReadings): void {
    this.#readings = readings;
  }

  captureEnded(type: Artifact["type"] | "Unknown", result: string, seconds: number): void {
    this.#captures.inc({ type, result });
    if (result === "Done") this.#seconds.observe({ type }, seconds);
  }

  artifactDeleted(reason: string): void {
    this.#deleted.inc({ reason });
  }
}
