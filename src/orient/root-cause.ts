/**
 * Who is the cause? Blame is walked down the known call graph, from the service that is felt to be ill.
 *
 * 1. Every series of every service downstream of the target is held against its own baseline (`root-cause-change.ts`). What a
 *    rise of demand explains is taken off: a share of it that all feel from latencies, what the service itself was asked for
 *    from its resources.
 * 2. The blame begins at the target. An ill service passes on the share of its own excess that the excess of the services it
 *    calls accounts for, and keeps the rest: one that has nothing ill below it keeps all. A callee that is well by its own
 *    symptoms gets none, whatever else changed in it. One that nothing is known of is passed through: it is neither blamed nor
 *    excused. What went wrong in a callee clearly later than in its caller explains less. In a cycle blame goes round until it
 *    is kept.
 * 3. The causes are ranked by what they kept. The metric named is a resource of the service where one changed for the worse in
 *    time and demand does not explain it, and else its clearest symptom.
 *
 * Nothing is learned: the graph is the one given. Nothing is healthy for lack of data: what was not looked at is named.
 *
 * Sources: the walk from a symptom to its deepest abnormal callee, M. Hardt et al., "The PetShop dataset" (CLeaR 2024), baseline
 * "traversal", and J. Lin, P. Chen, Z. Zheng, "Microscope" (ICSOC 2018); blame that flows along the call graph in shares, as
 * in L. Wu et al., "MicroRCA" (NOMS 2020), with shares of the measured excess in place of correlations.
 */
import { NightshiftError } from "../api/errors.ts";
import { closest } from "../api/suggest.ts";
import { CEASED, changeOf, MAX_Z, type Change, type Incident } from "./root-cause-change.ts";
import { prepare, type MetricSeries, type Prepared } from "./root-cause-series.ts";
import { median } from "./statistics.ts";
import { percentText, seconds } from "./trend.ts";

/** `from` calls `to`. */
export interface CallEdge {
  readonly from: string;
  readonly to: string;
}

/** What a search for the cause is about. */
export interface RootCauseInput {
  readonly edges: readonly CallEdge[];
  readonly series: readonly MetricSeries[];
  readonly incident: Incident;
  /** The service whose symptom is to be explained. */
  readonly target: string;
}

/** One cause. */
export interface RankedCause {
  readonly service: string;
  /** The metric that names it best. */
  readonly metric: string;
  /** How much of the blame it kept and how clearly it is abnormal, above 0 to 1; never rises from one rank to the next. */
  readonly score: number;
  /** Sentences, each with its numbers. */
  readonly evidence: readonly string[];
}

/** What was found. */
export interface RootCauseResult {
  /** The likeliest first; empty unless the verdict is `cause`. */
  readonly causes: readonly RankedCause[];
  /** `none`: the target's data is enough and nothing explains an incident. `inconclusive`: there is too little data to say. */
  readonly verdict: "cause" | "none" | "inconclusive";
  /** One sentence for people. */
  readonly reason: string;
  /** Services with data that says something, by name, and what was seen. */
  readonly lookedAt: readonly Looked[];
  /** Services of which nothing can be said, and why. They are not healthy: they are unknown. */
  readonly notLookedAt: readonly { readonly service: string; readonly why: string }[];
}

/** What was seen of one service. */
export interface Looked {
  readonly service: string;
  /** `ill`: a symptom. `changed`: no symptom, but a resource or its demand. `well`: has symptom metrics, and none changed for the worse. `unclear`: has none. */
  readonly state: "ill" | "changed" | "well" | "unclear";
  readonly message: string;
}

/** From here on a series is abnormal. With it a change of a tenth of a quiet series' level is, and nothing smaller. */
const ABNORMAL = 4;
/** From here on it may be: enough to follow a trail, not to begin one. */
const SUSPECT = 2.5;
/** From here on a symptom of a service downstream is reported even if the target itself shows none. */
const STRIKING = 10;
/** From here on one abnormal metric of the target alone, without anything else that is abnormal, is more than chance. */
const ALONE = 6;
/** A rise of demand below this is none. */
const DEMAND = 1.1;
/** Most causes that are listed. */
const MAX_CAUSES = 10;
/** Rounds in which blame is passed on: what then still goes round in a cycle is kept where it is. */
const ROUNDS = 200;
/** Most services without data that are passed through from one service. */
const MAX_UNKNOWN = 1000;

