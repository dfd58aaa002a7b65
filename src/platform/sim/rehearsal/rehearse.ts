import { unsupported } from "../../../act/plan.ts";
import type { Cluster } from "../../../api/cluster.ts";
import type { Budget, RemediationPolicy } from "../../../api/policy.ts";
import type { Attempt, Remediation } from "../../../api/remediation.ts";
import { timeMs } from "../../../api/time.ts";
import { percentShare } from "../../../api/units.ts";
import { SIM_EFFECTS } from "../effects.ts";
import { SIM_REPORTS } from "../platform.ts";
import { RULES } from "../rules/index.ts";
import type { Truth } from "../rules/rule.ts";
import { runScenario } from "../run.ts";
import { workloadKey, type WorkloadSpec } from "../scenario.ts";
import { type Cast, cast, type CastFault, type CastRequest, coveringOf, policiesOf, poolKeyOf } from "./cast.ts";
import { Observer, type Unavailability } from "./observer.ts";
import type { Result } from "./scenario-file.ts";
import { befallsSomebody, couldHear, heardBy, listensTo, type Naming, namingsOf, shownBy } from "./symptoms.ts";

/** How near to each other two policies act on one workload to be told as fighting (ms). */
const NEAR_MS = 15 * 60_000;

/** What came of one fault on one workload. */
export interface FaultReport {
  readonly kind: string;
  readonly workload: string;
  /** It is ill of what it calls, not of itself. */
  readonly through?: true;
  readonly result: Result;
  /** Seconds from the fault's beginning to the result, where that has a moment. */
  readonly afterSeconds?: number;
  /** Policies that took part, and what they did or would have done: `shop/leak: RestartPod`. */
  readonly by: readonly string[];
  /** Why, in a sentence. */
  readonly why: string;
}

/** What a gate held back. */
export interface HeldBack {
  readonly gate: string;
  readonly policy: string;
  readonly workload: string;
  /** Seconds since the beginning, of the first time. */
  readonly at: number;
  /** How often it was put on record. */
  readonly times: number;
  /** What the gate said first. */
  readonly message: string;
}

/** Two policies at one workload. */
export interface Conflict {
  readonly workload: string;
  readonly policies: readonly [string, string];
  readonly message: string;
}

/** What came of a scenario on one target. */
export interface RehearsalReport {
  readonly scenario: string;
  readonly description: string;
  readonly target: string;
  readonly simulatedSeconds: number;
  readonly faults: readonly FaultReport[];
  /** Workloads that a fault befell too, and that no policy covers. */
  readonly uncovered: readonly string[];
  /** Of the workloads that were unavailable, or are the target. */
  readonly unavailable: readonly {
    readonly workload: string;
    readonly desired: number;
    readonly most: number;
    readonly throughNightshift: number;
    /** Seconds since the beginning. */
    readonly at: number;
    /** The strictest limit that always holds; none where nothing covers it. */
    readonly budget?: { readonly allowed: number; readonly source: string };
  }[];
  readonly heldBack: readonly HeldBack[];
  readonly conflicts: readonly Conflict[];
  readonly pages: readonly { readonly at: number; readonly summary: string }[];
  /** What Nightshift changed in the cluster as long as the scenario lasted, in this order: the type of the effect, and the verb of each of its writes. */
  readonly effects: readonly { readonly at: number; readonly workload: string; readonly type: string; readonly verb: string }[];
  /** Rules of the design that were broken: a bug in Nightshift. */
  readonly violations: readonly { readonly rule: string; readonly message: string; readonly at: number }[];
  /** Expectations of the scenario that were not met. */
  readonly unmet: readonly string[];
}

/** What is asked for. */
export interface RehearsalRequest extends CastRequest {
  readonly name: string;
  readonly trace?: (line: string) => void;
}

