import { RE2JS } from "@bufbuild/re2";
import type { Clock } from "../ports/clock.ts";

/** Which log records count. All that is given must hold. */
export interface LogQuery {
  /** Least severity number of OpenTelemetry. */
  readonly severity: number;
  /** RE2 pattern that a part of the body matches. */
  readonly body: string | undefined;
  /** Attributes of the record, as text. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** A log record, cut down to what is asked of it. */
export interface LogRecord {
  /** Milliseconds since the epoch. */
  readonly t: number;
  /** 1 to 24; 0 where the sender did not say. */
  readonly severity: number;
  /** Its beginning. */
  readonly body: string;
  /** Of its attributes, those that some query names, as text. */
  readonly attributes: ReadonlyMap<string, string>;
  /** 32 hexadecimal digits; empty where there is none. */
  readonly traceId: string;
}

/** What was counted for a query of one replica. */
export interface LogCount {
  readonly total: number;
  /** Of the oldest and the newest that counted (ms); undefined where none did. */
  readonly first: number | undefined;
  readonly last: number | undefined;
  /** Since when it is counted (ms): what came before is not known. */
  readonly countedSince: number;
  /** When a log record of the replica was heard of last, whichever (ms); undefined where none was. */
  readonly heardAt: number | undefined;
  /** Traces of the newest that counted, newest first. */
  readonly traceIds: readonly string[];
}

/** Why a log record does not count for all that it may. */
export type LogRefusal =
  /** Matching bodies would have taken too long. */
  | "match-limit"
  /** Of more replicas than logs are counted of. */
  | "log-senders";

/** A query that nobody has asked for in this time is counted no more (ms). */
const FORGOTTEN_MS = 300_000;
/** How long counts are kept at most (ms); else a minute or two longer than anybody looks back. */
const RETENTION_MS = 3_600_000;
const SLACK_MS = 60_000;
/** Counts are kept by seconds. */
const RESOLUTION_MS = 1_000;
/** Most queries at a time. */
const MAX_QUERIES = 256;
/** Most pairs of a replica and a query, and replicas that are heard of. */
const MAX_COUNTS = 20_000;
/**
 * Most that is matched in a second, over all queries: characters of bodies, each as often as its pattern has instructions. RE2 takes no
 * longer than in proportion to that, at most some 35 ns (`(x|a?){300}$` on a thousand letters: 65 ms), so this is a third of a second at worst; with
 * usual patterns, which are looked for by their letters first, it is 4,000 bodies of 100 characters in some ms.
 */
const MAX_WORK = 10_000_000;
/** What a match costs besides: a body may be empty. */
const MATCH_CHARS = 16;
/** Characters of a body that are looked at. */
export const MAX_BODY = 1_024;
const MAX_TRACES = 3;
const TRACE_ID = /^[0-9a-f]{32}$/;

interface Asked {
  readonly query: LogQuery;
  readonly pattern: RE2JS | undefined;
  /** Instructions of the pattern. */
  readonly instructions: number;
  /** Since when all is counted (ms). */
  since: number;
  askedAt: number;
  /** How long its counts are kept (ms): what is older than anybody asks for takes place for nothing. */
  keepMs: number;
  /** By replica: counts by second, oldest first. */
  readonly counts: Map<string, { readonly seconds: Map<number, number>; traceIds: readonly string[] }>;
}

/** Counts log records for the queries that policies ask, and keeps none: in memory, bounded, from when it was first asked. */
export class LogBook {
  readonly #clock: Clock;
  readonly #asked = new Map<string, Asked>();
  /** When each replica's logs were heard of last, and when one of them could not be counted; least recently heard of first. */
  readonly #heard = new Map<string, { readonly at: number; gapAt: number }>();
  #pairs = 0;
  /** What the clock has said last (ms). */
  #now = -Infinity;
  #work = { left: MAX_WORK, at: -Infinity };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether somebody asks. */
  get active(): boolean {
    this.#forget();
    return this.#asked.size > 0;
  }