/** A series that says something, with what demand explains taken off. */
interface Seen extends Change {
  readonly series: Prepared;
  /** By how much demand rose with it; 1 where it did not. */
  readonly demand: number;
}

interface Service {
  readonly name: string;
  readonly depth: number;
  readonly parent: string | undefined;
  readonly latency: readonly Seen[];
  readonly errors: readonly Seen[];
  /** What its callers do not feel: resources, and metrics with unknown names. */
  readonly resources: readonly Seen[];
  readonly traffic: Seen | undefined;
  readonly silent: readonly string[];
  /** The strongest symptom's z; undefined where it has no symptom metric that says something. */
  readonly symptom: number | undefined;
  /** The resource that changed for the worse most, if it did and demand does not explain it. */
  readonly resource: Seen | undefined;
}

/**
 * Ranks the causes of an incident of `target`. Throws `UNKNOWN_SERVICE` where neither the graph nor the metrics know it.
 * `onSeries` is called after each service with how many of how many series are done.
 */
export function findRootCause(input: RootCauseInput, onSeries?: (done: number, of: number) => void): RootCauseResult {
  const { edges, series, target } = input;
  const incident = { start: input.incident.start, end: Math.max(input.incident.start, Math.min(input.incident.end, newestOf(series))) };
  const calls = new Map<string, Set<string>>();
  const known = new Set<string>();
  for (const { from, to } of edges) {
    known.add(from).add(to);
    if (from === to) continue;
    const list = calls.get(from);
    if (list === undefined) calls.set(from, new Set([to]));
    else list.add(to);
  }
  // In the order of their names: what is found must not depend on that of the file.
  const callees: Callees = new Map(Array.from(calls, ([from, list]) => [from, [...list].sort()]));
  const inGraph = known.has(target);
  const measured = new Map<string, MetricSeries[]>();
  for (const one of series) {
    known.add(one.service);
    const list = measured.get(one.service);
    if (list === undefined) measured.set(one.service, [one]);
    else list.push(one);
  }
  if (!known.has(target)) {
    const near = closest(target, [...known].sort());
    throw new NightshiftError("UNKNOWN_SERVICE", `neither the graph nor the metrics have a service ${JSON.stringify(target)}`, {
      where: "--target",
      fix: near === undefined ? "Name a service of the graph." : `Did you mean ${JSON.stringify(near)}?`,
    });
  }

  const order = reachable(target, callees);
  const of = order.reduce((sum, { name }) => sum + (measured.get(name)?.length ?? 0), 0);
  let done = 0;
  const prepared = order.map(({ name }) => {
    const all = measured.get(name) ?? [];
    const changes = prepare(all, incident).map((one) => {
      const { role, bad } = one.meaning;
      return { series: one, change: changeOf(one.readings, incident, role === "traffic" ? "both" : bad, one.floor, one.average) };
    });
    done += all.length;
    onSeries?.(done, of);
    return changes;
  });
  const demands = prepared.map((changes) => demandOf(changes));
  const own = demands[0];
  const others = demands.filter((ratio) => ratio !== undefined);
  // What all feel: the target's own demand, or what most of the others saw.
  const shared = own ?? (others.length >= 2 ? median(others) : 1);
  const slower = shared < DEMAND ? 1 : Math.min(shared, slowedBy(prepared) * 1.15);
  const services = new Map<string, Service>();
  order.forEach(({ name, depth, parent }, i) => {
    services.set(name, judge({ name, depth, parent }, prepared[i] ?? [], Math.max(1, slower), demands[i] ?? shared));
  });
  return new Search(target, inGraph, services, callees, measured, incident).result(shared);
}

/** When the newest reading was made: an incident that is not over ends there. */
function newestOf(series: readonly MetricSeries[]): number {
  let newest = -Infinity;
  for (const { times } of series) for (const t of times) if (t > newest) newest = t;
  return newest;
}

/** Who calls whom. */
type Callees = ReadonlyMap<string, readonly string[]>;

