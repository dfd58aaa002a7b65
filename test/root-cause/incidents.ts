/**
 * Makes incidents whose cause is known. Requests run through a call graph: each service takes time of its own, waits for those
 * that it calls, retries and times out; load makes it slower, waiting fills its memory. A fault changes what one service does
 * by itself, and everything else follows from the calls. Then comes what makes it hard: innocent changes, demand that
 * rises, series that are missing, gaps, other units and names. One seed, one incident.
 */
import type { CallEdge } from "../../src/orient/root-cause.ts";
import type { Incident } from "../../src/orient/root-cause-change.ts";
import type { MetricSeries } from "../../src/orient/root-cause-series.ts";
import { normal, seeded } from "../../src/orient/shapes.ts";
import { median } from "../../src/orient/statistics.ts";
import { HELD_OUT, TUNING, type Topology } from "./topologies.ts";

/** What is wrong with a service: by its resource, or by what its callers feel alone. */
export type Fault = "cpu" | "memory" | "disk" | "pool" | "delay" | "errors" | "loss";
/** What happens where nothing is wrong. */
export type Calm = "quiet" | "demand" | "innocent" | "rhythm";

/** An incident, and who was the cause. */
export interface MadeIncident {
  readonly seed: number;
  readonly family: string;
  readonly kind: Fault | "two faults" | Calm;
  readonly edges: readonly CallEdge[];
  readonly series: readonly MetricSeries[];
  readonly incident: Incident;
  readonly target: string;
  /** The services with a fault; none where nothing is wrong. */
  readonly causes: readonly { readonly service: string; readonly fault: Fault }[];
}

const FAULTS: readonly Fault[] = ["cpu", "memory", "disk", "pool", "delay", "errors", "loss"];
const CALMS: readonly Calm[] = ["quiet", "demand", "innocent", "rhythm"];
const RESOURCES = ["cpu", "memory", "disk", "pool"] as const;
type Resource = (typeof RESOURCES)[number];

/** How metrics are named, and in which units. */
interface Style {
  readonly average: string;
  readonly p99: string;
  readonly latencyUnit: "ms" | "s";
  readonly errors: "share" | "availability" | "percent available" | "count";
  readonly errorName: string;
  readonly requests: string;
  readonly resources: Readonly<Record<Resource, string>> | undefined;
  readonly counters: boolean;
}

const STYLES: readonly Style[] = [
  {
    average: "latency_average",
    p99: "latency_p99",
    latencyUnit: "ms",
    errors: "share",
    errorName: "error_rate",
    requests: "requests",
    resources: { cpu: "cpu", memory: "memory", disk: "disk_io", pool: "connections" },
    counters: false,
  },
  // As PetShop has it: seconds, availability, no resources.
  {
    average: "latency_average",
    p99: "latency_p99",
    latencyUnit: "s",
    errors: "percent available",
    errorName: "availability",
    requests: "requests",
    resources: undefined,
    counters: false,
  },
  {
    average: "http_request_duration_avg",
    p99: "http_request_duration_p99",
    latencyUnit: "s",
    errors: "count",
    errorName: "http_request_errors_total",
    requests: "http_requests_total",
    resources: { cpu: "container_cpu_usage", memory: "container_memory_working_set", disk: "container_fs_writes", pool: "db_pool_in_use" },
    counters: true,
  },
];
/** Held out with its names: as RCAEval has it. */
const HELD_OUT_STYLES: readonly Style[] = [
  ...STYLES,
  {
    average: "latency-50",
    p99: "latency-90",
    latencyUnit: "s",
    errors: "count",
    errorName: "error",
    requests: "workload",
    resources: { cpu: "cpu", memory: "mem", disk: "diskio", pool: "socket" },
    counters: false,
  },
  {
    average: "responseTimeMean",
    p99: "responseTimeP95",
    latencyUnit: "ms",
    errors: "availability",
    errorName: "successRate",
    requests: "throughput",
    resources: { cpu: "cpuUtilization", memory: "heapUsed", disk: "diskReads", pool: "threads" },
    counters: false,
  },
];

/** What every service is asked for besides, as a share of the entry's demand. */
const BACKGROUND = 0.02;

interface Traits {
  readonly own: number;
  readonly load: number;
  readonly capacity: number;
  readonly errors: number;
  readonly noise: number;
  readonly level: Readonly<Record<Resource, number>>;
  readonly drift: number;
}

