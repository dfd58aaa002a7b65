import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import type { Coverage } from "../../platform/sim/coverage.ts";
import type { Fault, Scenario } from "../../platform/sim/scenario.ts";
import type { Sweep } from "../../platform/sim/sweep.ts";
import { EXIT } from "../exit.ts";
import { exhaustive, type ExhaustiveOptions, share } from "./simulate-exhaustive.ts";

interface Options extends ExhaustiveOptions {
  readonly seed?: number;
  readonly seeds?: { readonly from: number; readonly to: number };
  readonly faults?: readonly number[];
  readonly exhaustive?: boolean;
}

/** How long nothing is said of the progress (ms), and how often then. */
const QUIET_MS = 1_000;

function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("Expected a whole number.");
  return value;
}

function jobs(text: string): number {
  const value = wholeNumber(text);
  if (value < 1 || value > 256) throw new InvalidArgumentError("Expected a whole number from 1 to 256.");
  return value;
}

function range(text: string): { from: number; to: number } {
  const [from = "", to = "", ...more] = text.split("..");
  const parsed = { from: wholeNumber(from), to: wholeNumber(to) };
  if (more.length > 0 || parsed.from > parsed.to) throw new InvalidArgumentError("Expected two whole numbers, such as 1..1000.");
  return parsed;
}

function faultIds(text: string): number[] {
  if (text === "none") return [];
  return text.split(",").map(wholeNumber);
}

/** The command that plays the same run again. */
export function replayCommand({ seed, faults }: Scenario): string {
  return `nightshift simulate --seed ${seed} --faults ${faults.length === 0 ? "none" : faults.map(({ id }) => id).join(",")} --trace`;
}

/** A fault in one line. */
function faultText({ id, kind, at, for: lasts, ...details }: Fault): string {
  const rest = Object.entries(details).map(([key, value]) => `${key} ${String(value)}`);
  return [`${id}: ${kind} at ${at / 1000} s`, ...(lasts > 0 ? [`for ${lasts / 1000} s`] : []), ...rest].join(", ");
}

/** What `--json` prints of many seeds. */
export interface SimulateReport {
  readonly seeds: number;
  readonly simulatedSeconds: number;
  /** Simulated seconds a second of one core. */
  readonly speedup: number;
  readonly violations: readonly {
    readonly seed: number;
    readonly rule: string;
    readonly message: string;
    /** Seconds since the beginning of the run. */
    readonly at: number;
    /** The fewest faults that still break the rule, and the command that shows it; of the first violations only. */
    readonly faults?: readonly Fault[];
    readonly replay: string;
  }[];
  readonly coverage: Coverage;
}

/** Most broken seeds that are shrunk: each takes dozens of runs. */
const MAX_SHRUNK = 5;

async function reportOf(sum: Sweep): Promise<SimulateReport> {
  const { shrink } = await import("../../platform/sim/shrink.ts");
  const { generateScenario } = await import("../../platform/sim/generate.ts");
  const violations: SimulateReport["violations"][number][] = [];
  for (const { seed, rule, message, at } of sum.violations) {
    const told = { seed, rule, message, at: at / 1000 };
    if (violations.length >= MAX_SHRUNK) {
      violations.push({ ...told, replay: `nightshift simulate --seed ${seed} --trace` });
      continue;
    }
    const { scenario } = await shrink(generateScenario(seed), rule);
    violations.push({ ...told, faults: scenario.faults, replay: replayCommand(scenario) });
  }
  return {
    seeds: sum.seeds,
    simulatedSeconds: Math.round(sum.simulatedSeconds),
    speedup: Math.round(sum.simulatedSeconds / Math.max(sum.cpuSeconds, 1e-3)),
    violations,
    coverage: sum.coverage,
  };
}

function textOf(report: SimulateReport): string {
  const lines = [
    `${report.seeds} seeds, ${report.simulatedSeconds} simulated seconds, ${report.speedup} times real time a core: ${report.violations.length === 0 ? "no rule was broken" : `${report.violations.length} broken`}`,
    "reached:",
    ...Object.entries(report.coverage).map(
      ([what, counts]: [string, Record<string, number>]) =>
        `  ${what}: ${Object.entries(counts)
          .toSorted(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, n]) => `${key} ${n}`)
          .join(", ")}`,
    ),
  ];
  for (const { seed, rule, message, at, faults, replay } of report.violations)
    lines.push(
      `seed ${seed} breaks ${rule} at ${at.toFixed(1)} s: ${message}`,
      ...(faults ?? []).map((fault) => `  fault ${faultText(fault)}`),
      `  ${replay}`,
    );
  return `${lines.join("\n")}\n`;
}

async function many({ from, to }: { from: number; to: number }, options: Options): Promise<void> {
  const { sweepInThreads } = await import("../../platform/sim/threads.ts");
  const begun = Date.now();
  let told = begun;
  const total = to - from + 1;
  const sum = await sweepInThreads({ from, to, jobs: Math.min(options.jobs, total) }, (done, broken) => {
    const now = Date.now();
    if (now - begun < QUIET_MS || (now - told < QUIET_MS && done < total)) return;
    told = now;
    const left = Math.round((((now - begun) / done) * (total - done)) / 1000);
    process.stderr.write(`${done} of ${total} seeds, ${broken} broken, about ${left} s left\n`);
  });
  if (sum.violations.length > 0)
    process.stderr.write(`looking for the fewest faults of the first ${Math.min(MAX_SHRUNK, sum.violations.length)} that break a rule\n`);
  const report = await reportOf(sum);
  process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : textOf(report));
  if (report.violations.length > 0) process.exitCode = EXIT.NO;
}