/** Every service downstream, the target first, breadth first, names in order; cycles end where they close. */
function reachable(target: string, callees: Callees): { name: string; depth: number; parent: string | undefined }[] {
  const order: { name: string; depth: number; parent: string | undefined }[] = [{ name: target, depth: 0, parent: undefined }];
  const seen = new Set([target]);
  for (let i = 0; i < order.length; i++) {
    const { name, depth } = order[i] as { name: string; depth: number };
    for (const to of callees.get(name) ?? []) {
      if (seen.has(to)) continue;
      seen.add(to);
      order.push({ name: to, depth: depth + 1, parent: name });
    }
  }
  return order;
}

type Judged = { readonly series: Prepared; readonly change: ReturnType<typeof changeOf> };

/** By how much a service's demand changed; undefined where it is not known. */
function demandOf(changes: readonly Judged[]): number | undefined {
  const ratios = changes.flatMap(({ series, change }) =>
    series.meaning.role === "traffic" && !("silent" in change) && change.before > 0 ? [change.during / change.before] : [],
  );
  return ratios.length === 0 ? undefined : Math.max(0, median(ratios));
}

/** By how much latencies rose, the median of the services. With a shared rise of demand that is what a healthy one may show. */
function slowedBy(prepared: readonly (readonly Judged[])[]): number {
  const ratios = prepared.flatMap((changes) => {
    const own = changes.flatMap(({ series, change }) =>
      series.meaning.role === "latency" && !("silent" in change) && change.before > 0 ? [change.during / change.before] : [],
    );
    return own.length === 0 ? [] : [median(own)];
  });
  return ratios.length === 0 ? 1 : Math.max(1, median(ratios));
}

/** A change with what a rise of demand by `demand` explains taken off. How much that is is not known exactly: the more it is, the less. */
function withoutDemand(change: Change, demand: number): Change {
  if (demand <= 1 || change.excess <= 0 || change.z <= 0) return change;
  const left = change.during / demand - change.before;
  const scatter = Math.hypot(change.excess / change.z, 0.15 * (demand - 1) * change.before);
  return { ...change, excess: left, z: Math.min(change.z, left / scatter) };
}

function judge(
  at: { name: string; depth: number; parent: string | undefined },
  changes: readonly Judged[],
  slower: number,
  own: number,
): Service {
  const latency: Seen[] = [];
  const errors: Seen[] = [];
  const resources: Seen[] = [];
  const silent: string[] = [];
  let traffic: Seen | undefined;
  for (const { series, change } of changes) {
    if ("silent" in change) {
      silent.push(`${series.metric}: ${change.silent}`);
      continue;
    }
    const { role, bad } = series.meaning;
    const rise = role === "latency" ? slower : role === "traffic" || series.scale === "share" || bad === "down" ? 1 : own;
    const demand = rise < DEMAND ? 1 : rise;
    const seen: Seen = { ...withoutDemand(change, demand), series, demand };
    if (role === "latency") latency.push(seen);
    else if (role === "errors") errors.push(seen);
    else if (role === "traffic") traffic ??= seen;
    else resources.push(seen);
  }
  const byZ = (a: Seen, b: Seen): number => b.z - a.z || (a.series.metric < b.series.metric ? -1 : 1);
  for (const list of [latency, errors, resources]) list.sort(byZ);
  // A tail that moves while the other latencies do not is chance more often than a fault: a few slow requests are enough for it.
  const [slowest, next] = latency;
  if (slowest !== undefined && next !== undefined && next.z < SUSPECT) latency[0] = { ...slowest, z: slowest.z / 2 };
  const symptoms = [...latency.slice(0, 2), ...errors.slice(0, 1)];
  const symptom = symptoms.length === 0 ? undefined : symptoms.reduce((most, { z }) => Math.max(most, z), -Infinity);
  // A metric with an unknown name must change much more: nobody knows which way of it is bad.
  const bad = resources.filter(({ series, z }) => z >= (series.meaning.role === "other" ? 2 * ABNORMAL : ABNORMAL));
  const resource = bad.find(({ series }) => series.meaning.role === "resource") ?? bad[0];
  return { ...at, latency, errors, resources, traffic, silent, symptom, resource };
}

/** 0 to 1 for how unusual something is: half at twice the threshold. */
const strength = (z: number): number => (z <= SUSPECT ? 0 : 1 - 2 ** -((z - SUSPECT) / ABNORMAL));