interface Faulty {
  readonly fault: Fault;
  readonly size: number;
  readonly from: number;
  readonly until: number;
}

/** What a service shows, reading by reading. Latencies in milliseconds, errors and requests as counts. */
type Rows = Record<"average" | "p99" | "errors" | "requests" | Resource, number[]>;
const emptyRows = (): Rows => ({ average: [], p99: [], errors: [], requests: [], cpu: [], memory: [], disk: [], pool: [] });

/** What a fault of a size from 0 to 1 does to the service itself. */
function effectOf(
  fault: Fault | undefined,
  size: number,
): { slower: number; delayMs: number; errors: number; use: Readonly<Record<Resource, number>> } {
  const slower = { cpu: 6, memory: 5, disk: 5, pool: 8, delay: 0, errors: 0, loss: 2 };
  const use = { cpu: 1, memory: 1, disk: 1, pool: 1 };
  if (fault === undefined) return { slower: 1, delayMs: 0, errors: 0, use };
  const more = { cpu: 3, memory: 1.5, disk: 5, pool: 3 };
  return {
    slower: 1 + slower[fault] * size,
    delayMs: fault === "delay" ? 60 + 500 * size : fault === "loss" ? 120 * size : 0,
    errors: fault === "errors" ? 0.1 + 0.5 * size : fault === "loss" ? 0.2 * size : fault === "pool" ? 0.15 * size : 0,
    use: fault in more ? { ...use, [fault]: 1 + more[fault as Resource] * size } : use,
  };
}

/** The incident of a seed. The tuning and the held-out part share no topology family and no seed. */
export function makeIncident(part: "tuning" | "held-out", seed: number): MadeIncident {
  // A fault that the target does not feel is no incident of the target: then it is drawn anew.
  for (let draw = 0; ; draw++) {
    const random = (): (() => number) => seeded((seed * 64 + draw) * 7919 + (part === "tuning" ? 1 : 500_009));
    const { made, felt } = drawIncident(part, seed, random(), true);
    if (made.causes.length === 0 || draw === 63) return made;
    // The same world without its faults: what the target's people would have seen.
    const without = drawIncident(part, seed, random(), false).felt;
    if (isFelt(felt.latency, without.latency, 1.2, 0) || isFelt(felt.errors, without.errors, 1, 0.02)) return made;
  }
}

/** What the target shows during the incident. */
interface Felt {
  readonly latency: readonly number[];
  readonly errors: readonly number[];
}