  /** Keys of attributes that somebody asks for. */
  attributeKeys(): ReadonlySet<string> {
    return new Set([...this.#asked.values()].flatMap(({ query }) => Object.keys(query.attributes)));
  }

  /**
   * What of a replica matches a query, from `since` (ms) on. Whoever asks for the first time starts the count. Undefined
   * where there are too many queries.
   */
  count(replicaUid: string, query: LogQuery, since: number): LogCount | undefined {
    const key = JSON.stringify([query.severity, query.body, Object.entries(query.attributes).toSorted(([a], [b]) => (a < b ? -1 : 1))]);
    const now = this.#wallNow();
    const keepMs = Math.min(RETENTION_MS, (Math.ceil((now - since) / SLACK_MS) + 1) * SLACK_MS);
    let asked = this.#asked.get(key);
    if (asked === undefined) {
      this.#forget();
      if (this.#asked.size >= MAX_QUERIES) return undefined;
      const pattern = query.body === undefined ? undefined : RE2JS.compile(query.body);
      const instructions = pattern?.re2Input.prog.numInst() ?? 0;
      asked = { query, pattern, instructions, since: now, askedAt: 0, keepMs, counts: new Map() };
      this.#asked.set(key, asked);
    }
    if (keepMs > asked.keepMs) {
      asked.since = Math.max(asked.since, now - asked.keepMs);
      asked.keepMs = keepMs;
    }
    asked.askedAt = this.#clock.monotonic();
    const of = asked.counts.get(replicaUid);
    const heard = this.#heard.get(replicaUid);
    let total = 0;
    let first: number | undefined;
    let last: number | undefined;
    for (const [second, count] of of?.seconds ?? []) {
      if (second + RESOLUTION_MS <= since || second <= now - RETENTION_MS) continue;
      total += count;
      first = Math.min(first ?? second, second);
      last = Math.max(last ?? second, second);
    }
    return {
      total,
      first,
      last,
      countedSince: Math.max(asked.since, heard?.gapAt ?? 0),
      heardAt: heard?.at,
      traceIds: of?.traceIds ?? [],
    };
  }

  /** Counts a record where it matches; says why it could not. */
  record(replicaUid: string, record: LogRecord): LogRefusal | undefined {
    const now = this.#wallNow();
    if (!this.#heard.has(replicaUid) && this.#heard.size >= MAX_COUNTS) {
      const [oldest, { at }] = this.#heard.entries().next().value ?? ["", { at: 0 }];
      if (at > now - RETENTION_MS) return "log-senders";
      this.#heard.delete(oldest);
    }
    const heard = { at: now, gapAt: this.#heard.get(replicaUid)?.gapAt ?? 0 };
    this.#heard.delete(replicaUid);
    this.#heard.set(replicaUid, heard);
    const refusal = this.#count(replicaUid, record, now);
    // What was not counted may be what is asked for: that there is none is not known any more.
    if (refusal !== undefined) heard.gapAt = now;
    return refusal;
  }

  /** Drops what is known of a replica that is gone. */
  forget(replicaUid: string): void {
    this.#heard.delete(replicaUid);
    for (const { counts } of this.#asked.values()) if (counts.delete(replicaUid)) this.#pairs--;
  }

  #count(replicaUid: string, record: LogRecord, now: number): LogRefusal | undefined {
    for (const asked of this.#asked.values()) {
      const { query, pattern } = asked;
      if (record.severity < query.severity) continue;
      if (!Object.entries(query.attributes).every(([key, value]) => record.attributes.get(key) === value)) continue;
      if (pattern !== undefined) {
        if (!this.#mayMatch((record.body.length + MATCH_CHARS) * asked.instructions)) return "match-limit";
        if (!pattern.test(record.body)) continue;
      }
      if (!this.#add(asked, replicaUid, Math.min(record.t, now), record.traceId, now)) return "log-senders";
    }
    return undefined;
  }

  #add(asked: Asked, replicaUid: string, t: number, traceId: string, now: number): boolean {
    let of = asked.counts.get(replicaUid);
    if (of === undefined) {
      if (this.#pairs >= MAX_COUNTS) return false;
      this.#pairs++;
      of = { seconds: new Map(), traceIds: [] };
      asked.counts.set(replicaUid, of);
    }
    const second = Math.floor(t / RESOLUTION_MS) * RESOLUTION_MS;
    of.seconds.set(second, (of.seconds.get(second) ?? 0) + 1);
    // Not with each: that would take as long as there are seconds, for every record of a replayed log.
    if (of.seconds.size > (2 * asked.keepMs) / RESOLUTION_MS)
      for (const at of of.seconds.keys()) if (at <= now - asked.keepMs) of.seconds.delete(at);
    if (TRACE_ID.test(traceId)) of.traceIds = [traceId, ...of.traceIds.filter((other) => other !== traceId)].slice(0, MAX_TRACES);
    return true;
  }

  /** The time by the clock. Where that was set back, what was counted lies in the future, and would for as long as it was ahead: it is counted anew. */
  #wallNow(): number {
    const now = this.#clock.now();
    if (now < this.#now - RESOLUTION_MS) {
      this.#heard.clear();
      this.#pairs = 0;
      for (const asked of this.#asked.values()) {
        asked.counts.clear();
        asked.since = now;
      }
    }
    this.#now = now;
    return now;
  }

  #mayMatch(cost: number): boolean {
    const now = this.#clock.monotonic();
    if (now - this.#work.at >= 1_000) this.#work = { left: MAX_WORK, at: now };
    if (cost > this.#work.left) return false;
    this.#work.left -= cost;
    return true;
  }

  #forget(): void {
    const oldest = this.#clock.monotonic() - FORGOTTEN_MS;
    for (const [key, { askedAt, counts }] of this.#asked) {
      if (askedAt >= oldest) continue;
      this.#pairs -= counts.size;
      this.#asked.delete(key);
    }
  }
}