/** Whether more than one metric of a service is abnormal, or one by far. */
function isClear({ latency, errors, resource }: Service): boolean {
  const abnormal = [...latency, ...errors].filter(({ z }) => z >= ABNORMAL);
  return abnormal.length + (resource === undefined ? 0 : 1) > 1 || abnormal.some(({ z }) => z >= ALONE) || (resource?.z ?? 0) >= ALONE;
}

/** Whether something is wrong with a service, whoever feels it. */
function isStriking({ symptom, latency, errors, resource }: Service): boolean {
  if (symptom === undefined || symptom < ABNORMAL) return false;
  if ((resource?.z ?? 0) >= STRIKING) return true;
  return (
    latency.some(({ z, before, excess }) => z >= ALONE && excess >= (z >= STRIKING ? 0.5 : 1) * before) ||
    errors.some(({ z, excess, series }) => z >= ALONE && (series.scale === "share" ? excess >= 0.05 : z >= STRIKING))
  );
}

class Search {
  readonly #target: string;
  readonly #inGraph: boolean;
  readonly #services: ReadonlyMap<string, Service>;
  readonly #callees: Callees;
  readonly #measured: ReadonlyMap<string, readonly MetricSeries[]>;
  readonly #incident: Incident;

  constructor(
    target: string,
    inGraph: boolean,
    services: ReadonlyMap<string, Service>,
    callees: Callees,
    measured: ReadonlyMap<string, readonly MetricSeries[]>,
    incident: Incident,
  ) {
    this.#target = target;
    this.#inGraph = inGraph;
    this.#services = services;
    this.#callees = callees;
    this.#measured = measured;
    this.#incident = incident;
  }

  result(shared: number): RootCauseResult {
    const target = this.#service(this.#target);
    const all = [...this.#services.values()];
    const looked = all.filter((service) => hasData(service));
    const report = {
      lookedAt: looked.map((service) => this.#looked(service)),
      notLookedAt: this.#notLookedAt(),
    };
    const silent = all.filter((service) => !hasData(service)).map(({ name }) => name);
    const unknown = silent.length === 0 ? "" : `; nothing is known of ${names(silent)}`;
    const seen = `${looked.length} of ${all.length} services at or below ${this.#target} have data`;
    const causes = this.#ranked(this.#blame([this.#target]));
    const [first] = causes;
    if (first !== undefined && this.#holds(first.service))
      return {
        causes,
        verdict: "cause",
        reason: `${first.service} is the likeliest cause, by its ${first.metric}; ${seen}${unknown}`,
        ...report,
      };
    const striking = all.filter((service) => isStriking(service));
    const elsewhere = striking.length === 0 ? [] : this.#ranked(this.#blame(striking.map(({ name }) => name)));
    if (elsewhere.length > 0)
      return {
        causes: elsewhere,
        verdict: "cause",
        reason: `${this.#target} itself ${target.symptom === undefined ? "has no data about symptoms" : "shows no symptom"}, but ${names(striking.map(({ name }) => name))} below it ${striking.length === 1 ? "does" : "do"}; ${seen}${unknown}`,
        ...report,
      };
    if (target.symptom === undefined)
      return {
        causes: [],
        verdict: "inconclusive",
        reason: `${this.#target} has ${this.#measured.has(this.#target) ? "no latency, errors or availability that can be judged" : "no metrics"}, and nothing below it is ill; ${seen}${unknown}`,
        ...report,
      };
    const risen = shared >= DEMAND ? `; its demand rose to ${ratio(shared)}, which is no fault` : "";
    return {
      causes: [],
      verdict: "none",
      reason: `${this.#target} shows no symptom that demand does not explain${risen}; ${seen}${unknown}`,
      ...report,
    };
  }

  /** Whether what was found is more than chance: an ill target, or a trail that ends in something clearly abnormal. */
  #holds(first: string): boolean {
    const target = this.#service(this.#target);
    const cause = this.#service(first);
    if (target.symptom !== undefined && target.symptom < SUSPECT) return false;
    if (cause !== target)
      return (
        (target.symptom ?? 0) >= ALONE ||
        (isClear(cause) && (target.symptom === undefined || target.symptom >= ABNORMAL || isStriking(cause)))
      );
    // Nothing below it is ill: it must be so by more than one metric, or by far.
    if (target.symptom === undefined) return (target.resource?.z ?? 0) >= STRIKING;
    return (
      target.symptom >= ALONE ||
      (target.symptom >= ABNORMAL && isClear(target)) ||
      (target.symptom >= 3 && (target.resource?.z ?? 0) >= STRIKING)
    );
  }

  #service(name: string): Service {
    return this.#services.get(name) as Service;
  }

  /**
   * The services called, and those behind the ones of which nothing is known that would tell: nothing at all (`unknown`), or
   * nothing of the kind of symptom that the caller shows.
   */
  #below(name: string): { known: Service[]; unknown: string[] } {
    const caller = this.#service(name);
    const known: Service[] = [];
    const unknown: string[] = [];
    const seen = new Set([name]);
    const queue = [name];
    let passed = 0;
    for (let at = queue.pop(); at !== undefined; at = queue.pop())
      for (const to of this.#callees.get(at) ?? []) {
        if (seen.has(to)) continue;
        seen.add(to);
        const service = this.#service(to);
        if (hasData(service)) known.push(service);
        else unknown.push(to);
        if (isBlind(service, caller) && passed++ < MAX_UNKNOWN) queue.push(to);
      }
    known.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { known, unknown: unknown.sort() };
  }

