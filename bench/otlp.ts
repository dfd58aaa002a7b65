import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCollector } from "../test/support/collector.ts";
import { Measured } from "./kubernetes/child.ts";
import { exportOf, POINTS_PER_PROCESS } from "./otlp/payload.ts";
import { packed, type Protocol, type Sender, sender } from "./otlp/sender.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

const MIB = 2 ** 20;
const PROCESSES = 100;
const SHAPES = {
  /** What a Collector with a batch processor sends on. */
  batches: { label: `${(PROCESSES * POINTS_PER_PROCESS).toLocaleString("en")} points a request`, processes: PROCESSES },
  /** What an SDK sends. */
  single: { label: `${POINTS_PER_PROCESS} points a request`, processes: 1 },
} as const;
type Shape = keyof typeof SHAPES;

interface Cell {
  readonly shape: Shape;
  readonly protocol: Protocol;
  readonly gzip: boolean;
}
const CELLS: readonly Cell[] = (["batches", "single"] as const).flatMap((shape) =>
  (["gRPC", "HTTP"] as const).flatMap((protocol) => [true, false].map((gzip) => ({ shape, protocol, gzip }))),
);

/** Exports of every process in one run of a cell. */
const EXPORTS = { batches: { long: 20, short: 4 }, single: { long: 10, short: 2 } } as const;

/** What one run of a cell took: seconds on the clock, and of CPU time of the receiver. */
interface Run {
  readonly points: number;
  readonly seconds: number;
  readonly cpu: number;
}

interface Target {
  readonly measured: Measured;
  readonly urls: { readonly http: string; readonly grpc: string };
  readonly token: string;
  readonly runs: Map<Cell, Run[]>;
  /** Memory before anything was sent (bytes). */
  readonly idle: number;
}

async function measure(target: Target, cell: Cell, link: Sender, bodies: readonly Buffer[], points: number): Promise<void> {
  const cpu = target.measured.cpu();
  const begin = performance.now();
  await link.send(bodies);
  const seconds = (performance.now() - begin) / 1000;
  const taken: Run = { points, seconds, cpu: target.measured.cpu() - cpu };
  target.runs.set(cell, [...(target.runs.get(cell) ?? []), taken]);
}

/** Points that Nightshift has kept, and those that it has refused. */
async function counted(url: string, token: string): Promise<{ accepted: number; refused: number }> {
  const text = await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text();
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, "gm"))].reduce((all, [, value]) => all + Number(value), 0);
  return { accepted: sum("nightshift_otlp_points_accepted_total"), refused: sum("nightshift_otlp_points_refused_total") };
}

/** OTLP points taken in a second, and the memory for it, beside the OpenTelemetry Collector. */
export async function run(short: boolean): Promise<BenchResult> {
  const rounds = short ? 3 : 5;
  const collector = await startCollector({
    exporters: { nop: {} },
    pipelines: { metrics: { receivers: ["otlp"], exporters: ["nop"] } },
  });
  const nightshift = Measured.start(process.execPath, [
    join(import.meta.dirname, "otlp/nightshift.ts"),
    mkdtempSync(join(tmpdir(), "nightshift-bench-")),
  ]);
  try {
    const said = await nightshift.hear("listening");
    const url = String(said["url"]);
    const token = String(said["token"]);
    const targetOf = (measured: Measured, urls: Target["urls"]): Target => ({
      measured,
      urls,
      token,
      runs: new Map(),
      idle: measured.memory().rss,
    });
    const targets = {
      peer: targetOf(new Measured(collector.process), { http: collector.httpUrl, grpc: collector.grpcUrl }),
      ours: targetOf(nightshift, { http: url, grpc: String(said["grpcUrl"]) }),
    };
    // Each export is a second after the one before; they end about now, as what is older than an hour is refused.
    const exports = short ? "short" : "long";
    const all = (rounds + 1) * CELLS.reduce((sum, { shape }) => sum + EXPORTS[shape][exports], 0);
    const start = Date.now() - (all + 60) * 1000;
    let round = 0;
    let sent = 0;
    for (let i = 0; i <= rounds; i += 1) {
      for (const cell of CELLS) {
        const { processes } = SHAPES[cell.shape];
        const bodies: Buffer[] = [];
        for (let n = 0; n < EXPORTS[cell.shape][exports]; n += 1, round += 1)
          for (let from = 0; from < PROCESSES; from += processes) {
            const body = exportOf({ from, to: from + processes }, round, start, start + (round + 1) * 1000);
            bodies.push(packed(body, cell.protocol, cell.gzip));
          }
        const points = EXPORTS[cell.shape][exports] * PROCESSES * POINTS_PER_PROCESS;
        sent += points;
        for (const target of i % 2 === 0 ? [targets.peer, targets.ours] : [targets.ours, targets.peer]) {
          const link = await sender(cell.protocol, cell.gzip, target.urls, target.token);
          await measure(target, cell, link, bodies, points);
          await link.close();
        }
      }
      // The first round warms both up.
      if (i === 0) for (const { runs } of Object.values(targets)) runs.clear();
    }
    const { accepted, refused } = await counted(url, token);
    if (accepted !== sent || refused !== 0) throw new Error(`of ${sent} points Nightshift has kept ${accepted} and refused ${refused}`);

    const median = (target: Target, cell: Cell, of: (taken: Run) => number): number => quantile((target.runs.get(cell) ?? []).map(of), 0.5);
    const ratio = (cell: Cell, of: (taken: Run) => number): number => {
      const [ours = [], peer = []] = [targets.ours.runs.get(cell), targets.peer.runs.get(cell)];
      return quantile(
        ours.map((each, i) => of(each) / of(peer[i]!)),
        0.5,
      );
    };
    const perSecond = ({ points, seconds }: Run): number => points / seconds;
    const cpu = ({ cpu: seconds, points }: Run): number => (seconds * 1e6) / points;
    const beside = "the Collector's";
    const rows = CELLS.flatMap((cell): BenchRow[] => {
      const label = `${SHAPES[cell.shape].label}, ${cell.protocol}${cell.gzip ? ", gzip" : ""}`;
      return [
        { label, value: median(targets.ours, cell, perSecond), unit: "points/s", ratio: ratio(cell, perSecond), beside },
        { label: "  CPU time", value: median(targets.ours, cell, cpu), unit: "µs a point", ratio: ratio(cell, cpu), beside },
      ];
    });
    const memory = (label: string, of: (target: Target) => number): BenchRow => ({
      label,
      value: of(targets.ours) / MIB,
      unit: "MiB",
      ratio: of(targets.ours) / of(targets.peer),
      beside,
    });
    return {
      name: "OTLP metrics taken in",
      method:
        `The same payloads to a whole Nightshift and to the OpenTelemetry Collector in turn, 8 requests at a time; gauges, counters and histograms of ${PROCESSES} processes with 3 attributes each. ` +
        `Nightshift decodes, finds whose each point is, turns counters into rates and keeps it; the Collector's otlp receiver decodes, and its nop exporter drops it. Medians of ${rounds} paired rounds after one to warm up, each round with new points. ` +
        `Nightshift has one thread, the Collector as many as there are processors. Fails where one point is refused. Peak RSS is of the whole run; Nightshift keeps an hour of what it is sent.`,
      rows: [...rows, memory("RSS before", ({ idle }) => idle), memory("peak RSS", ({ measured }) => measured.memory().peak)],
    };
  } finally {
    await nightshift.stop();
    await collector.stop();
  }
}
