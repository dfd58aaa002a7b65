import { messageOf } from "../api/errors.ts";
import { sleep, type Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import { HttpRefusal, HttpSource, type HttpSourceOptions } from "./http-source.ts";
import { decodePromql, decodePromqlRefusal, type PromqlAnswer, type PromqlProblem, type PromqlQuery, stepsOf } from "./promql.ts";

/** Where a Prometheus is, or what speaks its API. */
export interface PrometheusOptions extends HttpSourceOptions {
  /** Mimir's tenant (`X-Scope-OrgID`). */
  readonly tenant?: string | undefined;
}

/** Most queries that are kept; of the others it is said that they are too many. */
const MAX_QUERIES = 5_000;
/** Questions at once. */
const CONCURRENCY = 8;
/** Time limit of one query (ms), also told to Prometheus, which ends it then. */
const QUERY_TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** A query that nobody has wanted to know of for so long is not asked any more (ms). */
const FORGET_MS = 300_000;
/** How often it is looked at what is due (ms). */
const TICK_MS = 250;
/** An answer that is older than this many of its intervals is none. */
const STALE_INTERVALS = 3;

interface Entry {
  readonly query: PromqlQuery;
  /** When it was wanted last (monotonic ms), by how often it was wanted (ms). */
  readonly wanted: Map<number, number>;
  /** As often as the most eager of those wants it (ms). */
  everyMs: number;
  /** Monotonic ms. */
  dueAt: number;
  /** Whether it waits for its turn, or a question is under way. */
  pending: boolean;
  answeredAt: number | undefined;
  answer: PromqlAnswer | PromqlProblem | undefined;
}

/**
 * Asks a Prometheus what policies want to know: each query once, however many want it, as often as the most eager of them,
 * not all at the same moment. Which are asked is decided by who asks for their answers: `answer` never waits.
 */
export class PromqlPoll {
  readonly #http: HttpSource;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onError: (message: string) => void;
  readonly #entries = new Map<string, Entry>();
  /** What is due and has not had its turn yet, who has waited longest first. */
  readonly #waiting: Entry[] = [];
  readonly #running = new Set<Promise<void>>();

  constructor(options: {
    readonly source: PrometheusOptions;
    readonly clock: Clock;
    readonly random: Random;
    /** Told of a query that is not answered, once until it is or the reason changes. */
    readonly onError: (message: string) => void;
  }) {
    const { tenant, ...source } = options.source;
    this.#http = new HttpSource({ ...source, ...(tenant === undefined ? {} : { headers: { "x-scope-orgid": tenant } }) });
    this.#clock = options.clock;
    this.#random = options.random;
    this.#onError = options.onError;
  }

  /** The newest answer to a query; undefined where there was none yet. From now on it is asked, as long as somebody wants to know. */
  answer(query: PromqlQuery): PromqlAnswer | PromqlProblem | undefined {
    const now = this.#clock.monotonic();
    const key = `${query.rangeMs} ${query.query}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= MAX_QUERIES) return { problem: `more than ${MAX_QUERIES} different queries are asked already` };
      // The first answer is wanted soon, but not for all at once.
      const dueAt = now + this.#random.next() * Math.min(1_000, query.everyMs);
      entry = { query, wanted: new Map(), everyMs: query.everyMs, dueAt, pending: false, answeredAt: undefined, answer: undefined };
      this.#entries.set(key, entry);
    }
    if (query.everyMs < entry.everyMs) {
      entry.everyMs = query.everyMs;
      entry.dueAt = Math.min(entry.dueAt, now + query.everyMs);
    }
    entry.wanted.set(query.everyMs, now);
    if (entry.answeredAt !== undefined && now - entry.answeredAt > STALE_INTERVALS * entry.everyMs + QUERY_TIMEOUT_MS)
      return { problem: "it has not been answered for too long" };
    return entry.answer;
  }

  /** Asks what is due until `signal` aborts; resolves when nothing is under way any more. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      void this.poll(signal);
      await sleep(this.#clock, TICK_MS, signal);
    }
    await Promise.all(this.#running);
    await this.#http.close();
  }

  /** Asks what is due now, eight at a time; resolves when that is answered. Never rejects. */
  async poll(signal: AbortSignal): Promise<void> {
    const now = this.#clock.monotonic();
    const due: Entry[] = [];
    for (const [key, entry] of this.#entries) {
      for (const [everyMs, wantedAt] of entry.wanted) if (now - wantedAt > FORGET_MS) entry.wanted.delete(everyMs);
      if (entry.wanted.size === 0) {
        this.#entries.delete(key);
        continue;
      }
      entry.everyMs = Math.min(...entry.wanted.keys());
      if (entry.dueAt <= now && !entry.pending) due.push(entry);
    }
    // Who has waited longest goes first, so that slow queries of one policy do not keep those of others from being asked.
    due.sort((a, b) => a.dueAt - b.dueAt);
    for (const entry of due) entry.pending = true;
    this.#waiting.push(...due);
    for (let idle = Math.min(CONCURRENCY - this.#running.size, this.#waiting.length); idle > 0; idle--) {
      const asking = this.#askInTurn(signal).finally(() => this.#running.delete(asking));
      this.#running.add(asking);
    }
    await Promise.all(this.#running);
  }

  /** Asks one after the other what waits for its turn: what came next only at the next look would be 32 a second at most. */
  async #askInTurn(signal: AbortSignal): Promise<void> {
    for (let entry = this.#waiting.shift(); entry !== undefined; entry = this.#waiting.shift()) {
      if (signal.aborted) return;
      await this.#ask(entry, signal);
    }
  }

  async #ask(entry: Entry, signal: AbortSignal): Promise<void> {
    const began = this.#clock.monotonic();
    const answer = await this.#answerOf(entry.query, signal);
    entry.pending = false;
    if (signal.aborted) return;
    const before = entry.answer;
    entry.answer = answer;
    entry.answeredAt = this.#clock.monotonic();
    entry.dueAt = began + entry.everyMs * (0.9 + this.#random.next() * 0.2);
    if ("problem" in answer && !(before !== undefined && "problem" in before && before.problem === answer.problem))
      this.#onError(`the query ${JSON.stringify(entry.query.query)} is not answered by ${this.#http.name}: ${answer.problem}`);
  }

  async #answerOf({ query, rangeMs }: PromqlQuery, signal: AbortSignal): Promise<PromqlAnswer | PromqlProblem> {
    // Whole milliseconds: the API's times have no more.
    const steps = stepsOf(rangeMs, Math.floor(this.#clock.now()));
    const [start = 0, second = 0] = steps;
    const end = steps.at(-1) ?? 0;
    const seconds = (ms: number): string => (ms / 1000).toFixed(3);
    const form: Record<string, string> = { query, timeout: `${QUERY_TIMEOUT_MS / 1000}s` };
    if (rangeMs === 0) form["time"] = seconds(end);
    else Object.assign(form, { start: seconds(start), end: seconds(end), step: seconds(second - start) });
    try {
      const path = rangeMs === 0 ? "/api/v1/query" : "/api/v1/query_range";
      const body = await this.#http.ask(path, { maxBytes: MAX_ANSWER_BYTES, form, timeoutMs: QUERY_TIMEOUT_MS, signal });
      return decodePromql(body, steps);
    } catch (error) {
      const said = error instanceof HttpRefusal ? decodePromqlRefusal(error.body) : undefined;
      return { problem: said === undefined ? messageOf(error) : `${messageOf(error)}: ${said}` };
    }
  }
}
