import { type BaseScenario, BASE_SCENARIOS } from "./base-scenarios.ts";
import { type Perturbation, PERTURBATIONS, perturbationText, type Point, type PointKind } from "./points.ts";
import { inThreads } from "./pool.ts";
import type { Truth, Violation } from "./rules/rule.ts";
import { type RunOptions, type RunResult, runScenario } from "./run.ts";
import { isClosed } from "./world.ts";

/** A base scenario without a perturbation. */
export interface Reference {
  readonly points: readonly Point[];
  /** What the cluster is like when the faults stop. */
  readonly end: string;
  /** Rules that it breaks itself. */
  readonly violations: readonly Violation[];
}

/** One that does not end as its reference does is told as a rule of this name. */
export const SAME_END = "E1";

/** Plays a base scenario without a perturbation, and numbers its points. */
export async function reference({ scenario }: BaseScenario, options: RunOptions = {}): Promise<Reference> {
  const points: Point[] = [];
  let end = "";
  const { violations } = await runScenario(scenario, {
    ...options,
    onPoint: (point) => void points.push(point),
    onFaultsStop: (truth) => void (end = endOf(truth)),
  });
  return { points, end, violations };
}

/**
 * Plays a base scenario with one of its points perturbed. Besides the rules it is asked whether it ends as its reference:
 * whatever is crashed, lost, late or stale once, the cluster is in the same state when it is over.
 */
export async function runPerturbed(
  { scenario }: BaseScenario,
  { end }: Pick<Reference, "end">,
  perturbation: Perturbation,
  options: RunOptions = {},
): Promise<RunResult> {
  let ended: string | undefined;
  const result = await runScenario(scenario, {
    ...options,
    perturbation,
    onFaultsStop: (truth) => void (ended = endOf(truth)),
  });
  if (result.violations.length > 0 || ended === end) return result;
  const message = `ends with ${ended ?? "nothing"}, and without the perturbation with ${end}`;
  return { ...result, violations: [{ rule: SAME_END, message, at: scenario.faultsUntil }] };
}

/** What healing is about: who serves, who is ill, and what was changed for a while only. */
function endOf({ world }: Truth): string {
  const closed = world.nodes.filter((node) => isClosed(node)).map(({ name }) => `${name} closed`);
  const each = world.workloads.map(({ spec, desired, floor, limitBytes, revision, bad, pods }) => {
    const serving = pods.filter(({ phase, ready, removed }) => phase === "Running" && ready && !removed).length;
    const ill = pods.filter(({ illness }) => illness !== undefined).length;
    const limits = [limitBytes, ...pods.map((pod) => pod.limitBytes).toSorted((a, b) => a - b)].map((bytes) => bytes / 2 ** 20).join(" ");
    return `${spec.name}: ${serving} of ${desired} serve, ${ill} ill, floor ${floor}, limits ${limits}${bad.has(revision) ? ", a bad revision" : ""}`;
  });
  return [...each, ...closed].join("; ");
}

/** Every way to perturb every point. A read that nothing older is known of has no stale answer. */
export function perturbationsOf(points: readonly Point[]): Perturbation[] {
  return points.flatMap(({ kind, number, isFirst }) =>
    kind === "read" && isFirst ? [] : PERTURBATIONS[kind].map((how) => ({ kind, number, how })),
  );
}

/** One of so many shares: together they are the whole, and each has some of every scenario, kind and way. */
export interface Share {
  /** From 1. */
  readonly part: number;
  readonly of: number;
}

export function shareOf(perturbations: readonly Perturbation[], { part, of }: Share): Perturbation[] {
  return perturbations.filter(({ kind, number, how }) => {
    const way = (PERTURBATIONS[kind] as readonly string[]).indexOf(how);
    return (number + way) % of === part % of;
  });
}

/** A perturbation that breaks a rule. */
export interface Broken extends Violation {
  readonly scenario: string;
  readonly perturbation: Perturbation;
  /** What it befalls. */
  readonly what: string;
}

/** What came of one base scenario. */
export interface ScenarioTally {
  readonly scenario: string;
  readonly points: Readonly<Record<PointKind, number>>;
  /** Ways to perturb them, which is how many runs the whole has. */
  readonly whole: number;
  /** Of these, how many were played. */
  readonly runs: number;
  readonly broken: number;
  readonly simulatedSeconds: number;
}

