import { InvalidArgumentError } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import type { Broken, Exhaustive, ScenarioTally, Share } from "../../platform/sim/exhaustive.ts";
import type { Perturbation, Point } from "../../platform/sim/points.ts";
import { EXIT } from "../exit.ts";

/** Options of `simulate --exhaustive`. */
export interface ExhaustiveOptions {
  readonly scenario?: string;
  readonly point?: string;
  readonly share?: Share;
  readonly jobs: number;
  readonly trace?: boolean;
  readonly json?: boolean;
}

/** How often something is said of the progress (ms). */
const TELL_MS = 5_000;

/** `1/4`: the first of four shares. */
export function share(text: string): Share {
  const [part, of] = /^([1-9][0-9]{0,2})\/([1-9][0-9]{0,2})$/.exec(text)?.slice(1).map(Number) ?? [];
  if (part === undefined || of === undefined || part > of) throw new InvalidArgumentError("Expected a share, such as 1/4.");
  return { part, of };
}

/** What `--json` prints. */
export interface ExhaustiveReport {
  readonly scenarios: readonly ScenarioTally[];
  /** Points of all scenarios: writes, events and reads. */
  readonly points: number;
  /** Ways to perturb them. */
  readonly whole: number;
  /** Of these, how many were played. */
  readonly runs: number;
  readonly broken: number;
  readonly violations: readonly {
    readonly scenario: string;
    /** As `--point` takes it. */
    readonly point: string;
    readonly what: string;
    readonly rule: string;
    readonly message: string;
    /** Seconds since the beginning of the run. */
    readonly at: number;
    readonly replay: string;
  }[];
  readonly simulatedSeconds: number;
  /** How long it took. */
  readonly seconds: number;
}

/** The command that plays a perturbed run again. */
export function replayCommand({ scenario, perturbation: { kind, number, how } }: Pick<Broken, "scenario" | "perturbation">): string {
  return `nightshift simulate --exhaustive --scenario ${scenario} --point ${kind}:${number}:${how} --trace`;
}

function reportOf({ scenarios, broken }: Exhaustive, seconds: number): ExhaustiveReport {
  const sum = (of: (tally: ScenarioTally) => number): number => scenarios.reduce((total, tally) => total + of(tally), 0);
  return {
    scenarios,
    points: sum(({ points }) => points.write + points.event + points.read),
    whole: sum(({ whole }) => whole),
    runs: sum(({ runs }) => runs),
    broken: broken.length,
    violations: broken.map((each) => ({
      scenario: each.scenario,
      point: `${each.perturbation.kind}:${each.perturbation.number}:${each.perturbation.how}`,
      what: each.what,
      rule: each.rule,
      message: each.message,
      at: each.at / 1000,
      replay: replayCommand(each),
    })),
    simulatedSeconds: Math.round(sum(({ simulatedSeconds }) => simulatedSeconds)),
    seconds: Math.round(seconds * 10) / 10,
  };
}

function textOf(report: ExhaustiveReport): string {
  const rows = [
    ["scenario", "writes", "events", "reads", "runs", "of", "broken"],
    ...report.scenarios.map(({ scenario, points, runs, whole, broken }) => [
      scenario,
      ...[points.write, points.event, points.read, runs, whole, broken].map(String),
    ]),
  ];
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "));
  lines.push(
    `${report.points} points of ${report.scenarios.length} scenarios, ${report.runs} of ${report.whole} runs, ${report.simulatedSeconds} simulated seconds, in ${report.seconds} s: ${report.broken === 0 ? "no rule was broken" : `${report.broken} broken`}`,
  );
  for (const { scenario, point, what, rule, message, at, replay } of report.violations)
    lines.push(`${scenario} with ${point} (${what}) breaks ${rule} at ${at.toFixed(1)} s: ${message}`, `  ${replay}`);
  return `${lines.join("\n")}\n`;
}

