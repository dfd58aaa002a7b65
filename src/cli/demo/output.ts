import { createLogUpdate } from "log-update";
import { isTerminal } from "../../api/remediation.ts";
import type { Replica } from "../../ports/platform.ts";
import type { Demo, DemoEvent } from "./demo.ts";
import { tookMs } from "./evidence.ts";
import { clockText, latency, mebibytes, painter, wantsColor } from "./format.ts";
import { type EpisodeView, type Frame, render, type ReplicaRow } from "./view.ts";

/** From one frame to the next (ms). */
const FRAME_MS = 250;
/** From one status line to the next, where there is no live view (ms). */
const STATUS_MS = 5_000;
/** Traffic is shown over this many seconds. */
const TRAFFIC_S = 5;
/** A replica that is gone stays in view this long (ms). */
const GONE_MS = 15_000;

/** Shows a demo while it runs. */
export interface Output {
  /** Something happened. */
  event(demo: Demo | undefined, event: DemoEvent): void;
  /** The demo runs now. */
  begin(demo: Demo): void;
  /** Nothing more is shown; what was stays on the screen. */
  end(): void;
}

/** Shows nothing: for `--json`. */
export const silent: Output = { event: () => undefined, begin: () => undefined, end: () => undefined };

/** Plain lines, one an event and one status line every five seconds. */
export class LineOutput implements Output {
  readonly #write: (line: string) => void;
  readonly #startedAt = Date.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  event(_demo: Demo | undefined, event: DemoEvent): void {
    const text = event.type === "Stage" ? event.text : `${event.record.type}: ${event.record.message}`;
    this.#line(event.at, text);
  }

  begin(demo: Demo): void {
    this.#timer = setInterval(() => {
      const now = Date.now();
      const load = demo.load?.stats(now - TRAFFIC_S * 1_000, now);
      const memory = demo
        .payments()
        .map(
          (r) =>
            `${r.ref.name} ${r.memory?.bytes === undefined ? "-" : mebibytes(r.memory.bytes)}${r.inTraffic ? "" : " (out of traffic)"}`,
        );
      this.#line(
        now,
        `${load === undefined ? "no traffic yet" : `${Math.round(load.requests / TRAFFIC_S)} requests/s, p99 ${latency(load.p99Ms)}, ${load.errors} errors`}; ${memory.join(", ")}`,
      );
    }, STATUS_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }

  #line(at: number, text: string): void {
    this.#write(`[${clockText(at - this.#startedAt).padStart(5)}] ${text}\n`);
  }
}

/** The live view of a terminal. */
export class LiveOutput implements Output {
  readonly #stream: NodeJS.WriteStream;
  readonly #update: ReturnType<typeof createLogUpdate>;
  readonly #trends = new Map<string, { readonly at: number; readonly secondsToLimit: number | undefined }>();
  #timer: NodeJS.Timeout | undefined;
  #demo: Demo | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#update = createLogUpdate(stream);
    this.#update("\n nightshift: starting the shop …");
  }

  event(demo: Demo | undefined): void {
    if (demo !== undefined) this.#draw();
  }

  begin(demo: Demo): void {
    this.#demo = demo;
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#demo !== undefined) this.#draw();
    this.#demo = undefined;
    this.#update.done();
  }

  #draw(): void {
    if (this.#demo === undefined) return;
    const size = { columns: this.#stream.columns ?? 80, rows: this.#stream.rows ?? 24 };
    this.#update(render(this.#frame(this.#demo), size, painter(wantsColor(this.#stream))));
  }

  #frame(demo: Demo): Frame {
    const now = Date.now();
    const { scenario, healing } = demo.options;
    const load = demo.load;
    const stats = load?.stats(now - TRAFFIC_S * 1_000, now) ?? { requests: 0, errors: 0, p99Ms: undefined };
    const history = Array.from({ length: 30 }, (_, i) => load?.stats(now - (30 - i) * 1_000, now - (29 - i) * 1_000).p99Ms).filter(
      (ms) => ms !== undefined,
    );
    return {
      scenario: scenario.name,
      title: scenario.title,
      healing,
      startedAt: demo.startedAt,
      now,
      stage: demo.stage,
      replicas: this.#replicas(demo, now),
      traffic: {
        ...stats,
        seconds: TRAFFIC_S,
        total: load?.stats(0, now) ?? { requests: 0, errors: 0, p99Ms: undefined },
        p99History: history,
      },
      episode: episodeOf(demo, now),
      feed: demo.records.filter((r) => r.type !== "Started").map((r) => ({ at: r.at, text: `${r.type}: ${r.message}` })),
    };
  }

  #replicas(demo: Demo, now: number): ReplicaRow[] {
    const live = new Map(demo.payments().map((replica) => [replica.ref.uid, replica]));
    const suspected = new Set(
      demo.remediations.filter((r) => !isTerminal(r) || r.status.outcome === "Observed").map((r) => r.spec.remediationTarget.uid),
    );
    return [...demo.lives.values()]
      .filter((life) => live.has(life.uid) || now - life.lastSeenAt < GONE_MS)
      .map((life) => {
        const replica = live.get(life.uid);
        return {
          name: life.name,
          state: replica === undefined ? "gone" : stateOf(replica),
          suspected: suspected.has(life.uid),
          memory: demo.running.telemetry.replicaSeries(life.uid, "memory", now - 60_000),
          bytes: replica?.memory?.bytes ?? life.lastBytes,
          limit: replica?.memory?.limitBytes,
          secondsToLimit: replica === undefined ? undefined : this.#secondsToLimit(demo, replica, now),
        };
      });
  }

  /** Analysed once a second, not once a frame. */
  #secondsToLimit(demo: Demo, replica: Replica, now: number): number | undefined {
    const known = this.#trends.get(replica.ref.uid);
    if (known !== undefined && now - known.at < 1_000) return known.secondsToLimit;
    const found = { at: now, secondsToLimit: demo.trend(replica)?.secondsToLimit };
    this.#trends.set(replica.ref.uid, found);
    return found.secondsToLimit;
  }
}

function stateOf(replica: Replica): ReplicaRow["state"] {
  if (replica.phase === "Starting" || (!replica.everReady && replica.phase === "Running")) return "starting";
  if (replica.phase === "Stopping") return "stopping";
  if (replica.phase === "Exited") return "gone";
  if (!replica.inTraffic) return replica.ready ? "out of traffic" : "not ready";
  return replica.ready ? "serving" : "not ready";
}

/** The episode that is shown: the newest with an attempt, else the newest. */
function episodeOf(demo: Demo, now: number): EpisodeView | undefined {
  const remediation = demo.remediations.findLast((r) => !isTerminal(r)) ?? demo.remediations.at(-1);
  if (remediation === undefined) return undefined;
  const attempt = remediation.status.attempts.at(-1);
  return {
    phase: remediation.status.phase,
    reason: remediation.status.outcome ?? remediation.status.reason,
    summary: remediation.spec.diagnosis.summary,
    gates: remediation.status.gates,
    steps: [...(attempt?.steps ?? []), ...(attempt?.undo ?? [])].map((step) => ({
      name: step.name,
      state: step.state,
      tookMs: tookMs(step) ?? (step.intendedAt === undefined ? undefined : now - Date.parse(step.intendedAt)),
      message: step.message ?? "",
    })),
  };
}
