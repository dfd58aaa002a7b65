import { createHash } from "node:crypto";
import { messageOf } from "../../api/errors.ts";
import { microTime } from "../../api/time.ts";
import type { Clock } from "../../ports/clock.ts";
import type { KubeClient } from "./client.ts";
import { isNotFound } from "./errors.ts";

/** How long the same event is counted on as a series (ms): events.k8s.io's own six minutes. */
const SERIES_MS = 360_000;
/** A series is written at most this often (ms), whatever happens meanwhile. */
const SERIES_WRITE_MS = 30_000;
/** Most events that wait to be written; the oldest is dropped. */
const MAX_WAITING = 1_000;
/** Bucket of events about one object: its size, and the time until it has one more (ms). client-go's: 25, and one in five minutes. */
const BURST = 25;
const REFILL_MS = 300_000;
/** Series and buckets remembered; the oldest goes first. */
const MAX_KEPT = 4_096;
/** Longest note that the API server takes (bytes). */
const MAX_NOTE = 1_024;

/** Something that happened to an object. */
export interface KubeEvent {
  readonly regarding: {
    readonly apiVersion?: string;
    readonly kind: string;
    readonly namespace: string;
    readonly name: string;
    readonly uid?: string;
  };
  readonly type: "Normal" | "Warning";
  /** Why, in one word in CamelCase. */
  readonly reason: string;
  /** What was done, in one word. */
  readonly action: string;
  /** For people; cut at 1 KiB. */
  readonly note: string;
}

interface Series {
  readonly name: string;
  readonly namespace: string;
  count: number;
  lastAt: number;
  writtenAt: number;
  /** What the API server has: a count that it does not know yet is written later. */
  writtenCount: number;
}

/**
 * Writes events (events.k8s.io/v1), one after the other. The same event again within six minutes becomes a series; an
 * object that has too many is not told more. Telling is never waited for and never fails: what cannot be written is
 * dropped, and told to `onError` once a minute at most.
 */
export class EventRecorder {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #component: string;
  readonly #instance: string;
  readonly #mayWrite: () => boolean;
  readonly #onError: (message: string) => void;
  readonly #series = new Map<string, Series>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  readonly #waiting: (() => Promise<void>)[] = [];
  readonly #later = new Map<string, () => void>();
  #working: Promise<void> | undefined;
  #closed = false;
  #dropped = 0;
  #toldAt = -Infinity;

  constructor(options: {
    readonly client: KubeClient;
    readonly clock: Clock;
    /** Who tells: shown as the event's source. */
    readonly component: string;
    /** Which process of it. Default: the component. */
    readonly instance?: string;
    /** Asked before each write: who was deposed tells nothing more, not even what it had still to tell. Default: always. */
    readonly mayWrite?: () => boolean;
    readonly onError: (message: string) => void;
  }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#component = options.component;
    this.#instance = options.instance ?? options.component;
    this.#mayWrite = options.mayWrite ?? (() => true);
    this.#onError = options.onError;
  }

