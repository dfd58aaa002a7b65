import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { PHASES, type Outcome, type Phase } from "../api/remediation.ts";
import type { EffectType } from "../ports/platform.ts";
import type { LoopMetrics, Room } from "../record/metrics.ts";

/** From 50 microseconds to 10 seconds: a room takes milliseconds, a captured heap seconds. */
const SECONDS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** From a hint's tenths of a second over the two and a half minutes of Prometheus' and Alertmanager's defaults to a leak's hour. */
const DETECTION_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 90, 120, 150, 300, 600, 1_800, 3_600];

/** What the listeners and the telemetry have counted, read at the time of a scrape. */
export interface ObservedCounts {
  /** Time series in memory. */
  readonly series: number;
  /** Readings that the telemetry refused, by reason. */
  readonly telemetryRefused: Readonly<Record<string, number>>;
  /** OTLP points that were accepted. */
  readonly pointsAccepted: number;
  /** OTLP points that were refused, by reason. */
  readonly pointsRefused: Readonly<Record<string, number>>;
  /** Spans of OTLP that were accepted. */
  readonly spansAccepted: number;
  /** Spans that were refused, by reason. */
  readonly spansRefused: Readonly<Record<string, number>>;
  /** Log records of OTLP that were looked at. */
  readonly logsAccepted: number;
  /** Log records that were refused, by reason. */
  readonly logsRefused: Readonly<Record<string, number>>;
}

/** Nightshift's metrics about itself, in a registry of its own, for Prometheus. */
export class NightshiftMetrics implements LoopMetrics {
  /** Where they are registered. */
  readonly registry = new Registry();
  readonly #room: Histogram<"room">;
  readonly #signalToEffect: Histogram;
  readonly #detection: Histogram;
  readonly #signals: Counter<"source" | "condition" | "state">;
  readonly #decisions: Counter<"action">;
  readonly #blocked: Counter<"reason">;
  readonly #queue: Gauge;
  readonly #outcomes: Counter<"outcome">;
  readonly #effects: Counter<"type" | "result">;
  readonly #pages: Counter<"result">;
  readonly #refused: Counter<"listener" | "reason">;
  #phases: () => Readonly<Partial<Record<Phase, number>>> = () => ({});
  #observed: () => ObservedCounts | undefined = () => undefined;

