import type { Alert } from "../../api/signal.ts";
import type { Monitoring } from "./scenario.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";
import type { Traffic } from "./traffic.ts";
import { workloadKey } from "./scenario.ts";
import { shows, showsAsWhole, type SimWorld } from "./world.ts";

/** A series that was not scraped for this long is gone: Prometheus' lookback (ms). */
const STALENESS_MS = 300_000;
/** How soon Alertmanager tries again what nobody took (ms). */
const RETRY_MS = 10_000;

/** An alert in Alertmanager. */
interface Active {
  readonly labels: Readonly<Record<string, string>>;
  readonly alertname: string;
  readonly fingerprint: string;
  readonly startsAt: number;
  endsAt: number | undefined;
}

/** A condition of a rule on one of its series. */
interface Instance {
  readonly since: number;
  active: Active | undefined;
}

interface Group {
  readonly alerts: Map<string, Active>;
  lastSentAt: number;
  /** What the last notice said, by fingerprint: firing or not. */
  lastSaid: Map<string, boolean>;
  scheduled: boolean;
}

/** A notice, as Alertmanager's webhook sends it. `receivedAt` is for who receives it to say. */
export type Notice = readonly Omit<Alert, "receivedAt">[];

/** What monitoring is disturbed by. */
export interface MonitoringFaults {
  /** Prometheus cannot scrape. */
  scrapeFails(): boolean;
  /** How much later a notice arrives (ms), once for each time that it does. */
  noticeDelays(): readonly number[];
  /** The alert of a pod comes and goes, whatever is so. */
  flaps(alertname: string, name: string): boolean | undefined;
}

/** Prometheus with its rules, and Alertmanager behind it. */
export class MonitoringSystem {
  readonly #simulation: Simulation;
  readonly #world: SimWorld;
  readonly #traffic: Traffic;
  readonly #random: SimRandom;
  readonly #setup: Monitoring;
  readonly #faults: MonitoringFaults;
  /** Delivers a notice; false where nobody took it. */
  readonly #deliver: (notice: Notice) => boolean;
  /** What the last scrape saw: which conditions hold, by rule and labels. */
  #scraped = new Map<
    string,
    { readonly labels: Record<string, string>; readonly at: number; readonly value: boolean; readonly rule: number }
  >();
  readonly #instances = new Map<string, Instance>();
  readonly #groups = new Map<string, Group>();
  /** The newest notices that were taken, with when they were sent (ms of the run), for replays. */
  readonly #recent: { readonly notice: Notice; readonly sentAt: number }[] = [];

  constructor(options: {
    readonly simulation: Simulation;
    readonly world: SimWorld;
    readonly traffic: Traffic;
    readonly random: SimRandom;
    readonly setup: Monitoring;
    readonly faults: MonitoringFaults;
    readonly deliver: (notice: Notice) => boolean;
  }) {
    this.#simulation = options.simulation;
    this.#world = options.world;
    this.#traffic = options.traffic;
    this.#random = options.random;
    this.#setup = options.setup;
    this.#faults = options.faults;
    this.#deliver = options.deliver;
    const { scrapeMs, evaluateMs, askedMs, rules } = options.setup;
    if (rules.length === 0) return;
    this.#every(scrapeMs, () => this.#scrape());
    this.#every(evaluateMs, () => this.#evaluate());
    if (askedMs !== undefined) this.#every(askedMs, () => void this.#deliver(this.#active().map(asTold)));
  }

  /** Counts the alerts that began or ceased to fire. */
  version = 0;