  /** How much of the blame each service keeps, and who passed what on to whom. */
  #blame(from: readonly string[]): Trail {
    const kept = new Map<string, number>();
    const passes = new Map<string, { to: string; share: number }[]>();
    const sharesOf = (name: string): { to: string; share: number }[] => {
      let shares = passes.get(name);
      if (shares === undefined) passes.set(name, (shares = this.#shares(name)));
      return shares;
    };
    let moving = new Map<string, number>(from.map((name) => [name, 1 / from.length]));
    for (let round = 0; moving.size > 0; round++) {
      const next = new Map<string, number>();
      for (const [name, amount] of moving) {
        let rest = amount;
        if (round < ROUNDS && amount > 1e-6)
          for (const { to, share } of sharesOf(name)) {
            next.set(to, (next.get(to) ?? 0) + amount * share);
            rest -= amount * share;
          }
        kept.set(name, (kept.get(name) ?? 0) + Math.max(rest, 0));
      }
      moving = next;
    }
    return { kept, passes };
  }

  /** Which share of its excess an ill service owes to which callee; in all at most 1. */
  #shares(name: string): { to: string; share: number }[] {
    const caller = this.#service(name);
    const { known } = this.#below(name);
    const found = known.map((callee) => ({ to: callee.name, ...this.#explains(caller, callee) })).filter(({ share }) => share > 0.01);
    // What is measured comes first: a resource of a callee whose symptoms are not known may explain what is left.
    const measured = found.reduce((sum, { share, guessed }) => sum + (guessed ? 0 : share), 0);
    const left = Math.max(0, 1 - measured);
    const shares = found
      .map(({ to, share, guessed }) => ({ to, share: guessed ? share * left : share }))
      .filter(({ share }) => share > 0.01);
    const total = shares.reduce((sum, { share }) => sum + share, 0);
    const explained = Math.min(1, total) * ownWeight(caller, Math.min(1, total));
    return shares.map(({ to, share }) => ({ to, share: (share / total) * explained }));
  }

  /** How much of the caller's excess the callee's excess accounts for, 0 to 1; `guessed` by a resource, where it has no symptom to go by. */
  #explains(caller: Service, callee: Service): { share: number; guessed: boolean } {
    const later = this.#clearlyLater(caller, callee) ? 0.4 : 1;
    if (callee.symptom === undefined || (callee.symptom < SUSPECT && isBlind(callee, caller))) {
      if (callee.resource === undefined) return { share: 0, guessed: true };
      const z = callee.resource.z;
      const mine = caller.resource?.z ?? 0;
      // One that is known not to be slow has less to do with a failing caller.
      const doubt = callee.symptom === undefined ? 0.75 : 0.4;
      return { share: later * doubt * strength(z) * (mine > z ? 0.3 : 1), guessed: true };
    }
    if (callee.symptom < SUSPECT) return { share: 0, guessed: false };
    const [slow] = caller.latency;
    const [failing] = caller.errors;
    const zSlow = Math.min(50, Math.max(0, slow?.z ?? 0));
    const zFailing = Math.min(50, Math.max(0, failing?.z ?? 0));
    // A caller without symptoms of its own passes on by how ill its callees are.
    if (zSlow < SUSPECT && zFailing < SUSPECT) return { share: later * strength(callee.symptom), guessed: false };
    const calls = callsOf(caller, callee);
    const [calleeFailing] = callee.errors;
    const [calleeSlow] = callee.latency;
    let sum = 0;
    let weight = 0;
    if (slow !== undefined && zSlow >= SUSPECT) {
      const fails = calleeFailing !== undefined && calleeFailing.z >= ABNORMAL ? 0.7 * strength(calleeFailing.z) : 0;
      sum += zSlow * Math.max(this.#slowness(caller, callee), fails);
      weight += zSlow;
    }
    if (failing !== undefined && zFailing >= SUSPECT) {
      let share = 0;
      if (calleeFailing !== undefined && calleeFailing.z >= SUSPECT)
        share =
          failing.series.scale === "share" && calleeFailing.series.scale === "share"
            ? Math.min(1, ((calls ?? 1) * calleeFailing.excess) / failing.excess / enough(calls))
            : strength(calleeFailing.z);
      // A callee that has become slow makes its callers time out.
      const slows = calleeSlow !== undefined && calleeSlow.z >= ABNORMAL && calleeSlow.during >= 1.8 * calleeSlow.before ? 0.8 : 0;
      sum += zFailing * Math.max(share, slows);
      weight += zFailing;
    }
    return { share: weight === 0 ? 0 : (later * sum) / weight, guessed: false };
  }

  /**
   * How much of the caller's extra latency the callee's accounts for, by the metric that both have and that changed most. How
   * often one calls the other is known roughly at best, and a second fault at the same time is rare: three tenths are taken for
   * all where the number of calls is not known, and six where it is.
   */
  #slowness(caller: Service, callee: Service): number {
    const calls = callsOf(caller, callee);
    for (const slow of caller.latency) {
      if (slow.z < SUSPECT) break;
      const same = callee.latency.find(({ series }) => series.metric === slow.series.metric && series.scale === slow.series.scale);
      if (same !== undefined) return same.z < SUSPECT ? 0 : Math.min(1, ((calls ?? 1) * same.excess) / slow.excess / enough(calls));
    }
    const [slow] = caller.latency;
    const [other] = callee.latency;
    if (slow === undefined || other === undefined || other.z < SUSPECT) return 0;
    return slow.series.scale === other.series.scale ? Math.min(1, ((calls ?? 1) * other.excess) / slow.excess / 0.3) : strength(other.z);
  }

  /** Whether what went wrong in the callee began clearly after what went wrong in the caller. */
  #clearlyLater(caller: Service, callee: Service): boolean {
    const first = onsetOf(caller);
    const second = onsetOf(callee);
    if (first === undefined || second === undefined) return false;
    return second.onset - first.onset > Math.max(2.5 * first.step, 2.5 * second.step, 0.1 * this.#length());
  }

  #length(): number {
    return this.#incident.end - this.#incident.start;
  }

  #ranked({ kept, passes }: Trail): RankedCause[] {
    const rows: { service: Service; metric: Seen; score: number }[] = [];
    for (const [name, share] of kept) {
      const service = this.#service(name);
      const metric = metricOf(service, this.#length());
      if (metric === undefined) continue;
      const score = 0.9 * share + 0.1 * strength(Math.max(service.symptom ?? 0, service.resource?.z ?? 0));
      if (score >= 0.01) rows.push({ service, metric, score });
    }
    rows.sort((a, b) => b.score - a.score || (a.service.name < b.service.name ? -1 : 1));
    return rows.slice(0, MAX_CAUSES).map(({ service, metric, score }) => ({
      service: service.name,
      metric: metric.series.metric,
      score: Math.max(0.0001, Math.round(score * 10_000) / 10_000),
      evidence: this.#evidence(service, metric, passes),
    }));
  }

  #evidence(service: Service, metric: Seen, passes: Trail["passes"]): string[] {
    const lines = [this.#changeText(metric)];
    for (const other of [...service.latency, ...service.errors, ...service.resources])
      if (other !== metric && other.z >= ABNORMAL && lines.length < 4) lines.push(this.#changeText(other));
    if (service.name !== this.#target) lines.push(`it is called by way of ${this.#path(service).join(" > ")}`);
    const { known, unknown } = this.#below(service.name);
    const passed = passes.get(service.name) ?? [];
    for (const { to, share } of passed.slice(0, 3))
      lines.push(`${percentText(share)} of its excess is accounted for by ${to}, which it calls`);
    const well = known.filter((callee) => callee.symptom !== undefined && callee.symptom < SUSPECT && !isBlind(callee, service));
    if (well.length > 0) lines.push(`what it calls and has data about symptoms is well: ${names(well.map(({ name }) => name))}`);
    const changed = well.filter(({ resource }) => resource !== undefined);
    for (const { name, resource } of changed.slice(0, 2))
      lines.push(`${name} changed its ${resource?.series.metric ?? ""}, but shows no symptom: no cause`);
    if (unknown.length > 0)
      lines.push(`nothing is known of ${names(unknown.map((name) => this.#ceased(name)))} below it: not looked at, and not excluded`);
    if (service.name === this.#target && !this.#inGraph) lines.push("it is not in the graph: what it calls is not known");
    return lines;
  }

  /** The name of a service without data, and whether all that it had came to an end before the incident. */
  #ceased(name: string): string {
    const { silent } = this.#service(name);
    return silent.length > 0 && silent.every((why) => why.endsWith(CEASED)) ? `${name} (its metrics ceased)` : name;
  }

  /** Names from the target to a service. */
  #path(service: Service): string[] {
    const path: string[] = [];
    for (let at: Service | undefined = service; at !== undefined; at = at.parent === undefined ? undefined : this.#service(at.parent))
      path.unshift(hasData(at) ? at.name : `${at.name} (not looked at)`);
    return path;
  }

  #changeText(seen: Seen): string {
    const { series, z, before, during, onset, demand } = seen;
    const complement = series.meaning.complement;
    const text = (v: number): string => valueText(complement ? 1 - v : v, series);
    const way = (complement ? before - during : during - before) < 0 ? "fell" : "rose";
    const since =
      onset === undefined ? "" : `, from ${seconds(Math.max(0, onset - this.#incident.start) / 1000)} after the incident's start`;
    const off = demand > 1 ? `, of which a demand of ${ratio(demand)} is taken off` : "";
    return `${series.metric} ${way} from ${text(before)} to ${text(during)} (${z >= MAX_Z ? `over ${MAX_Z}` : z.toFixed(1)} robust deviations${off})${since}`;
  }

  #looked(service: Service): Looked {
    const { symptom, resource, traffic } = service;
    const worst = [...service.latency, ...service.errors].sort((a, b) => b.z - a.z)[0];
    const silent = service.silent.length === 0 ? "" : `; not judged: ${service.silent.slice(0, 3).join(", ")}`;
    const is = (state: Looked["state"], message: string): Looked => ({ service: service.name, state, message: `${message}${silent}` });
    if (worst !== undefined && (symptom ?? 0) >= ABNORMAL) return is("ill", this.#changeText(worst));
    if (resource !== undefined) return is("changed", `${this.#changeText(resource)}${symptom === undefined ? "" : "; no symptom"}`);
    if (traffic !== undefined && traffic.z >= ABNORMAL) return is("changed", `${this.#changeText(traffic)}; demand is no fault`);
    if (symptom === undefined) return is("unclear", "nothing abnormal, but no metric of a symptom");
    return is("well", `none of ${service.latency.length + service.errors.length} metrics of symptoms is abnormal`);
  }

  #notLookedAt(): RootCauseResult["notLookedAt"] {
    const rows: { service: string; why: string }[] = [];
    for (const service of this.#services.values())
      if (!hasData(service))
        rows.push({
          service: service.name,
          why:
            service.silent.length > 0
              ? service.silent.slice(0, 3).join(", ")
              : this.#measured.has(service.name)
                ? "no series that can be judged"
                : "no metrics",
        });
    for (const name of this.#measured.keys())
      if (!this.#services.has(name)) rows.push({ service: name, why: `not downstream of ${this.#target} in the graph` });
    return rows.sort((a, b) => (a.service < b.service ? -1 : 1));
  }
}

interface Trail {
  readonly kept: ReadonlyMap<string, number>;
  readonly passes: ReadonlyMap<string, readonly { readonly to: string; readonly share: number }[]>;
}

/** Which kind of symptom a service shows most; undefined where it shows none. */
function mainSymptom({ latency, errors }: Service): "latency" | "errors" | undefined {
  const slow = latency[0]?.z ?? 0;
  const failing = errors[0]?.z ?? 0;
  return Math.max(slow, failing) < SUSPECT ? undefined : slow >= failing ? "latency" : "errors";
}

/** Whether nothing is known of a callee that would tell whether it is why its caller is ill. */
function isBlind(callee: Service, caller: Service): boolean {
  if (callee.symptom === undefined) return true;
  const kind = mainSymptom(caller);
  return kind !== undefined && callee[kind].length === 0;
}

const hasData = (service: Service): boolean =>
  service.symptom !== undefined || service.resources.length > 0 || service.traffic !== undefined;

/**
 * What is left to pass on where the caller's own resources changed for the worse: some of its illness is then its own. Waiting
 * for an ill callee fills memory and connections too, so most of it is passed on all the same.
 */
function ownWeight(caller: Service, explained: number): number {
  if (caller.resource === undefined) return 1;
  return 1 - 0.35 * strength(caller.resource.z) * (explained >= 1 ? 0.6 : 1);
}

/** How often a caller calls a callee for each request of its own, 1 to 20; undefined where their demand does not tell. */
function callsOf(caller: Service, callee: Service): number | undefined {
  const mine = caller.traffic?.before ?? 0;
  const its = callee.traffic?.before ?? 0;
  return mine > 0 && its > 0 ? Math.min(20, Math.max(1, its / mine)) : undefined;
}

/** Which share of an excess is taken for all of it. */
const enough = (calls: number | undefined): number => (calls === undefined ? 0.3 : 0.6);

/** When a service fell ill: the first of its clear symptoms, or else its resource. */
function onsetOf(service: Service): { onset: number; step: number } | undefined {
  const symptoms = [...service.latency, ...service.errors].filter(({ z }) => z >= SUSPECT);
  const most = symptoms.reduce((high, { z }) => Math.max(high, z), 0);
  const clear = symptoms.filter(({ z }) => z >= 0.3 * most);
  let first: { onset: number; step: number } | undefined;
  for (const { onset, step } of clear.length > 0 ? clear : service.resource === undefined ? [] : [service.resource])
    if (onset !== undefined && (first === undefined || onset < first.onset)) first = { onset, step };
  return first;
}

/** The metric that names a cause best; undefined where nothing of the service is abnormal. */
function metricOf(service: Service, length: number): Seen | undefined {
  const symptom = [...service.errors, ...service.latency].filter(({ z }) => z >= SUSPECT).sort((a, b) => b.z - a.z)[0];
  const { resource } = service;
  if (resource === undefined) return symptom;
  if (symptom === undefined) return resource;
  // What came long after the symptom does not explain it. One that grows is half of what it becomes in the midst of the incident.
  const late =
    resource.onset !== undefined && symptom.onset !== undefined && resource.onset - symptom.onset > Math.max(4 * resource.step, length / 2);
  return late || (resource.series.meaning.role === "other" && symptom.z >= ABNORMAL) ? symptom : resource;
}

/** A few names, and how many more there are. */
function names(all: readonly string[]): string {
  return all.length <= 5 ? all.join(", ") : `${all.slice(0, 4).join(", ")} and ${all.length - 4} more`;
}

/** A ratio for people: `2.4 times`. */
const ratio = (value: number): string => `${Number(value.toPrecision(2))} times its usual`;

/** A value for people, in the series' scale. */
function valueText(value: number, series: Prepared): string {
  if (series.scale === "ms") return value >= 1000 ? `${Number((value / 1000).toPrecision(3))} s` : `${Number(value.toPrecision(3))} ms`;
  if (series.scale === "share") return `${Number((100 * value).toFixed(2))}%`;
  const unit = series.unit === undefined || series.unit === "" ? "" : ` ${series.unit}`;
  return `${Math.abs(value) >= 1e6 ? value.toExponential(2) : Number(value.toPrecision(4))}${unit}`;
}