  /** `build` tells which Nightshift it is; `processMetrics` adds the process' own (CPU, memory, event loop; default true). */
  constructor(options: { readonly build?: Readonly<Record<string, string>>; readonly processMetrics?: boolean } = {}) {
    const registers = [this.registry];
    if (options.processMetrics !== false) collectDefaultMetrics({ register: this.registry });
    const build = { version: "unknown", ...options.build, node: process.version };
    new Gauge({
      name: "nightshift_build_info",
      help: "Which Nightshift this is; always 1.",
      labelNames: Object.keys(build),
      registers,
    }).set(build, 1);
    this.#room = new Histogram({
      name: "nightshift_loop_seconds",
      help: "Time of one pass through a room of the loop.",
      labelNames: ["room"],
      buckets: SECONDS,
      registers,
    });
    this.#signalToEffect = new Histogram({
      name: "nightshift_signal_to_effect_seconds",
      help: "Time from a signal's arrival to the first effect of its episode.",
      buckets: SECONDS,
      registers,
    });
    this.#detection = new Histogram({
      name: "nightshift_detection_seconds",
      help: "Time from when a condition began to hold, by its source's clock, to when Nightshift knew of it, by the source of the signal.",
      labelNames: ["source"],
      buckets: DETECTION_SECONDS,
      registers,
    });
    this.#signals = new Counter({
      name: "nightshift_signals_total",
      help: "Signals that came in.",
      labelNames: ["source", "condition", "state"],
      registers,
    });
    this.#decisions = new Counter({
      name: "nightshift_decisions_total",
      help: "Decisions of the gates.",
      labelNames: ["action"],
      registers,
    });
    this.#blocked = new Counter({
      name: "nightshift_blocked_total",
      help: "Decisions that a gate blocked, by the first that did.",
      labelNames: ["reason"],
      registers,
    });
    this.#queue = new Gauge({ name: "nightshift_queue_depth", help: "Work that waits to be taken up.", registers });
    new Gauge({
      name: "nightshift_remediations",
      help: "Remediations that exist, by phase.",
      labelNames: ["phase"],
      registers,
      collect: gauge((self) => {
        const counts = this.#phases();
        for (const phase of PHASES) self.set({ phase }, counts[phase] ?? 0);
      }),
    });
    this.#outcomes = new Counter({
      name: "nightshift_remediation_outcomes_total",
      help: "Remediations that ended, by outcome.",
      labelNames: ["outcome"],
      registers,
    });
    this.#effects = new Counter({
      name: "nightshift_effects_total",
      help: "Effects on the world that ended.",
      labelNames: ["type", "result"],
      registers,
    });
    this.#pages = new Counter({
      name: "nightshift_pages_total",
      help: "Deliveries of pages that were tried.",
      labelNames: ["result"],
      registers,
    });
    this.#refused = new Counter({
      name: "nightshift_refused_total",
      help: "Requests, alerts and connections that were refused.",
      labelNames: ["listener", "reason"],
      registers,
    });
    new Gauge({
      name: "nightshift_telemetry_series",
      help: "Time series in memory.",
      registers,
      collect: gauge((self) => self.set(this.#observed()?.series ?? 0)),
    });
    new Counter({
      name: "nightshift_telemetry_refused_total",
      help: "Readings that the telemetry refused.",
      labelNames: ["reason"],
      registers,
      collect: counter((self) => {
        for (const [reason, n] of Object.entries(this.#observed()?.telemetryRefused ?? {})) self.inc({ reason }, n);
      }),
    });
    new Counter({
      name: "nightshift_otlp_points_accepted_total",
      help: "OTLP points that were accepted.",
      registers,
      collect: counter((self) => self.inc(this.#observed()?.pointsAccepted ?? 0)),
    });
    new Counter({
      name: "nightshift_otlp_points_refused_total",
      help: "OTLP points that were refused.",
      labelNames: ["reason"],
      registers,
      collect: counter((self) => {
        for (const [reason, n] of Object.entries(this.#observed()?.pointsRefused ?? {})) self.inc({ reason }, n);
      }),
    });
    new Counter({
      name: "nightshift_otlp_spans_accepted_total",
      help: "Spans of OTLP that were accepted.",
      registers,
      collect: counter((self) => self.inc(this.#observed()?.spansAccepted ?? 0)),
    });
    new Counter({
      name: "nightshift_otlp_spans_refused_total",
      help: "Spans of OTLP that were refused.",
      labelNames: ["reason"],
      registers,
      collect: counter((self) => {
        for (const [reason, n] of Object.entries(this.#observed()?.spansRefused ?? {})) self.inc({ reason }, n);
      }),
    });
    new Counter({
      name: "nightshift_otlp_logs_accepted_total",
      help: "Log records of OTLP that were looked at.",
      registers,
      collect: counter((self) => self.inc(this.#observed()?.logsAccepted ?? 0)),
    });
    new Counter({
      name: "nightshift_otlp_logs_refused_total",
      help: "Log records of OTLP that were refused.",
      labelNames: ["reason"],
      registers,
      collect: counter((self) => {
        for (const [reason, n] of Object.entries(this.#observed()?.logsRefused ?? {})) self.inc({ reason }, n);
      }),
    });
  }

  room(name: Room, seconds: number): void {
    if (Number.isFinite(seconds)) this.#room.observe({ room: name }, seconds);
  }

  signal(...[source, condition, state]: Parameters<LoopMetrics["signal"]>): void {
    this.#signals.inc({ source, condition, state });
  }

  detected(...[source, seconds]: Parameters<LoopMetrics["detected"]>): void {
    if (Number.isFinite(seconds)) this.#detection.observe({ source }, seconds);
  }

  decision(...[action, reason]: Parameters<LoopMetrics["decision"]>): void {
    this.#decisions.inc({ action });
    if (reason !== undefined) this.#blocked.inc({ reason });
  }

  signalToEffect(seconds: number): void {
    if (Number.isFinite(seconds)) this.#signalToEffect.observe(seconds);
  }

  queueDepth(depth: number): void {
    if (Number.isFinite(depth)) this.#queue.set(depth);
  }

  phases(read: () => Readonly<Partial<Record<Phase, number>>>): void {
    this.#phases = read;
  }

  effect(type: EffectType, result: "Applied" | "Failed" | "Unknown"): void {
    this.#effects.inc({ type, result });
  }

  page(result: "Sent" | "Failed"): void {
    this.#pages.inc({ result });
  }

  outcome(outcome: Outcome): void {
    this.#outcomes.inc({ outcome });
  }

  /** A listener has refused something. */
  refused(listener: string, reason: string, count = 1): void {
    this.#refused.inc({ listener, reason }, count);
  }

  /** Where the counts of what was observed are read, at the time of a scrape. */
  observed(read: () => ObservedCounts): void {
    this.#observed = read;
  }
}

/** prom-client calls `collect` with the metric as `this`. A reader that fails leaves the last values. */
function gauge<T extends string>(read: (self: Gauge<T>) => void): (this: Gauge<T>) => void {
  return function collect(this: Gauge<T>): void {
    read(this);
  };
}

/** The same for a counter whose total is kept elsewhere. */
function counter<T extends string>(read: (self: Counter<T>) => void): (this: Counter<T>) => void {
  return function collect(this: Counter<T>): void {
    this.reset();
    read(this);
  };
}