function drawIncident(
  part: "tuning" | "held-out",
  seed: number,
  random: () => number,
  withFaults: boolean,
): { readonly made: MadeIncident; readonly felt: Felt } {
  const between = (low: number, high: number): number => low + (high - low) * random();
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const makes = part === "tuning" ? TUNING : HELD_OUT;
  const topology: Topology = pick(makes)(random);
  const style = pick(part === "tuning" ? STYLES : HELD_OUT_STYLES);
  const { edges, entry } = topology;
  const names = [...new Set([entry, ...edges.flatMap(({ from, to }) => [from, to])])];

  // A quarter of them is calm.
  const kind: MadeIncident["kind"] =
    seed % 4 === 3
      ? (CALMS[Math.floor(seed / 4) % CALMS.length] as Calm)
      : seed % 16 === 0
        ? "two faults"
        : (FAULTS[Math.floor(seed / 2) % FAULTS.length] as Fault);
  const step = pick([15, 60, 60, 300]);
  const baseline = pick(step === 300 ? [36, 150, 288] : [40, 120, 240, 720]);
  const during = pick(step === 300 ? [3, 6, 12] : [10, 20, 40, 60]);
  const count = baseline + during;
  const calls = new Map(edges.map((edge) => [edge, random() < 0.15 ? between(1.5, 3) : between(0.3, 1)]));
  const retries = random() < 0.4 ? 1 : 0;
  const traits = new Map<string, Traits>();
  for (const name of names)
    traits.set(name, {
      own: Math.exp(between(Math.log(2), Math.log(60))),
      load: between(0.15, 0.4),
      capacity: between(1, 1.3),
      errors: random() < 0.6 ? 0 : between(0.0002, 0.004),
      noise: random() < 0.2 ? between(0.12, 0.25) : between(0.02, 0.12),
      level: { cpu: between(5, 40), memory: between(100, 900), disk: between(10, 300), pool: between(4, 30) },
      drift: between(0.02, 0.08),
    });

  const faults = new Map<string, Faulty>();
  const faulty: Fault[] = kind === "two faults" ? [pick(FAULTS), pick(FAULTS)] : FAULTS.includes(kind as Fault) ? [kind as Fault] : [];
  // The cause is felt at the target, or there would be nothing to explain: not behind calls that are hardly made.
  const order = downstream(entry, edges);
  for (const name of names) if (!order.includes(name)) order.push(name);
  const below = new Map(names.map((name) => [name, edges.filter(({ from }) => from === name)]));
  const usually = usualDemand(order, below, calls);
  const felt = order.filter((name) => name !== entry && (usually.get(name) ?? 0) > (kind === "two faults" ? 0.4 : 0.15));
  for (const fault of faulty) {
    const place = pick(random() < 0.08 || felt.length <= faults.size ? [entry] : felt.filter((name) => !faults.has(name)));
    const late = random() < 0.3 ? between(0, 0.3) : 0;
    // Somebody noticed late.
    const early = random() < 0.15 ? Math.floor(Math.min(0.4 * during, 0.1 * baseline)) : 0;
    faults.set(place, {
      fault,
      size: between(0.2, 1),
      from: baseline + Math.floor(late * during) - early,
      until: random() < 0.15 && during >= 20 ? baseline + Math.floor(0.7 * during) : count,
    });
  }
  const rise = kind === "demand" ? between(1.4, 2.2) : faulty.length > 0 && random() < 0.12 ? between(1.2, 1.6) : 1;
  const rhythm = kind === "rhythm" || random() < 0.3 ? between(0.2, 0.5) : 0;
  const phase = between(0, 6.28);

  // What is innocent: a resource that changes and hurts nobody, anywhere but at a cause.
  const innocents = new Map<string, { resource: Resource; factor: number }>();
  for (let n = kind === "innocent" ? 2 : faulty.length > 0 ? Math.floor(between(0, 5)) : 0; n > 0; n--) {
    const name = pick(names);
    if (!faults.has(name)) innocents.set(name, { resource: pick(RESOURCES), factor: between(1.3, 2.5) });
  }

  const out = new Map(names.map((name) => [name, emptyRows()]));
  const walk = new Map(names.map((name) => [name, 0]));
  let patient = new Map<string, number>();
  let latency = new Map(names.map((name) => [name, traits.get(name)?.own ?? 0]));
  let failing = new Map(names.map((name) => [name, 0]));
  // What happened before and is over: a burst in the baseline of some.
  const bursts = new Map(names.filter(() => random() < 0.2).map((name) => [name, Math.floor(between(0.1, 0.8) * baseline)]));
  const usual = between(20, 400);
  let wander = 0;
  for (let i = 0; i < count; i++) {
    const hour = (2 * Math.PI * i * step) / 86_400;
    wander = 0.9 * wander + 0.02 * normal(random);
    const demand = usual * (1 + rhythm * Math.sin(hour + phase)) * (1 + wander) * (i >= baseline ? rise : 1);
    // Requests run down; what they meet there is of the step before in a cycle, and of this one elsewhere.
    const asked = new Map<string, number>([[entry, demand]]);
    for (const name of order) if (name !== entry) asked.set(name, BACKGROUND * usual);
    const visited = new Set<string>();
    for (const name of order) {
      visited.add(name);
      for (const edge of below.get(name) ?? []) {
        if (visited.has(edge.to)) continue;
        const again = retries * (failing.get(edge.to) ?? 0);
        asked.set(edge.to, (asked.get(edge.to) ?? 0) + (asked.get(name) ?? 0) * (calls.get(edge) ?? 0) * (1 + again));
      }
    }
    const nextLatency = new Map(latency);
    const nextFailing = new Map(failing);
    for (const name of order.toReversed()) {
      const trait = traits.get(name) as Traits;
      const here = faults.get(name);
      const active = withFaults && here !== undefined && i >= here.from && i < here.until ? here : undefined;
      const ramp = active?.fault === "memory" ? Math.min(1, (i - active.from + 1) / (0.5 * during)) : 1;
      const size = (active?.size ?? 0) * ramp;
      const effect = effectOf(active?.fault, size);
      const mean = (asked.get(name) ?? 0) / Math.max(1e-9, usual * (usually.get(name) ?? 1));
      // What is asked for more than usual is still served: a saturated service would be a fault.
      const busy = Math.min(0.75, (trait.load * mean) / trait.capacity);
      const state = 0.8 * (walk.get(name) ?? 0) + trait.noise * 0.6 * normal(random);
      walk.set(name, state);
      const own = (trait.own * effect.slower * (1 - trait.load)) / (1 - busy) + effect.delayMs;
      const burst = i - (bursts.get(name) ?? count);
      let total = own * (burst >= 0 && burst < Math.max(2, baseline / 30) ? 2.5 : 1) * (1 + state + trait.noise * 0.5 * normal(random));
      let well = 1 - Math.min(0.95, trait.errors + effect.errors);
      for (const edge of below.get(name) ?? []) {
        const often = calls.get(edge) ?? 0;
        const backwards = order.indexOf(edge.to) <= order.indexOf(name);
        const fails = ((backwards ? failing : nextFailing).get(edge.to) ?? 0) ** (1 + retries);
        const waits = (backwards ? latency : nextLatency).get(edge.to) ?? 0;
        const weight = backwards ? 0.15 * often : often;
        total += weight * Math.min(waits, 2000) * (1 + retries * ((backwards ? failing : nextFailing).get(edge.to) ?? 0));
        well *= 1 - Math.min(1, weight) * fails;
        // Time-outs, the more the longer it takes; they were set for what is usual.
        const patience = Math.max(1500, 4 * (patient.get(edge.to) ?? Infinity));
        well *= 1 - Math.min(0.5, (0.2 * Math.max(0, waits - patience)) / patience) * Math.min(1, weight);
      }
      nextLatency.set(name, Math.max(0.1, total));
      nextFailing.set(name, Math.max(0, 1 - well));
      const innocent = i >= baseline + 1 ? innocents.get(name) : undefined;
      const more = (resource: Resource): number =>
        (innocent?.resource === resource ? innocent.factor : 1) * (1 + trait.drift * normal(random));
      const waiting = Math.max(1, total / ((traits.get(name)?.own ?? 1) * 8));
      const rows = out.get(name) as Rows;
      const heavy = random() < 0.04 ? between(1, 2.5) : 1;
      rows.average.push(Math.max(0.1, total) * (1 + (heavy - 1) * 0.2));
      rows.p99.push(Math.max(0.1, total) * 2.6 * heavy * (1 + 0.1 * Math.abs(normal(random))));
      const requests = Math.max(0, Math.round((asked.get(name) ?? 0) * (1 + 0.03 * normal(random))));
      rows.requests.push(requests);
      rows.errors.push(binomial(requests, nextFailing.get(name) ?? 0, random));
      rows.cpu.push(trait.level.cpu * (0.3 + 0.7 * mean) * effect.use.cpu * more("cpu"));
      rows.memory.push(trait.level.memory * effect.use.memory * (1 + 0.05 * Math.log(waiting)) * more("memory"));
      rows.disk.push(trait.level.disk * (0.5 + 0.5 * mean) * effect.use.disk * more("disk"));
      rows.pool.push(trait.level.pool * (0.6 + 0.4 * mean) * effect.use.pool * (1 + 0.15 * Math.log(waiting)) * more("pool"));
    }
    latency = nextLatency;
    if (i === 2) patient = nextLatency;
    failing = nextFailing;
  }

  const { series, times } = measured({ names, entry, faults, out, style, step, random });
  const entryRows = out.get(entry) as Rows;
  const made: MadeIncident = {
    seed,
    family: topology.family,
    kind,
    edges,
    series,
    incident: { start: times[baseline] as number, end: times[count - 1] as number },
    target: entry,
    causes: [...faults].map(([service, { fault }]) => ({ service, fault })),
  };
  return { made, felt: { latency: entryRows.average.slice(baseline), errors: shareOf(entryRows).slice(baseline) } };
}

