import type { RemediationBudget } from "./budget.ts";
import type { ServiceDependency } from "./dependency.ts";
import { CLUSTER_SCOPED } from "./meta.ts";
import { inOrder, pathText, type ParsedResource, type Problem, type ProblemCode } from "./parse.ts";
import type { Budget, PolicySignal, RemediationPolicy, Rung } from "./policy.ts";
import { CAUSES, type Cause } from "./remediation.ts";
import { DEFAULT_STEP_TIMEOUT_MS, stepType, type Runbook, type Step } from "./runbook.ts";
import { nextOpening, openUntil, type Recurrence } from "./schedule.ts";
import { expressionProblems } from "./signal-expression.ts";
import { closest } from "./suggest.ts";
import { durationMs, percentShare, quantityBytes } from "./units.ts";

type Path = readonly PropertyKey[];

/** What a signal of each condition can be diagnosed as. */
const CAUSES_OF: Readonly<Record<string, readonly Cause[]>> = {
  trend: ["MemoryLeak"],
  probe: ["Unresponsive"],
  errorRate: ["HighErrorRate", "DependencyFailure"],
  metric: ["MetricThreshold"],
  promql: ["MetricThreshold"],
  hint: ["RequestedByApplication", "DependencyFailure"],
  log: ["LogPattern", "DependencyFailure"],
  alert: ["Alert"],
  podState: ["CrashLoop", "OutOfMemory", "ImagePull", "ContainerConfig", "StuckTerminating", "Pending", "DependencyFailure"],
  nodeCondition: ["NodeCondition"],
  rollout: ["RolloutStuck"],
  event: ["Event"],
  resource: ["ResourceCondition", "DependencyFailure"],
};

/** A CPU profile samples for this long (see `captureSchema`). */
const CPU_PROFILE_MS = 10_000;

/** How many openings of a window are looked at for a freeze over it: more than a year of weekly ones. */
const OPENINGS = 60;

/** Collects what is wrong with one resource. */
class Report {
  readonly problems: Problem[] = [];
  readonly #of: ParsedResource;

  constructor(of: ParsedResource) {
    this.#of = of;
  }

  #add(severity: Problem["severity"], code: ProblemCode, path: Path, message: string, fix: string | undefined): void {
    this.problems.push({
      code,
      severity,
      ...this.#of.locate(path),
      path: pathText(path),
      message,
      ...(fix === undefined ? {} : { fix }),
    });
  }

  error(code: ProblemCode, path: Path, message: string, fix?: string): void {
    this.#add("error", code, path, message, fix);
  }

  warn(code: ProblemCode, path: Path, message: string, fix?: string): void {
    this.#add("warning", code, path, message, fix);
  }
}

const isZero = (budget: Budget): boolean =>
  typeof budget.maxUnavailable === "number" ? budget.maxUnavailable === 0 : percentShare(budget.maxUnavailable) === 0;

/** When a scheduled budget applies; undefined for one that always does. */
function recurrenceOf(budget: Budget): Recurrence | undefined {
  const { schedule, timeZone, duration } = budget;
  return schedule === undefined || duration === undefined ? undefined : { schedule, timeZone, duration };
}

function causesOf(signals: readonly PolicySignal[]): ReadonlySet<string> {
  return new Set(
    signals.flatMap((signal) =>
      Object.entries(CAUSES_OF).flatMap(([condition, causes]) => (signal[condition as keyof PolicySignal] === undefined ? [] : causes)),
    ),
  );
}

/** Whether a budget is about everything that the policy can come to do. */
function isAboutAll(budget: Budget, causes: ReadonlySet<string>): boolean {
  return budget.reasons === undefined || [...causes].every((cause) => budget.reasons?.includes(cause));
}

/** Whether freezes cover the whole of [from, to), each taking over from another. */
function isCovered(freezes: readonly Recurrence[], from: number, to: number): boolean {
  let at = from;
  while (at < to) {
    const ends = freezes.map((freeze) => openUntil(freeze, at) ?? -Infinity);
    const furthest = Math.max(...ends);
    if (furthest <= at) return false;
    at = furthest;
  }
  return true;
}

