// npm run bench [-- host|kubernetes|SECTION ...] [--json]: costs, as ratios to a bound or a peer in the same run.
// NIGHTSHIFT_BENCH_SHORT=1 takes fewer samples and smaller sizes.
//
// A section that this machine cannot run is left out with a line that says why. With CI=true that is a failure where the
// section, or its group, was asked for by name. A goal that is missed is a failure.
import { messageOf } from "../src/api/errors.ts";
import { missing } from "../test/cluster/requirements.ts";
import { lackingCollector } from "../test/support/collector.ts";
import { ensureTool, type Tool } from "../test/cluster/toolchain.ts";
import { run as hints } from "./hints.ts";
import { run as cache } from "./kubernetes-cache.ts";
import { run as kubernetesHints } from "./kubernetes-hints.ts";
import { run as kubernetesLatency } from "./kubernetes-latency.ts";
import { run as queue } from "./kubernetes-queue.ts";
import { run as latency } from "./latency.ts";
import { run as otlp } from "./otlp.ts";
import { lacksPrometheus, run as promql } from "./promql.ts";
import { type BenchResult, meets } from "./result.ts";
import { run as recovery } from "./recovery.ts";
import { run as storm } from "./storm.ts";
import { run as trend } from "./trend.ts";

interface Section {
  readonly group: "host" | "kubernetes";
  /** As it is asked for on the command line. */
  readonly name: string;
  /** What this machine lacks for it. */
  readonly lacks?: () => readonly string[];
  readonly run: () => Promise<BenchResult>;
}

const short = process.env["NIGHTSHIFT_BENCH_SHORT"] === "1";
const progress = (line: string): void => void process.stderr.write(`${line}\n`);
const peer = (): Promise<string> => ensureTool("peer", progress);

/** What is missing to build and run the peer, without a cluster. */
function lacksPeer(): readonly string[] {
  if (process.platform !== "linux") return [`Linux (this is ${process.platform})`];
  return missing({ nodes: false, tools: ["peer"] satisfies Tool[] }).filter((line) => line.startsWith("Go "));
}

function lacksCollector(): readonly string[] {
  const lacks = lackingCollector();
  return lacks === false ? [] : [lacks];
}

const SECTIONS: readonly Section[] = [
  { group: "host", name: "latency", run: () => latency(short) },
  { group: "host", name: "storm", run: () => storm(short) },
  { group: "host", name: "trend", run: () => trend() },
  { group: "host", name: "otlp", lacks: lacksCollector, run: () => otlp(short) },
  { group: "host", name: "hints", run: () => hints(short) },
  { group: "host", name: "recovery", run: () => recovery(short) },
  { group: "host", name: "promql", lacks: lacksPrometheus, run: () => promql(short) },
  { group: "kubernetes", name: "queue", lacks: lacksPeer, run: async () => queue(short, await peer()) },
  {
    group: "kubernetes",
    name: "kubernetes-latency",
    lacks: () => missing({ nodes: false, tools: ["kube", "kwok", "peer"] }),
    run: async () => kubernetesLatency(short, await peer()),
  },
  {
    group: "kubernetes",
    name: "kubernetes-hints",
    lacks: () => missing({ nodes: false, tools: ["kube", "kwok"] }),
    run: () => kubernetesHints(short),
  },
  { group: "kubernetes", name: "cache", lacks: lacksPeer, run: async () => cache(short, await peer()) },
];

function print(result: BenchResult): void {
  process.stdout.write(`\n${result.name}\n  ${result.method}\n`);
  for (const row of result.rows) {
    const ratio = row.ratio === undefined ? "" : `  (${row.ratio.toFixed(2)}x ${row.beside ?? "the bound"})`;
    const goal =
      row.goal === undefined
        ? ""
        : `  goal: at most ${row.goal.atMost}${row.goal.of === "ratio" ? "x" : ""}, ${meets(row) === true ? "met" : "MISSED"}`;
    process.stdout.write(`  ${row.label.padEnd(44)} ${row.value.toFixed(2).padStart(12)} ${row.unit}${ratio}${goal}\n`);
  }
}

const json = process.argv.includes("--json");
const asked = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const isAsked = (section: Section): boolean => asked.includes(section.group) || asked.includes(section.name);
const unknown = asked.filter((name) => !SECTIONS.some((section) => section.group === name || section.name === name));
if (unknown.length > 0) {
  progress(`there is no bench ${unknown.join(", ")}; there are: host, kubernetes, ${SECTIONS.map((section) => section.name).join(", ")}`);
  process.exit(2);
}
const results: BenchResult[] = [];
for (const section of SECTIONS) {
  if (asked.length > 0 && !isAsked(section)) continue;
  const lacks = section.lacks?.() ?? [];
  if (lacks.length > 0) {
    const must = process.env["CI"] === "true" && isAsked(section);
    progress(`${must ? "cannot run" : "left out:"} ${section.name}; this machine lacks: ${lacks.join("; ")}`);
    if (must) process.exitCode = 1;
    continue;
  }
  progress(`measuring: ${section.name}`);
  try {
    const result = await section.run();
    results.push(result);
    if (result.rows.some((row) => meets(row) === false)) process.exitCode = 1;
    if (!json) print(result);
  } catch (error) {
    // The others may still say something.
    progress(`${section.name} failed: ${messageOf(error)}`);
    process.exitCode = 1;
  }
}
if (json) process.stdout.write(`${JSON.stringify(results)}\n`);
