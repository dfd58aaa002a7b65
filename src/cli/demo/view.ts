import type { GateVerdict, Phase } from "../../api/remediation.ts";
import type { Sample } from "../../observe/telemetry.ts";
import { clockText, fit, latency, mebibytes, type Paint, resample, sparkline, span, widthOf } from "./format.ts";
import type { LoadStats } from "./load.ts";

/** Everything that one frame shows. Times are milliseconds since the epoch. */
export interface Frame {
  readonly scenario: string;
  readonly title: string;
  readonly healing: boolean;
  readonly startedAt: number;
  readonly now: number;
  /** What the demo waits for at the moment. */
  readonly stage: string;
  readonly replicas: readonly ReplicaRow[];
  /** The last seconds of traffic, and the p99 of each second before. */
  readonly traffic: LoadStats & { readonly seconds: number; readonly total: LoadStats; readonly p99History: readonly number[] };
  readonly episode: EpisodeView | undefined;
  /** What Nightshift put on record, newest last. */
  readonly feed: readonly { readonly at: number; readonly text: string }[];
}

/** A replica of the workload that the scenario is about. */
export interface ReplicaRow {
  readonly name: string;
  readonly state: "starting" | "serving" | "not ready" | "out of traffic" | "stopping" | "gone";
  readonly suspected: boolean;
  readonly memory: readonly Sample[];
  readonly bytes: number | undefined;
  readonly limit: number | undefined;
  /** Set while the trend says that it leaks. */
  readonly secondsToLimit: number | undefined;
}

/** The newest episode. */
export interface EpisodeView {
  readonly phase: Phase;
  readonly reason: string | undefined;
  readonly summary: string;
  readonly gates: readonly GateVerdict[];
  readonly steps: readonly StepView[];
}

/** A step of the attempt that is under way. */
export interface StepView {
  readonly name: string;
  readonly state: "Pending" | "Intended" | "Done" | "Failed" | "Skipped";
  /** How long it took, or has taken so far. */
  readonly tookMs: number | undefined;
  readonly message: string;
}

/** Rows that a frame has at most, so that the terminal's last line stays free. */
const SPARE_ROWS = 1;
/** Records that are shown at least, where there are as many. */
const MIN_FEED = 3;
/** The sparkline shows this much of the past (ms). */
const SPARK_MS = 60_000;

const STEP_MARKS: Readonly<Record<StepView["state"], string>> = { Pending: "·", Intended: "▸", Done: "✓", Failed: "✗", Skipped: "-" };

/** The frame as text of at most `columns` times `rows - 1` characters. Pure: the same frame is the same text. */
export function render(frame: Frame, size: { readonly columns: number; readonly rows: number }, paint: Paint): string {
  const columns = Math.max(40, size.columns);
  const inner = columns - 2;
  const head = headLines(frame, inner, paint);
  const replicas = replicaLines(frame, inner, paint);
  const traffic = trafficLines(frame, inner, paint);
  const gates = gateLines(frame, inner, paint);
  const steps = stepLines(frame, inner, paint);
  const fixed = [head, replicas, traffic, gates, steps];
  const room = size.rows - SPARE_ROWS;
  const filled = fixed.filter((block) => block.length > 0);
  const height = filled.reduce((sum, block) => sum + block.length, 0);
  const feedRoom = (gaps: number): number => room - height - gaps;
  // Blank lines between the blocks where there is room for them and for the newest records; else the last ones go first.
  let gaps = filled.length;
  while (gaps > 0 && feedRoom(gaps) < Math.min(MIN_FEED, frame.feed.length)) gaps--;
  const blocks = [...filled, feedLines(frame, inner, Math.max(0, feedRoom(gaps)), paint)].filter((block) => block.length > 0);
  const shown = blocks.flatMap((block, i) => (i === 0 || i > gaps ? block : ["", ...block])).slice(0, room);
  return shown.map((line) => ` ${line}`).join("\n");
}

function spread(left: string, right: string, width: number): string {
  return `${left}${" ".repeat(Math.max(1, width - widthOf(left) - widthOf(right)))}${right}`;
}

function headLines(frame: Frame, width: number, paint: Paint): string[] {
  const name = `nightshift demo ${frame.scenario}`;
  const off = frame.healing ? "" : " --no-healing";
  const time = clockText(frame.now - frame.startedAt);
  return [
    spread(paint("bold", name) + paint("yellow", off), paint("dim", time), width),
    paint("dim", fit(frame.title, width).trimEnd()),
    `${paint("cyan", "▸")} ${fit(frame.stage, width - 2).trimEnd()}`,
  ];
}