function wrongPoint(point: string, scenario: string, points: readonly Point[]): NightshiftError {
  const numbers = (kind: string): string => `1 to ${points.filter((each) => each.kind === kind).length}`;
  return new NightshiftError("UNKNOWN_POINT", `${scenario} has no point ${point}`, {
    where: "--point",
    fix: `It has write:N:CrashBefore, CrashAfter, Lost, AnswerLost or Late (${numbers("write")}), event:N:Drop, Duplicate, Delay or Reorder (${numbers("event")}), read:N:Stale (${numbers("read")}).`,
  });
}

/** One run: a base scenario as it is, or with one point perturbed. */
async function one(name: string, text: string | undefined, options: ExhaustiveOptions): Promise<void> {
  const { baseScenario, reference, runPerturbed } = await import("../../platform/sim/exhaustive.ts");
  const { parsePerturbation } = await import("../../platform/sim/points.ts");
  const base = baseScenario(name);
  if (base === undefined) throw await unknownScenario(name);
  const lines: string[] = [];
  const watched = options.trace === true ? { trace: (line: string) => void lines.push(line) } : {};
  const known = await reference(base, text === undefined ? watched : {});
  let { violations } = known;
  if (text !== undefined) {
    const perturbation: Perturbation | undefined = parsePerturbation(text);
    if (perturbation === undefined) throw wrongPoint(text, name, known.points);
    const result = await runPerturbed(base, known, perturbation, watched);
    if (!result.isPerturbed) throw wrongPoint(text, name, known.points);
    ({ violations } = result);
  }
  for (const line of lines) process.stdout.write(`${line}\n`);
  const what = text === undefined ? name : `${name} with ${text}`;
  if (options.json === true)
    process.stdout.write(
      `${JSON.stringify({ scenario: name, point: text, points: text === undefined ? known.points : undefined, violations })}\n`,
    );
  else if (violations.length === 0) process.stdout.write(`${what}: no rule was broken\n`);
  for (const { rule, message, at } of violations)
    process.stderr.write(`${what} breaks ${rule} at ${(at / 1000).toFixed(1)} s: ${message}\n`);
  if (violations.length > 0) process.exitCode = EXIT.NO;
}

async function unknownScenario(name: string): Promise<NightshiftError> {
  const { BASE_SCENARIOS } = await import("../../platform/sim/base-scenarios.ts");
  return new NightshiftError("UNKNOWN_SCENARIO", `there is no base scenario ${name}`, {
    where: "--scenario",
    fix: `There are ${BASE_SCENARIOS.map((each) => each.name).join(", ")}.`,
  });
}

/** Does what `simulate --exhaustive` says. */
export async function exhaustive(options: ExhaustiveOptions): Promise<void> {
  const { scenario, point } = options;
  if (scenario === undefined && (point !== undefined || options.trace === true))
    throw new NightshiftError("WRONG_USE", "--point and --trace are about one scenario", { fix: "Add --scenario NAME." });
  if (scenario !== undefined && (point !== undefined || options.trace === true)) return one(scenario, point, options);
  const { exhaust } = await import("../../platform/sim/exhaustive.ts");
  const { BASE_SCENARIOS } = await import("../../platform/sim/base-scenarios.ts");
  const bases = BASE_SCENARIOS.filter(({ name }) => scenario === undefined || name === scenario);
  if (scenario !== undefined && bases.length === 0) throw await unknownScenario(scenario);
  const begun = Date.now();
  let told = begun;
  const found = await exhaust(
    bases,
    { jobs: options.jobs, ...(options.share === undefined ? {} : { share: options.share }) },
    (done, total, broken) => {
      const now = Date.now();
      if (now - told < TELL_MS) return;
      told = now;
      process.stderr.write(`${done} of ${total} runs, ${broken} broken\n`);
    },
  );
  const report = reportOf(found, (Date.now() - begun) / 1000);
  process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : textOf(report));
  if (report.broken > 0) process.exitCode = EXIT.NO;
}