/** What the monitoring has of it: under its names, in its units, with what is missing. */
function measured(world: {
  readonly names: readonly string[];
  readonly entry: string;
  readonly faults: ReadonlyMap<string, Faulty>;
  readonly out: ReadonlyMap<string, Rows>;
  readonly style: Style;
  readonly step: number;
  readonly random: () => number;
}): { series: MetricSeries[]; times: Float64Array } {
  const { names, entry, faults, out, style, step, random } = world;
  const count = out.get(entry)?.requests.length ?? 0;
  const epoch = 1_700_000_000_000 + Math.floor(86_400 * random()) * 1000;
  const missing = [0, 0, 0.1, 0.3, 0.5][Math.floor(5 * random())] as number;
  const series: MetricSeries[] = [];
  const times = Float64Array.from({ length: count }, (_, i) => epoch + i * step * 1000);
  const add = (service: string, metric: string, unit: string | undefined, values: readonly number[]): void => {
    const holes = random() < 0.3 ? 0.1 : 0;
    series.push({ service, metric, unit, times, values: Float64Array.from(values, (v) => (random() < holes ? NaN : v)) });
  };
  for (const name of names) {
    const rows = out.get(name) as Rows;
    const cause = faults.get(name)?.fault;
    // Neither the target's symptoms nor all that shows a cause may be missing: then nobody could know.
    const keeps = name === entry || cause !== undefined;
    if (!keeps && random() < missing / 3) continue;
    const has = (): boolean => keeps || random() >= missing;
    const unit = style.latencyUnit;
    if (has()) add(name, style.average, unit, unit === "s" ? rows.average.map((v) => v / 1000) : rows.average);
    if (has()) add(name, style.p99, unit, unit === "s" ? rows.p99.map((v) => v / 1000) : rows.p99);
    const sum = (values: readonly number[]): number[] => {
      let total = 0;
      return values.map((v) => (total += v));
    };
    if (has()) {
      const share = shareOf(rows);
      if (style.errors === "count") add(name, style.errorName, undefined, style.counters ? sum(rows.errors) : rows.errors);
      else
        add(
          name,
          style.errorName,
          undefined,
          share.map((v) => (style.errors === "share" ? v : style.errors === "availability" ? 1 - v : 100 - 100 * v)),
        );
    }
    if (has()) add(name, style.requests, undefined, style.counters ? sum(rows.requests) : rows.requests);
    if (style.resources !== undefined)
      for (const resource of RESOURCES)
        if (random() >= (cause === undefined ? missing : missing / 2)) add(name, style.resources[resource], undefined, rows[resource]);
  }
  return { series, times };
}