function replicaLines(frame: Frame, width: number, paint: Paint): string[] {
  const names = Math.min(24, Math.max(8, ...frame.replicas.map((r) => r.name.length)));
  // Columns beside the sparkline: name, memory, time left, state and the gaps between.
  const spark = Math.max(8, width - names - 14 - 11 - 15 - 3);
  const heading = `${fit("payments", names)} ${fit("memory, last minute", spark)} ${fit("of the limit", 14)}${fit("reached in", 11)}state`;
  const rows = frame.replicas.map((replica) => {
    const bars = sparkline(
      resample(replica.memory, spark, frame.now - SPARK_MS, frame.now),
      spark,
      0,
      replica.limit ?? Math.max(1, ...replica.memory.map((s) => s.v)),
    );
    const used =
      replica.bytes === undefined
        ? "-"
        : `${mebibytes(replica.bytes)}${replica.limit === undefined ? "" : ` ${Math.round((100 * replica.bytes) / replica.limit)}%`}`;
    const left = replica.secondsToLimit === undefined ? "-" : span(replica.secondsToLimit * 1_000);
    const ill = replica.suspected || replica.secondsToLimit !== undefined;
    const tone = (text: string): string =>
      replica.state === "gone" || replica.state === "stopping" ? paint("dim", text) : ill ? paint("red", text) : text;
    return (
      tone(`${fit(replica.name, names)} `) +
      paint(ill ? "red" : "green", fit(bars.padStart(spark), spark)) +
      tone(` ${fit(used, 14)}${fit(left, 11)}`) +
      (replica.state === "serving" ? (ill ? paint("red", "suspected") : paint("green", replica.state)) : paint("yellow", replica.state))
    );
  });
  return [paint("dim", fit(heading, width).trimEnd()), ...rows];
}

function trafficLines(frame: Frame, width: number, paint: Paint): string[] {
  const { traffic } = frame;
  const rate = traffic.seconds > 0 ? Math.round(traffic.requests / traffic.seconds) : 0;
  const errors = traffic.errors === 0 ? paint("green", "0 errors") : paint("red", `${traffic.errors} errors`);
  const left = `${paint("dim", `last ${traffic.seconds} s`)}  ${rate} requests/s   p99 ${paint("bold", latency(traffic.p99Ms))}   ${errors}`;
  const total = paint("dim", `all ${traffic.total.requests} requests, ${traffic.total.errors} errors`);
  if (widthOf(left) + 2 + widthOf(total) > width) return [left];
  const room = width - widthOf(left) - widthOf(total) - 4;
  const bars = room >= 8 ? sparkline(traffic.p99History, Math.min(30, room), 0, Math.max(50, ...traffic.p99History)) : "";
  return [spread(`${left}  ${paint("cyan", bars)}`, total, width)];
}

function gateLines(frame: Frame, width: number, paint: Paint): string[] {
  const { episode } = frame;
  if (episode === undefined) return [];
  const lines: string[] = [];
  let line = "";
  for (const { gate, verdict } of episode.gates) {
    const mark = verdict === "Pass" ? `${paint("green", "✓")} ${gate}` : `${paint("red", "✗")} ${paint("bold", gate)}`;
    if (line !== "" && widthOf(line) + 2 + widthOf(mark) > width) {
      lines.push(line);
      line = mark;
    } else line = line === "" ? mark : `${line}  ${mark}`;
  }
  if (line !== "") lines.push(line);
  const blocked = episode.gates.find((verdict) => verdict.verdict === "Block");
  if (blocked !== undefined) lines.push(paint("yellow", fit(`${blocked.gate}: ${blocked.message}`, width).trimEnd()));
  return [spread(paint("dim", "gates"), phaseText(episode, paint), width), ...lines];
}

function phaseText(episode: EpisodeView, paint: Paint): string {
  const text = episode.reason === undefined || episode.reason === episode.phase ? episode.phase : `${episode.phase}: ${episode.reason}`;
  const style = episode.phase === "Succeeded" ? "green" : episode.phase === "Escalated" || episode.phase === "Failed" ? "red" : "yellow";
  return paint(style, text);
}

function stepLines(frame: Frame, width: number, paint: Paint): string[] {
  const steps = frame.episode?.steps ?? [];
  const names = Math.max(0, ...steps.map((step) => step.name.length));
  return steps.map((step) => {
    const style = { Pending: "dim", Intended: "cyan", Done: "green", Failed: "red", Skipped: "dim" } as const;
    const took = step.tookMs === undefined ? "" : span(step.tookMs);
    const text = `${fit(step.name, names)}  ${fit(took, 8)} `;
    const rest = fit(step.message, Math.max(0, width - 2 - widthOf(text))).trimEnd();
    return `${paint(style[step.state], STEP_MARKS[step.state])} ${step.state === "Pending" ? paint("dim", text) : text}${paint("dim", rest)}`;
  });
}

function feedLines(frame: Frame, width: number, room: number, paint: Paint): string[] {
  if (room < 1) return [];
  return frame.feed.slice(-room).map(({ at, text }) => {
    const time = clockText(at - frame.startedAt);
    return `${paint("dim", time)} ${fit(text, width - time.length - 1).trimEnd()}`;
  });
}