  /** Fingerprints of the alerts that fire, with when they began (ms since the epoch). */
  firing(): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const active of this.#active()) found.set(active.fingerprint, active.startsAt);
    return found;
  }

  #active(): Active[] {
    return [...this.#instances.values()].flatMap(({ active }) => (active === undefined || active.endsAt !== undefined ? [] : [active]));
  }

  /**
   * Delivers again the notice that was delivered `back` notices ago. What is older than Alertmanager itself tries is delivered only
   * where who hears it has led since (`ledSince`, ms of the run), and so has heard its end: nothing in a notice says when it was sent.
   * Source of the bound: Alertmanager's dispatcher gives up a notice after `group_interval`.
   */
  replay(back: number, ledSince: number): void {
    const found = this.#recent.at(-back);
    if (found === undefined) return;
    const isOld = this.#simulation.elapsed - found.sentAt > this.#setup.groupIntervalMs;
    if (!isOld || ledSince <= found.sentAt) this.#deliver(found.notice);
  }

  #every(ms: number, work: () => void): void {
    const again = (): void => {
      work();
      this.#simulation.schedule(ms, again);
    };
    this.#simulation.schedule(ms * this.#random.next(), again);
  }

  #scrape(): void {
    if (this.#faults.scrapeFails()) return;
    const at = this.#simulation.now;
    const seen = new Map<string, { labels: Record<string, string>; at: number; value: boolean; rule: number }>();
    this.#setup.rules.forEach(({ alertname, condition, labels: more = {} }, rule) => {
      for (const workload of this.#world.workloads) {
        const { spec, ref } = workload;
        const key = workloadKey(spec);
        const own = { [ref.kind.toLowerCase()]: ref.name };
        const put = (named: readonly string[], labels: Record<string, string>, value: boolean): void =>
          void seen.set([rule, ...named, ...(spec.namespace === undefined ? [] : [key])].join("|"), {
            labels: { alertname, ...more, namespace: ref.namespace, ...labels },
            at,
            value: this.#faults.flaps(alertname, key) ?? value,
            rule,
          });
        const whole = showsAsWhole(condition, workload, this.#traffic, at);
        if (whole !== undefined) put([ref.name], own, whole);
        else for (const pod of workload.pods) put([pod.name, ref.name], { pod: pod.name, ...own }, shows(condition, pod, this.#traffic));
      }
    });
    // What is no longer exposed is marked stale at once.
    this.#scraped = seen;
  }

  #evaluate(): void {
    const now = this.#simulation.now;
    const holds = new Set<string>();
    for (const [key, { labels, at, value, rule }] of this.#scraped) {
      if (now - at > STALENESS_MS || !value) continue;
      holds.add(key);
      const instance = this.#instances.get(key) ?? { since: now, active: undefined };
      this.#instances.set(key, instance);
      const setup = this.#setup.rules[rule];
      if (instance.active !== undefined || setup === undefined || now - instance.since < setup.for) continue;
      const fingerprint = key;
      instance.active = { labels, alertname: setup.alertname, fingerprint, startsAt: now, endsAt: undefined };
      this.#toGroup(instance.active);
    }
    for (const [key, { active }] of this.#instances) {
      if (holds.has(key)) continue;
      this.#instances.delete(key);
      if (active === undefined) continue;
      active.endsAt = now;
      this.#toGroup(active);
    }
  }

  #toGroup(alert: Active): void {
    this.version += 1;
    let group = this.#groups.get(alert.alertname);
    if (group === undefined) {
      group = { alerts: new Map(), lastSentAt: -Infinity, lastSaid: new Map(), scheduled: false };
      this.#groups.set(alert.alertname, group);
    }
    group.alerts.set(alert.fingerprint, alert);
    this.#flush(group, group.lastSentAt === -Infinity ? this.#setup.groupWaitMs : this.#setup.groupIntervalMs);
  }

  /** Sends a group's notice when it is time: after the first wait, then once an interval where it has changed, else to repeat. */
  #flush(group: Group, after: number): void {
    if (group.scheduled) return;
    group.scheduled = true;
    this.#simulation.schedule(after, () => {
      group.scheduled = false;
      if (group.alerts.size === 0) return;
      const said = new Map([...group.alerts.values()].map((alert) => [alert.fingerprint, alert.endsAt === undefined]));
      const isChanged =
        said.size !== group.lastSaid.size || [...said].some(([fingerprint, firing]) => group.lastSaid.get(fingerprint) !== firing);
      const sinceSent = this.#simulation.elapsed - group.lastSentAt;
      if (!isChanged && sinceSent < this.#setup.repeatMs) return this.#flush(group, this.#setup.groupIntervalMs);
      this.#send(group, [...group.alerts.values()].map(asTold), said);
    });
  }

  #send(group: Group, notice: Notice, said: Map<string, boolean>): void {
    const sentAt = this.#simulation.elapsed;
    const [first = 0, ...again] = this.#faults.noticeDelays();
    for (const delay of again) this.#simulation.schedule(delay, () => void this.#deliver(notice));
    this.#simulation.schedule(first, () => {
      if (!this.#deliver(notice)) return this.#flush(group, RETRY_MS);
      group.lastSentAt = this.#simulation.elapsed;
      group.lastSaid = said;
      this.#recent.push({ notice, sentAt });
      if (this.#recent.length > 20) this.#recent.shift();
      for (const { fingerprint, status } of notice)
        if (status === "resolved" && group.alerts.get(fingerprint)?.endsAt !== undefined) {
          group.alerts.delete(fingerprint);
          group.lastSaid.delete(fingerprint);
        }
      if (group.alerts.size > 0) this.#flush(group, this.#setup.groupIntervalMs);
      else group.lastSentAt = -Infinity;
    });
  }
}

/** An alert as a notice has it. */
function asTold({ endsAt, alertname, labels, startsAt, fingerprint }: Active): Notice[number] {
  return { status: endsAt === undefined ? "firing" : "resolved", alertname, labels, annotations: {}, startsAt, endsAt, fingerprint };
}