/** Whether every one of the next openings of every window lies in a freeze. */
function isFrozen(windows: readonly Recurrence[], freezes: readonly Recurrence[], now: number): boolean {
  let looked = 0;
  for (const window of windows) {
    let at = now;
    for (let i = 0; i < OPENINGS; i += 1) {
      const opening = nextOpening(window, at);
      if (opening === undefined) break;
      if (!isCovered(freezes, opening, opening + durationMs(window.duration))) return false;
      looked += 1;
      at = opening;
    }
  }
  return looked > 0;
}

/** What both kinds of owner can get wrong in a budget. */
function checkBudget(budget: Budget, path: Path, now: number, report: Report): void {
  budget.reasons?.forEach((reason, i) => {
    if ((CAUSES as readonly string[]).includes(reason)) return;
    const meant = closest(reason, CAUSES);
    const fix = `${meant === undefined ? "" : `did you mean ${meant}? `}valid: ${CAUSES.join(", ")}`;
    report.error("INVALID_VALUE", [...path, "reasons", i], `no diagnosis has the cause ${JSON.stringify(reason)}`, fix);
  });
  const recurrence = recurrenceOf(budget);
  if (recurrence !== undefined && nextOpening(recurrence, now) === undefined)
    report.warn("NEVER_OPENS", [...path, "schedule"], "this schedule never comes round again, so the budget never applies");
}

/** Shortest time that a step can take when all goes well (ms). */
function leastTime(step: Step): number {
  if (step.wait !== undefined) return durationMs(step.wait.for);
  return step.capture?.type === "CpuProfile" ? CPU_PROFILE_MS : 0;
}

function checkRunbook(runbook: Runbook, report: Report): void {
  runbook.spec.steps.forEach((step, i) => {
    const path = ["spec", "steps", i];
    const timeout = step.timeout === undefined ? DEFAULT_STEP_TIMEOUT_MS[stepType(step)] : durationMs(step.timeout);
    const least = step.stop === undefined ? leastTime(step) : durationMs(step.stop.gracePeriod);
    if (least >= timeout)
      report.error(
        "RUNG_TOO_SHORT",
        path,
        `the step takes at least ${least / 1000} s, and its timeout is ${timeout / 1000} s`,
        `give the step a timeout longer than ${least / 1000}s`,
      );
    checkScale(step.scale, [...path, "scale"], report);
    checkResize(step.resize, [...path, "resize"], report);
  });
}

function checkResize(resize: Rung["resize"], path: Path, report: Report): void {
  const { by, max } = resize?.memory ?? {};
  if (by !== undefined && max !== undefined && quantityBytes(by) > quantityBytes(max))
    report.error("INVALID_VALUE", [...path, "memory", "by"], `${by} more is always more than max ${max}`, "raise max, or lower by");
}

function checkScale(scale: { by: number; max: number } | undefined, path: Path, report: Report): void {
  if (scale === undefined) return;
  if (scale.max === 1) report.error("INVALID_VALUE", [...path, "max"], "max 1 leaves nothing to scale up to", "give max at least 2");
  else if (scale.by > scale.max)
    report.error("INVALID_VALUE", [...path, "by"], `${scale.by} more is always more than max ${scale.max}`, "raise max, or lower by");
}