  /** Events that were dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Has the event written soon. */
  record(event: KubeEvent): void {
    if (this.#closed) return;
    const now = this.#clock.now();
    const key = JSON.stringify([event.regarding.uid ?? event.regarding, event.type, event.reason, event.action, event.note]);
    const known = this.#series.get(key);
    if (known !== undefined && now - known.lastAt < SERIES_MS) {
      known.count += 1;
      known.lastAt = now;
      this.#scheduleSeries(key, known);
      return;
    }
    if (!this.#mayTell(event.regarding)) {
      this.#dropped += 1;
      return;
    }
    const { namespace, name } = event.regarding;
    // As client-go names them: the object, and a time that no other event of it has.
    const suffix = createHash("sha256").update(`${key}|${now}|${this.#instance}`).digest("hex").slice(0, 16);
    const series: Series = {
      name: `${name.slice(0, 200)}.${suffix}`,
      namespace: namespace === "" ? "default" : namespace,
      count: 1,
      lastAt: now,
      writtenAt: now,
      writtenCount: 1,
    };
    remember(this.#series, key, series);
    this.#enqueue(() => this.#create(event, series, now));
  }

  /** Takes no more, and resolves once what waits has been written, five seconds at most. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const cancel of this.#later.values()) cancel();
    this.#later.clear();
    const enough = Promise.withResolvers<void>();
    const cancel = this.#clock.after(5_000, enough.resolve);
    await Promise.race([this.#working, enough.promise]);
    cancel();
    this.#waiting.length = 0;
  }

  /** Whether the object's bucket has one left. */
  #mayTell(regarding: KubeEvent["regarding"]): boolean {
    const key = regarding.uid ?? `${regarding.kind}/${regarding.namespace}/${regarding.name}`;
    const now = this.#clock.monotonic();
    const known = this.#buckets.get(key) ?? { tokens: BURST, at: now };
    const tokens = Math.min(BURST, known.tokens + (now - known.at) / REFILL_MS);
    const may = tokens >= 1;
    remember(this.#buckets, key, { tokens: may ? tokens - 1 : tokens, at: now });
    return may;
  }

  #scheduleSeries(key: string, series: Series): void {
    if (this.#later.has(key)) return;
    const wait = Math.max(0, series.writtenAt + SERIES_WRITE_MS - this.#clock.now());
    const cancel = this.#clock.after(
      wait,
      () => {
        this.#later.delete(key);
        this.#enqueue(() => this.#update(series));
      },
      { background: true },
    );
    this.#later.set(key, cancel);
  }

  #enqueue(work: () => Promise<void>): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#waiting.push(work);
    this.#working ??= this.#work().finally(() => (this.#working = undefined));
  }

  async #work(): Promise<void> {
    // Not in the turn of whoever records: that one is on its way to an effect.
    await Promise.resolve();
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      try {
        if (this.#mayWrite()) await next();
        else this.#dropped += 1;
      } catch (error) {
        this.#dropped += 1;
        if (this.#clock.monotonic() - this.#toldAt < 60_000) continue;
        this.#toldAt = this.#clock.monotonic();
        this.#onError(`events cannot be written (${this.#dropped} dropped so far): ${messageOf(error)}`);
      }
    }
  }

  async #create(event: KubeEvent, { name, namespace }: Series, now: number): Promise<void> {
    await this.#client.request({
      method: "POST",
      path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      body: {
        apiVersion: "events.k8s.io/v1",
        kind: "Event",
        metadata: { name, namespace },
        eventTime: microTime(now),
        reportingController: `nightshift.dev/${this.#component}`,
        reportingInstance: this.#instance.slice(0, 128),
        type: event.type,
        reason: event.reason.slice(0, 128),
        action: event.action.slice(0, 128),
        note: cut(event.note, MAX_NOTE),
        regarding: event.regarding,
      },
      timeoutMs: 10_000,
    });
  }

  async #update(series: Series): Promise<void> {
    const { count, lastAt } = series;
    if (count === series.writtenCount) return;
    series.writtenAt = this.#clock.now();
    try {
      await this.#client.request({
        method: "PATCH",
        path: `/apis/events.k8s.io/v1/namespaces/${series.namespace}/events/${series.name}`,
        contentType: "application/merge-patch+json",
        body: { series: { count, lastObservedTime: microTime(lastAt) } },
        timeoutMs: 10_000,
      });
      series.writtenCount = count;
    } catch (error) {
      // It has expired: whatever comes next begins another.
      if (!isNotFound(error)) throw error;
      series.lastAt = -Infinity;
    }
  }
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > MAX_KEPT && oldest !== undefined) map.delete(oldest);
}

function cut(text: string, bytes: number): string {
  const encoded = Buffer.from(text, "utf8");
  if (encoded.length <= bytes) return text;
  // A character that was cut in two is left out.
  return `${encoded
    .subarray(0, bytes - 3)
    .toString("utf8")
    .replace(/\uFFFD+$/, "")}…`;
}