/** What came of all. */
export interface Exhaustive {
  readonly scenarios: readonly ScenarioTally[];
  readonly broken: readonly Broken[];
}

/** What a thread does at a time: so many perturbations of one base scenario. */
export interface Task {
  readonly scenario: string;
  readonly end: string;
  readonly perturbations: readonly Perturbation[];
}

export interface TaskResult {
  readonly scenario: string;
  readonly runs: number;
  readonly simulatedMs: number;
  readonly broken: readonly { readonly perturbation: Perturbation; readonly violation: Violation }[];
}

/** Runs that a thread is sent at a time. */
const CHUNK = 12;

/** Does a task. @throws RangeError where a point did not come: then a run is not the same twice, which is a bug. */
export async function perform({ scenario, end, perturbations }: Task, options: RunOptions = {}): Promise<TaskResult> {
  const base = baseScenario(scenario);
  if (base === undefined) throw new RangeError(`there is no base scenario ${scenario}`);
  const broken: { perturbation: Perturbation; violation: Violation }[] = [];
  let simulatedMs = 0;
  for (const perturbation of perturbations) {
    const result = await runPerturbed(base, { end }, perturbation, options);
    if (!result.isPerturbed) throw new RangeError(`${scenario}: ${perturbationText(perturbation)} did not come`);
    simulatedMs += result.simulatedMs;
    const [violation] = result.violations;
    if (violation !== undefined) broken.push({ perturbation, violation });
  }
  return { scenario, runs: perturbations.length, simulatedMs, broken };
}

export function baseScenario(name: string): BaseScenario | undefined {
  return BASE_SCENARIOS.find((each) => each.name === name);
}

/**
 * Plays base scenarios with every way to perturb every point, or a share of them, in `jobs` threads.
 * @param progress told after each chunk how many runs are done, of how many, and how many broke a rule.
 */
export async function exhaust(
  bases: readonly BaseScenario[],
  { jobs, share = { part: 1, of: 1 } }: { readonly jobs: number; readonly share?: Share },
  progress: (done: number, total: number, broken: number) => void,
): Promise<Exhaustive> {
  const tasks: Task[] = [];
  const tallies = new Map<string, ScenarioTally>();
  const whats = new Map<string, string>();
  const broken: Broken[] = [];
  for (const base of bases) {
    const { name } = base;
    const { points, end, violations } = await reference(base);
    const all = perturbationsOf(points);
    const counts: Record<PointKind, number> = { write: 0, event: 0, read: 0 };
    for (const { kind, number, what } of points) {
      counts[kind] += 1;
      whats.set(`${name} ${kind} ${number}`, what);
    }
    tallies.set(name, { scenario: name, points: counts, whole: all.length, runs: 0, broken: 0, simulatedSeconds: 0 });
    if (violations.length > 0)
      throw new RangeError(`${name} breaks ${violations[0]?.rule ?? ""} by itself: ${violations[0]?.message ?? ""}`);
    const mine = shareOf(all, share);
    for (let i = 0; i < mine.length; i += CHUNK) tasks.push({ scenario: name, end, perturbations: mine.slice(i, i + CHUNK) });
  }
  const total = tasks.reduce((sum, { perturbations }) => sum + perturbations.length, 0);
  let done = 0;
  await inThreads(
    "exhaustive-worker",
    Math.min(jobs, tasks.length),
    () => tasks.shift(),
    (answer) => {
      const result = answer as TaskResult;
      const { scenario } = result;
      const tally = tallies.get(scenario) as ScenarioTally;
      tallies.set(scenario, {
        ...tally,
        runs: tally.runs + result.runs,
        broken: tally.broken + result.broken.length,
        simulatedSeconds: tally.simulatedSeconds + result.simulatedMs / 1000,
      });
      for (const { perturbation, violation } of result.broken)
        broken.push({
          ...violation,
          scenario,
          perturbation,
          what: whats.get(`${scenario} ${perturbation.kind} ${perturbation.number}`) ?? "",
        });
      done += result.runs;
      progress(done, total, broken.length);
    },
  );
  const order = (each: Broken): string =>
    `${[...tallies.keys()].indexOf(each.scenario)} ${each.perturbation.kind} ${String(each.perturbation.number).padStart(9)} ${each.perturbation.how}`;
  return { scenarios: [...tallies.values()], broken: broken.toSorted((a, b) => (order(a) < order(b) ? -1 : 1)) };
}