function checkRung(rung: Rung, path: Path, namespace: string, runbooks: ReadonlyMap<string, Runbook>, report: Report): void {
  checkScale(rung.scale, [...path, "scale"], report);
  checkResize(rung.resize, [...path, "resize"], report);
  const timeout = durationMs(rung.timeout);
  let least = rung.scale?.for === undefined ? 0 : durationMs(rung.scale.for);
  if (rung.drain !== undefined) least += durationMs(rung.drain.healWithin);
  least += rung.captures.reduce((sum, capture) => sum + (capture.type === "CpuProfile" ? CPU_PROFILE_MS : 0), 0);
  if (rung.runbook !== undefined) {
    const runbook = runbooks.get(`${namespace}/${rung.runbook}`);
    if (runbook === undefined) {
      const inNamespace = [...runbooks.values()].filter((r) => r.metadata.namespace === namespace).map((r) => r.metadata.name);
      const elsewhere = [...runbooks.values()].find((r) => r.metadata.name === rung.runbook);
      const meant = closest(rung.runbook, inNamespace);
      report.error(
        "UNKNOWN_RUNBOOK",
        [...path, "runbook"],
        `there is no Runbook ${rung.runbook} in namespace ${namespace}`,
        elsewhere !== undefined
          ? `the one in namespace ${elsewhere.metadata.namespace} cannot be reached from here: copy it`
          : meant !== undefined
            ? `did you mean ${meant}?`
            : "check the file that has it together with this one",
      );
      return;
    }
    least += runbook.spec.steps.reduce((sum, step) => sum + leastTime(step), 0);
  }
  if (least >= timeout && least > 0)
    report.error(
      "RUNG_TOO_SHORT",
      [...path, "timeout"],
      `the steps take at least ${least / 1000} s, and the rung's timeout is ${rung.timeout}`,
      `give the rung a timeout longer than ${least / 1000}s`,
    );
}

function checkSignal(signal: PolicySignal, path: Path, report: Report): void {
  for (const { path: of, line, column, message } of expressionProblems(signal))
    report.error("INVALID_EXPRESSION", [...path, ...of], `at ${line}:${column} of the expression: ${message}`);
  if (signal.errorRate !== undefined && percentShare(signal.errorRate.above) >= 1)
    report.error("CANNOT_FIRE", [...path, "errorRate", "above"], "no share of requests is above 100%", "write a lower percentage");
  if (signal.trend !== undefined && durationMs(signal.trend.horizon) > durationMs(signal.trend.window))
    report.warn(
      "CANNOT_FIRE",
      [...path, "trend", "horizon"],
      `the trend of ${signal.trend.window} says little about the next ${signal.trend.horizon}`,
      `look at a window of at least ${signal.trend.horizon}, or act on a nearer horizon`,
    );
}

/** One hint is one signal's: the first of the policy that it is for. */
function checkHints(signals: readonly PolicySignal[], report: Report): void {
  signals.forEach(({ hint }, i) => {
    if (hint === undefined) return;
    const { action, saturationType } = hint;
    const earlier = signals.slice(0, i).find(({ hint: other }) => {
      if (other?.action !== action) return false;
      return other.saturationType === undefined || saturationType === undefined || other.saturationType === saturationType;
    });
    if (earlier === undefined) return;
    report.warn(
      "OVERLAPPING_SIGNALS",
      ["spec", "signals", i, "hint"],
      `a hint for ${action} may be for this signal and for ${earlier.name}, which stands first and takes it`,
      "make one signal of the two, or give each a saturationType of its own",
    );
  });
}