/** How many of so many fail. */
function binomial(count: number, share: number, random: () => number): number {
  const deviate = normal(random);
  const start = random();
  if (count * share > 20) return Math.min(count, Math.max(0, Math.round(count * share + Math.sqrt(count * share * (1 - share)) * deviate)));
  // Few: Poisson, by inversion of one uniform number, so that as many are drawn whatever the share.
  let left = start;
  let probability = Math.exp(-count * share);
  let found = 0;
  while (left > probability && found < count) {
    left -= probability;
    found++;
    probability *= (count * share) / found;
  }
  return found;
}

/** Errors as a share of requests. */
const shareOf = ({ errors, requests }: Pick<Rows, "errors" | "requests">): number[] =>
  errors.map((count, i) => (requests[i] === 0 ? 0 : count / (requests[i] as number)));

/** Whether the median with the faults lies above the one without by a factor and an amount. */
const isFelt = (values: readonly number[], without: readonly number[], factor: number, amount: number): boolean =>
  median(values) >= factor * median(without) + amount;

/** Services in the order in which requests reach them. */
function downstream(entry: string, edges: readonly CallEdge[]): string[] {
  const order = [entry];
  for (let i = 0; i < order.length; i++) for (const { from, to } of edges) if (from === order[i] && !order.includes(to)) order.push(to);
  return order;
}

/** What a service is asked for with each request to the entry, when all is well. */
function usualDemand(
  order: readonly string[],
  below: ReadonlyMap<string, readonly CallEdge[]>,
  calls: ReadonlyMap<CallEdge, number>,
): Map<string, number> {
  const asked = new Map(order.map((name, i) => [name, i === 0 ? 1 : BACKGROUND]));
  const visited = new Set<string>();
  for (const from of order) {
    visited.add(from);
    for (const edge of below.get(from) ?? [])
      if (!visited.has(edge.to)) asked.set(edge.to, (asked.get(edge.to) ?? 0) + (asked.get(from) ?? 0) * (calls.get(edge) ?? 0));
  }
  return asked;
}