/** Plays a scenario with users' policies. Throws `NOT_PLAYABLE` where the cluster has not what it speaks of. */
export async function rehearse(request: RehearsalRequest): Promise<RehearsalReport> {
  const { file, cluster, name } = request;
  const played = cast(request);
  const observer = new Observer();
  const { violations, simulatedMs } = await runScenario(played.scenario, {
    rules: [...RULES, observer],
    keepGoing: true,
    ...(request.trace === undefined ? {} : { trace: request.trace }),
  });
  const look = new Look(played, observer, cluster, namingsOf(file, request.namings));
  const perFault = played.faults.map((fault) => ({ fault, reports: look.faults(fault) }));
  const found = { pages: look.pages(), unavailable: look.unavailable(), effects: look.effects() };
  return {
    scenario: name,
    description: file.description,
    target: played.target,
    simulatedSeconds: Math.round(simulatedMs / 1000),
    faults: perFault.flatMap(({ reports }) => reports),
    uncovered: [...new Set(played.faults.flatMap((fault) => look.uncovered(fault)))],
    ...found,
    heldBack: look.heldBack(),
    conflicts: look.conflicts(),
    violations: violations.map(({ rule, message, at }) => ({ rule, message, at: at / 1000 })),
    unmet: unmet(request, perFault, found, (workload) => look.covering(workload).length > 0),
  };
}

/** What policies of a rehearsal cannot take part in it, or hear nothing of it, whatever the scenario. */
export function remarks({
  cluster,
  resources: { policies, runbooks },
  namings,
}: Pick<RehearsalRequest, "cluster" | "resources" | "namings">): string[] {
  const found: string[] = [];
  const runbook = (namespace: string, name: string): (typeof runbooks)[number] | undefined =>
    runbooks.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
  for (const policy of policies) {
    const key = policyKey(policy);
    for (const error of unsupported(policy, runbook, { name: "sim", effects: SIM_EFFECTS, reports: SIM_REPORTS }))
      found.push(`${key} takes no part: ${error.message}, which the simulator does not play`);
    const pool = poolKeyOf([policy]);
    const isOfNodes = pool !== undefined && coveringOf(cluster, pool, [policy]).length > 0;
    if (!isOfNodes && !cluster.workloads.some((workload) => policiesOf(workload, [policy]).length > 0))
      found.push(`${key} covers no workload of the cluster`);
    for (const signal of policy.spec.signals) {
      if (heardBy(signal, namings) !== undefined) continue;
      const unheard =
        signal.podState === undefined && signal.nodeCondition === undefined
          ? `and nothing says what that stands for: --map SYMPTOM=${signal.alert?.alertname ?? signal.metric?.name ?? signal.trend?.metric ?? signal.name}`
          : "which the simulator does not play";
      found.push(`${key} listens to ${listensTo(signal)} (signal ${signal.name}), ${unheard}`);
    }
  }
  return found;
}

const policyKey = ({ metadata }: Pick<RemediationPolicy, "metadata">): string => `${metadata.namespace}/${metadata.name}`;

/** What happened, looked at from its end. */
class Look {
  readonly #cast: Cast;
  readonly #observer: Observer;
  readonly #truth: Truth;
  readonly #cluster: Cluster;
  readonly #namings: readonly Naming[];
  readonly #episodes: readonly Remediation[];
  readonly #beginning: number;

  constructor(played: Cast, observer: Observer, cluster: Cluster, namings: readonly Naming[]) {
    this.#cast = played;
    this.#observer = observer;
    this.#truth = observer.truth;
    this.#cluster = cluster;
    this.#namings = namings;
    this.#episodes = this.#truth.api.list("Remediation");
    this.#beginning = played.scenario.startsAt ?? 0;
  }