function checkPolicy(policy: RemediationPolicy, all: All, now: number, report: Report): void {
  const { spec, metadata } = policy;
  spec.signals.forEach((signal, i) => checkSignal(signal, ["spec", "signals", i], report));
  checkHints(spec.signals, report);
  spec.ladder.forEach((rung, i) => checkRung(rung, ["spec", "ladder", i], metadata.namespace, all.runbooks, report));
  spec.budgets.forEach((budget, i) => checkBudget(budget, ["spec", "budgets", i], now, report));
  const causes = causesOf(spec.signals);

  // What can never act is refused when it is written, not noticed when it was needed.
  const freezes: Recurrence[] = [];
  let never = false;
  spec.budgets.forEach((budget, i) => {
    if (!isZero(budget) || !isAboutAll(budget, causes)) return;
    const recurrence = recurrenceOf(budget);
    if (recurrence !== undefined) freezes.push(recurrence);
    const always = recurrence === undefined || openUntil(recurrence, nextOpening(recurrence, now) ?? now) === Infinity;
    if (!always) return;
    never = true;
    report.error(
      "IMPOSSIBLE_BUDGET",
      ["spec", "budgets", i],
      `maxUnavailable ${budget.maxUnavailable} ${recurrence === undefined ? "without a schedule" : "on a schedule without a gap"} forbids every action, always`,
      "allow at least 1, or give it a schedule and duration to freeze for a time; to watch only, use mode: Observe",
    );
  });
  if (!never && spec.windows !== undefined) {
    const own = isFrozen(spec.windows, freezes, now);
    const theirs = all.budgets
      .filter(({ spec: { namespaces } }) => namespaces === undefined || namespaces.includes(metadata.namespace))
      .flatMap(({ spec: { budgets } }) => budgets.filter((budget) => isZero(budget) && isAboutAll(budget, causes)))
      .flatMap((budget) => recurrenceOf(budget) ?? []);
    if (own)
      report.error("ALWAYS_FROZEN", ["spec", "windows"], "the policy's own budgets freeze every one of these windows", "move the windows");
    else if (isFrozen(spec.windows, [...freezes, ...theirs], now))
      report.warn("ALWAYS_FROZEN", ["spec", "windows"], "a RemediationBudget freezes every one of these windows", "move the windows");
  }

  const opens = spec.windows?.map((window) => nextOpening(window, now) !== undefined);
  opens?.forEach((does, i) => {
    if (does) return;
    const say = opens.includes(true) ? report.warn.bind(report) : report.error.bind(report);
    say("NEVER_OPENS", ["spec", "windows", i, "schedule"], "this schedule never comes round again, so the window never opens");
  });

  if (spec.budgets.every((budget) => budget.schedule !== undefined || !isAboutAll(budget, causes)))
    report.warn(
      "UNBUDGETED",
      ["spec", "budgets"],
      "each of these budgets applies only at times, or to some causes; otherwise nothing limits the policy",
      "add one without schedule and reasons, such as maxUnavailable: 1",
    );

  const stableFor = durationMs(spec.verify.stableFor);
  const verifyTimeout = durationMs(spec.verify.timeout);
  spec.ladder.forEach(({ verify }, i) => {
    if (verify === undefined) return;
    const own = { ...spec.verify, ...verify };
    if (durationMs(own.timeout) <= durationMs(own.stableFor))
      report.error(
        "NEVER_VERIFIES",
        ["spec", "ladder", i, "verify"],
        `after ${own.timeout} verification ends, and the target must be well for ${own.stableFor}`,
        `give the rung's verify.timeout more than ${own.stableFor}`,
      );
  });
  if (verifyTimeout <= stableFor)
    report.error(
      "NEVER_VERIFIES",
      ["spec", "verify", "timeout"],
      `after ${spec.verify.timeout} verification ends, and the target must be well for ${spec.verify.stableFor}`,
      `give verify.timeout more than ${spec.verify.stableFor}`,
    );

  const cooldown = durationMs(spec.cooldown);
  if (cooldown < stableFor)
    report.warn(
      "NO_REST",
      ["spec", "cooldown"],
      `a cooldown of ${spec.cooldown} is shorter than the ${spec.verify.stableFor} it takes to see that something helped`,
      `give cooldown at least ${spec.verify.stableFor}`,
    );
  const window = durationMs(spec.attempts.window);
  if (spec.attempts.reset !== undefined && durationMs(spec.attempts.reset) < window)
    report.warn(
      "NO_REST",
      ["spec", "attempts", "reset"],
      "the circuit closes while the strikes that opened it are still in the window: one more opens it again",
      `give attempts.reset at least ${spec.attempts.window}`,
    );
  // A strike takes a verification that failed; after the last rung of a ladder comes a cooldown.
  const between = spec.attempts.max - 1;
  if (between * verifyTimeout + Math.floor(between / spec.ladder.length) * cooldown >= window)
    report.warn(
      "CIRCUIT_NEVER_OPENS",
      ["spec", "attempts", "window"],
      `${spec.attempts.max} attempts that do not help take longer than ${spec.attempts.window}, so they never add up and go on for ever`,
      "lengthen attempts.window, or shorten cooldown or verify.timeout",
    );
}