async function one(seed: number, options: Options): Promise<void> {
  const { generateScenario } = await import("../../platform/sim/generate.ts");
  const { runScenario } = await import("../../platform/sim/run.ts");
  const { withFaults } = await import("../../platform/sim/shrink.ts");
  const whole = generateScenario(seed);
  const unknown = options.faults?.find((id) => whole.faults.every((fault) => fault.id !== id));
  if (unknown !== undefined)
    throw new NightshiftError("UNKNOWN_FAULT", `seed ${seed} has no fault ${unknown}`, {
      where: "--faults",
      fix: `It has 0 to ${whole.faults.length - 1}.`,
    });
  const scenario = options.faults === undefined ? whole : withFaults(whole, options.faults);
  if (options.trace === true) {
    process.stdout.write(`${JSON.stringify({ ...scenario, faults: undefined })}\n`);
    for (const fault of scenario.faults) process.stdout.write(`fault ${faultText(fault)}\n`);
  }
  const lines: string[] = [];
  const { violations, coverage, simulatedMs } = await runScenario(
    scenario,
    options.trace === true ? { trace: (line) => void lines.push(line) } : {},
  );
  if (options.trace === true) process.stdout.write(lines.map((line) => `${line}\n`).join(""));
  else if (options.json === true)
    process.stdout.write(`${JSON.stringify({ seed, simulatedSeconds: simulatedMs / 1000, violations, coverage })}\n`);
  else process.stdout.write(`seed ${seed}: ${violations.length === 0 ? "no rule was broken" : ""}\n`);
  for (const { rule, message, at } of violations)
    process.stderr.write(`seed ${seed} breaks ${rule} at ${(at / 1000).toFixed(1)} s: ${message}\n`);
  if (violations.length > 0) process.exitCode = EXIT.NO;
}

const HELP = `
Plays Nightshift's loop in virtual time against a simulated cluster, API server, monitoring and people, with faults of
every kind, and asks the rules of docs/architecture.md after every event. The same seed gives the same run, byte for byte.

--json prints {"seeds", "simulatedSeconds", "speedup", "violations", "coverage"}; speedup is simulated seconds a second of
one core. Of a seed that breaks a rule the fewest faults that do are looked for, and the command that replays them printed.

--exhaustive plays base scenarios without a fault of the API and of operators, numbers in each what operators write, hear
and read, and plays it again for each of these points and each way to perturb it: write:N with CrashBefore, CrashAfter,
Lost, AnswerLost or Late, event:N with Drop, Duplicate, Delay or Reorder, read:N with Stale. Besides the rules it asks (E1)
whether the cluster is the same in the end. It prints how many points and runs there are, --json as {"scenarios", "points",
"whole", "runs", "broken", "violations", "simulatedSeconds", "seconds"}.

Examples:
  $ nightshift simulate --seeds 1..1000
  $ nightshift simulate --seeds 1..10000 --jobs 4 --json | jq .violations
  $ nightshift simulate --seed 42 --trace
  $ nightshift simulate --seed 42 --faults 3,7 --trace
  $ nightshift simulate --exhaustive
  $ nightshift simulate --exhaustive --share 1/4
  $ nightshift simulate --exhaustive --scenario approval --point write:4:AnswerLost --trace

Exit status:
  0  no rule was broken
  1  a rule was broken`;

/** Adds `simulate` to the program. */
export function register(program: Command): void {
  program
    .command("simulate")
    .description("prove the rules in simulated clusters, or replay one")
    .option("--seed <n>", "one run", wholeNumber)
    .option("--seeds <from..to>", "many runs, such as 1..1000", range)
    .option("--faults <ids>", "with --seed: these of its faults only, such as 3,7; or none", faultIds)
    .option("--exhaustive", "each point of each base scenario, perturbed in each way")
    .option("--scenario <name>", "with --exhaustive: this base scenario only")
    .option("--point <point>", "with --scenario: this run only, such as write:12:CrashAfter")
    .option("--share <n/m>", "with --exhaustive: the n-th of m shares", share)
    .option("--jobs <n>", "threads (default: as many as there are cores)", jobs, availableParallelism())
    .option("--trace", "with --seed or --scenario: print everything that happens")
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action(async (options: Options) => {
      const kinds = [options.seed, options.seeds, options.exhaustive].filter((each) => each !== undefined);
      if (kinds.length !== 1)
        throw new NightshiftError("WRONG_USE", "give one of --seed, --seeds and --exhaustive", { fix: "Such as --seeds 1..1000." });
      if (options.exhaustive === true) await exhaustive(options);
      else if (options.seeds !== undefined) await many(options.seeds, options);
      else await one(options.seed ?? 0, options);
    });
}