  /** Policies that cover a workload, as they were rehearsed. */
  covering(workload: string): RemediationPolicy[] {
    return coveringOf(this.#cluster, workload, this.#cast.scenario.policies);
  }

  /** What came of a fault: on the target, and on every other workload that it befell and a policy covers. */
  faults(fault: CastFault): FaultReport[] {
    // What shows nothing, such as a mark, is a circumstance of other faults.
    if (!befallsSomebody(fault.file.kind)) return [];
    return [
      ...fault.befallen.flatMap((workload) => (this.#isTold(workload) ? [this.#fault(fault, workload, false)] : [])),
      ...fault.through.map((workload) => this.#fault(fault, workload, true)),
    ];
  }

  uncovered({ file, befallen }: CastFault): string[] {
    return befallsSomebody(file.kind) ? befallen.filter((workload) => !this.#isTold(workload)) : [];
  }

  #isTold(workload: string): boolean {
    return workload === this.#cast.target || this.covering(workload).length > 0;
  }

  #fault(fault: CastFault, workload: string, through: boolean): FaultReport {
    const [from, until] = [this.#beginning + fault.at, this.#beginning + fault.until];
    // A fault that comes later on the same workload has what begins from then on.
    const later = this.#cast.faults
      .filter((other) => other.at > fault.at && [...other.befallen, ...other.through].includes(workload))
      .map(({ at }) => this.#beginning + at);
    const end = Math.min(until, ...later);
    const within = (at: number): boolean => at >= from && at <= end;
    const episodes = this.#episodes.filter((each) => keyOf(each) === workload && within(createdAt(each)));
    const common = {
      kind: fault.file.kind,
      workload,
      ...(through ? { through: true as const } : {}),
      by: [...new Set(episodes.map((episode) => told(episode, until)))],
    };
    const after = (at: number): { readonly afterSeconds: number } => ({ afterSeconds: Math.round((at - from) / 1000) });
    const names = new Set(episodes.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
    const held = this.#holds().filter((hold) => hold.workload === workload && within(hold.at));
    const inStorm = held.some(({ gate }) => gate === "StormBrake");
    const page = this.#truth.pages.find(
      ({ page: { severity, remediation, dedupKey }, at }) =>
        severity === "Page" && within(at) && (names.has(remediation) || (inStorm && dedupKey.startsWith("storm/"))),
    );
    if (page !== undefined) return { ...common, result: "Escalated", ...after(page.at), why: page.page.summary };
    // What is begun only when the fault is over, as its circumstances end with it, is no answer to it.
    const acted = episodes.filter(({ status }) => status.attempts.some((attempt) => startOf(attempt) < end));
    const healed = acted.find(({ status }) => status.outcome === "Remediated");
    if (healed !== undefined) return { ...common, result: "Healed", ...after(timeMs(healed.status.endedAt ?? "")), why: whyOf(healed) };
    const observed = episodes.find(({ status }) => status.outcome === "Observed");
    if (observed !== undefined)
      return { ...common, result: "Observed", ...after(createdAt(observed)), why: observed.spec.diagnosis.summary };
    const [tried] = acted;
    if (tried !== undefined) return { ...common, result: "Failed", why: whyOf(tried) };
    const [first] = held;
    if (first !== undefined) return { ...common, result: "HeldBack", by: [first.policy], why: `${first.gate}: ${first.message}` };
    const recovered = episodes.find(({ status }) => status.outcome === "SelfRecovered");
    if (recovered !== undefined)
      return { ...common, result: "Recovered", ...after(timeMs(recovered.status.endedAt ?? "")), why: whyOf(recovered) };
    return { ...common, ...this.#untouched(fault, workload, through) };
  }

  /** Why nothing came of a fault. */
  #untouched({ file }: CastFault, workload: string, through: boolean): Pick<FaultReport, "result" | "why"> {
    const covering = this.covering(workload);
    const shown = through ? (["Errors"] as const) : shownBy(file);
    if (shown.length === 0) return { result: "Untouched", why: "no alert came to be acted on" };
    const hearing = covering.filter(({ spec }) =>
      spec.signals.some((signal) => shown.some((symptom) => symptom === heardBy(signal, this.#namings))),
    );
    if (hearing.length > 0)
      return { result: "Untouched", why: `${hearing.map(policyKey).join(", ")} listens to it, and its signals did not fire` };
    const wanted = shown.map(couldHear).join(" or ");
    if (covering.length === 0) return { result: "Unheard", why: `no policy covers ${workload}: a person would be left alone with it` };
    const listening = covering.flatMap(({ spec }) => spec.signals.map(listensTo));
    return {
      result: "Unheard",
      why: `no policy of ${workload} listens to ${wanted}: a person would be left alone with it. What is listened to: ${[...new Set(listening)].join(", ")}`,
    };
  }

  pages(): RehearsalReport["pages"] {
    return this.#truth.pages
      .filter(({ page }) => page.severity === "Page")
      .map(({ page, at }) => ({ at: this.#seconds(at), summary: page.summary }));
  }

  /** What is done when all circumstances have ended with the scenario is no part of it. */
  effects(): RehearsalReport["effects"] {
    const end = this.#beginning + this.#cast.scenario.faultsUntil;
    return this.#observer.effects.flatMap((effect) => (effect.at < end ? [{ ...effect, at: this.#seconds(effect.at) }] : []));
  }

  /** Every decision on record that a gate held something back. */
  #holds(): (Omit<HeldBack, "times"> & { readonly at: number })[] {
    return this.#truth.records.flatMap(({ at, record: { type, policy = "", target = "", data, message } }) => {
      if (type !== "Decision" || data?.["action"] === "Act" || data?.["action"] === "Observe") return [];
      const gate = typeof data?.["reason"] === "string" ? data["reason"] : undefined;
      const workload = this.#observer.workloadOf.get(target);
      if (gate === undefined || workload === undefined) return [];
      return [{ gate, policy, workload, at, message: message.replace(`no action: ${gate}: `, "") }];
    });
  }

  heldBack(): HeldBack[] {
    const groups = Map.groupBy(this.#holds(), ({ gate, policy, workload }) => `${gate} ${policy} ${workload}`);
    return [...groups.values()].flatMap((all) => {
      const [first] = all;
      return first === undefined ? [] : [{ ...first, at: this.#seconds(first.at), times: all.length }];
    });
  }

  conflicts(): Conflict[] {
    const found = new Map<string, Conflict>();
    const put = (workload: string, a: string, b: string, message: string): void => {
      const [first, second] = a < b ? [a, b] : [b, a];
      const key = `${workload} ${first} ${second}`;
      if (!found.has(key)) found.set(key, { workload, policies: [first, second], message });
    };
    const acts = this.#episodes
      .filter(({ spec }) => spec.mode !== "Observe")
      .flatMap((episode) =>
        episode.status.attempts.map((attempt) => ({ episode, attempt, workload: keyOf(episode), policy: owner(episode) })),
      )
      .toSorted((a, b) => startOf(a.attempt) - startOf(b.attempt));
    for (const [i, one] of acts.entries())
      for (const other of acts.slice(i + 1)) {
        if (one.workload !== other.workload || one.policy === other.policy) continue;
        const gap = startOf(other.attempt) - startOf(one.attempt);
        if (gap > NEAR_MS) continue;
        const seconds = Math.round(gap / 1000);
        put(
          one.workload,
          one.policy,
          other.policy,
          `${one.policy} began ${one.attempt.what}, and ${other.policy} ${other.attempt.what} ${seconds} s later`,
        );
      }
    for (const { gate, workload, policy, at, message } of this.#holds()) {
      if (gate !== "InProgress") continue;
      const other = acts.find(
        (act) => act.workload === workload && act.policy !== policy && startOf(act.attempt) <= at && endOf(act.episode) >= at,
      );
      if (other !== undefined)
        put(workload, other.policy, policy, `while ${other.policy} was at ${other.attempt.what}, ${policy} was held back: ${message}`);
    }
    return [...found.values()];
  }

  unavailable(): RehearsalReport["unavailable"] {
    const entries = [...this.#observer.unavailable].filter(
      ([key, { most, throughUs }]) => key === this.#cast.target || throughUs > 0 || (most > 0 && this.covering(key).length > 0),
    );
    return entries.map(([workload, { desired, most, at, throughUs }]: [string, Unavailability]) => {
      const budget = this.#budget(workload);
      return {
        workload,
        desired,
        most,
        throughNightshift: throughUs,
        at: this.#seconds(at),
        ...(budget === undefined ? {} : { budget }),
      };
    });
  }

  /** The strictest limit of a workload that no schedule and no cause narrows. */
  #budget(workload: string): { readonly allowed: number; readonly source: string } | undefined {
    const spec = this.#cast.scenario.workloads.find((each) => workloadKey(each) === workload);
    if (spec === undefined) return undefined;
    const { minAvailable, replicas, namespace = "" } = spec;
    const of = (budgets: readonly Budget[], source: string): { allowed: number; source: string }[] =>
      budgets.flatMap((budget) =>
        budget.schedule === undefined && budget.reasons === undefined ? [{ allowed: allowedBy(budget, spec), source }] : [],
      );
    const limits = [
      ...this.covering(workload).flatMap((policy) => of(policy.spec.budgets, `policy ${policyKey(policy)}`)),
      ...this.#cast.scenario.budgets.flatMap(({ metadata, spec: own }) =>
        own.namespaces?.includes(namespace) === false ? [] : of(own.budgets, `RemediationBudget ${metadata.name}`),
      ),
      ...(minAvailable === undefined ? [] : [{ allowed: Math.max(0, replicas - minAvailable), source: "its PodDisruptionBudget" }]),
    ];
    return limits.toSorted((a, b) => a.allowed - b.allowed)[0];
  }

  #seconds(at: number): number {
    return Math.round((at - this.#beginning) / 1000);
  }
}

/** Most replicas of a workload that a budget lets be unavailable. */
function allowedBy({ maxUnavailable, whenRoundsToZero }: Budget, { replicas }: WorkloadSpec): number {
  if (typeof maxUnavailable === "number") return maxUnavailable;
  const whole = Math.floor(percentShare(maxUnavailable) * replicas + 1e-9);
  return whole === 0 && percentShare(maxUnavailable) > 0 && whenRoundsToZero === "AllowOne" ? 1 : whole;
}

/** When an episode was begun: `startedAt` of its spec is when what it is about began. */
const createdAt = ({ metadata }: Remediation): number => timeMs(metadata.creationTimestamp ?? "");
const keyOf = ({ spec }: Remediation): string => workloadKey(spec.workload);
const owner = ({ metadata, spec }: Remediation): string => `${metadata.namespace}/${spec.policy.name}`;
const startOf = ({ startedAt }: Attempt): number => timeMs(startedAt);
const endOf = ({ status }: Remediation): number => (status.endedAt === undefined ? Infinity : timeMs(status.endedAt));

/** An episode as it is told: whose it is, and what was done until then (ms). */
function told(episode: Remediation, until: number): string {
  const { spec, status } = episode;
  const done = status.attempts.filter((attempt) => startOf(attempt) <= until).map(({ what }) => what);
  const first = spec.ladder[0];
  const what =
    done.length > 0 ? done.join(", then ") : spec.mode === "Observe" ? `would ${first?.strategy ?? first?.runbook ?? ""}` : "nothing done";
  return `${owner(episode)}: ${what}`;
}

const whyOf = ({ status, spec }: Remediation): string => status.message ?? spec.diagnosis.summary;

/** What a scenario expects and did not come about. */
function unmet(
  { file, target }: Pick<RehearsalRequest, "file" | "target">,
  perFault: readonly { readonly fault: CastFault; readonly reports: readonly FaultReport[] }[],
  found: Pick<RehearsalReport, "pages" | "unavailable" | "effects">,
  isCovered: (workload: string) => boolean,
): string[] {
  const missed = perFault.flatMap(({ fault, reports }) => {
    const { expect } = fault.file;
    if (expect === undefined) return [];
    return reports
      .filter(({ workload, result }) => (workload === target || isCovered(workload)) && !expect.includes(result))
      .map(({ kind, workload, result }) => `${kind} on ${workload}: expected ${expect.join(" or ")}, is ${result}`);
  });
  const { maxUnavailable, maxPages, minPages, effects } = file.expect;
  for (const { workload, throughNightshift, desired } of found.unavailable)
    if (maxUnavailable !== undefined && throughNightshift > maxUnavailable)
      missed.push(
        `expected at most ${maxUnavailable} unavailable through Nightshift, ${throughNightshift} of ${desired} of ${workload} were`,
      );
  const done = [...new Set(found.effects.map(({ type, workload }) => `${type} on ${workload}`))];
  if (effects === false && done.length > 0) missed.push(`expected that nothing is changed: ${done.join(", ")}`);
  const pages = found.pages.length;
  if (maxPages !== undefined && pages > maxPages) missed.push(`expected at most ${maxPages} pages, ${pages} came`);
  if (minPages !== undefined && pages < minPages) missed.push(`expected at least ${minPages} pages, ${pages} came`);
  return missed;
}