function checkRemediationBudget(budget: RemediationBudget, now: number, report: Report): void {
  budget.spec.budgets.forEach((entry, i) => {
    const path = ["spec", "budgets", i];
    checkBudget(entry, path, now, report);
    if (isZero(entry) && entry.schedule === undefined && entry.reasons === undefined)
      report.warn(
        "IMPOSSIBLE_BUDGET",
        path,
        `maxUnavailable ${entry.maxUnavailable} without a schedule forbids every action, always`,
        "if that is meant, spec.paused says so and why; else give it a schedule and duration",
      );
  });
  if (budget.spec.maxConcurrent === 0)
    report.warn(
      "IMPOSSIBLE_BUDGET",
      ["spec", "maxConcurrent"],
      "maxConcurrent 0 forbids every action, always",
      "if that is meant, spec.paused says so and why",
    );
}

const serviceKey = (dependency: ServiceDependency, end: "from" | "to"): string =>
  `${dependency.spec[end].namespace ?? dependency.metadata.namespace}/${dependency.spec[end].name}`;

function checkDependency(dependency: ServiceDependency, all: All, report: Report): void {
  const [from, to] = [serviceKey(dependency, "from"), serviceKey(dependency, "to")];
  if (from === to) return report.error("DEPENDENCY_CYCLE", ["spec", "to"], `${to} depends on itself`, "name what it calls");
  const seen = new Set<string>();
  const open = [to];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (at === from)
      return report.warn(
        "DEPENDENCY_CYCLE",
        ["spec", "to"],
        `${from} and ${to} depend on each other in a circle: when both fail, each is taken for the other's cause`,
        "leave out the edge that is the weaker",
      );
    if (seen.has(at)) continue;
    seen.add(at);
    open.push(...(all.edges.get(at) ?? []));
  }
}

interface All {
  readonly runbooks: ReadonlyMap<string, Runbook>;
  readonly budgets: readonly RemediationBudget[];
  readonly edges: ReadonlyMap<string, readonly string[]>;
}

/**
 * What is wrong with resources that are each well-formed: names taken twice, runbooks that are not there, limits under
 * which nothing can ever happen, times that cannot hold together. `now` (ms) is where schedules are looked at from.
 */
export function checkResources(parsed: readonly ParsedResource[], now: number): Problem[] {
  const runbooks = new Map<string, Runbook>();
  const budgets: RemediationBudget[] = [];
  const edges = new Map<string, string[]>();
  const first = new Map<string, ParsedResource>();
  const problems: Problem[] = [];
  for (const item of parsed) {
    const { resource } = item;
    const { name, namespace } = resource.metadata;
    const key = `${resource.kind} ${CLUSTER_SCOPED.has(resource.kind) ? name : `${namespace}/${name}`}`;
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, item);
    else {
      const report = new Report(item);
      report.error(
        "DUPLICATE_NAME",
        ["metadata", "name"],
        `${key} stands at ${earlier.at.file}:${earlier.at.line} already`,
        "rename one of them",
      );
      problems.push(...report.problems);
    }
    if (resource.kind === "Runbook") runbooks.set(`${namespace}/${name}`, resource);
    if (resource.kind === "RemediationBudget") budgets.push(resource);
    if (resource.kind === "ServiceDependency") {
      const from = serviceKey(resource, "from");
      edges.set(from, [...(edges.get(from) ?? []), serviceKey(resource, "to")]);
    }
  }
  const all: All = { runbooks, budgets, edges };
  for (const item of parsed) {
    const report = new Report(item);
    const { resource } = item;
    if (resource.kind === "RemediationPolicy") checkPolicy(resource, all, now, report);
    else if (resource.kind === "Runbook") checkRunbook(resource, report);
    else if (resource.kind === "RemediationBudget") checkRemediationBudget(resource, now, report);
    else checkDependency(resource, all, report);
    problems.push(...report.problems);
  }
  return inOrder(problems);
}
