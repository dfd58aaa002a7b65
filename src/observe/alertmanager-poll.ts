import { messageOf } from "../api/errors.ts";
import type { Alert } from "../api/signal.ts";
import { sleep, type Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { AlertBook } from "./alertmanager.ts";
import { type AlertmanagerSnapshot, decodeSnapshot, decodeUptime, type RefusedSnapshotAlert } from "./alertmanager-snapshot.ts";
import { HttpSource, type HttpSourceOptions } from "./http-source.ts";

/** Largest answer (bytes): some 50,000 alerts. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** How often they are asked (ms); half of a Prometheus' `resend-delay`. */
const EVERY_MS = 30_000;
/**
 * How long an Alertmanager must have been up before what it does not have does not fire (ms). It keeps alerts in memory
 * only, and a Prometheus sends them again within its `resend-delay` of 1 minute, or after an evaluation interval.
 */
const SETTLED_MS = 300_000;
/** How far the clocks of an Alertmanager and of its Prometheus may be from ours (ms). */
const CLOCKS_MS = 60_000;

/** Where an Alertmanager is. */
export interface AlertmanagerOptions extends HttpSourceOptions {
  /** Only alerts for this receiver of its configuration. Default: all. */
  readonly receiver?: string | undefined;
}

interface Source {
  readonly http: HttpSource;
  readonly receiver: string | undefined;
  /** What of its last answer was not understood: it is told of once. */
  notUnderstood: ReadonlySet<string>;
}

interface Answer {
  readonly snapshot: AlertmanagerSnapshot;
  /** It has been up for so long, and is understood so far, that what it does not have does not fire. */
  readonly settled: boolean;
}

/**
 * Asks every Alertmanager that sends alerts here what fires, and tells the book. Their webhooks say it first; but they
 * repeat it after `repeat_interval` only (4 hours by default), and what the one before us has heard is lost with it.
 *
 * An alert that one of them had and none has any more is resolved: only when all have answered, are understood, and have been
 * up for 5 minutes. What is silenced or inhibited is neither told of nor over; what was heard of before is told of as such. And
 * where it only ceased to be repeated, the book knows: see there. While the Prometheus that sends the alerts is known not to answer,
 * nothing is over by that it is gone: it may have been gone before the first answer.
 */
export class AlertmanagerPoll {
  readonly #sources: readonly Source[];
  readonly #book: AlertBook;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #onError: (message: string) => void;
  readonly #sourceAnswers: () => boolean;
  /** What the book was told that it fires, and not that it is over, by fingerprint. */
  #known = new Map<string, Alert>();
  /** Those that did not answer the last time. */
  readonly #failing = new Set<Source>();

  constructor(options: {
    readonly sources: readonly AlertmanagerOptions[];
    readonly book: AlertBook;
    readonly clock: Clock;
    readonly random: Random;
    /** Told once of each Alertmanager that ceases to answer, and once when it is back; of an alert that is not understood, once. */
    readonly onError: (message: string) => void;
    /** Whether the Prometheus that sends the alerts answers. Default: yes, as nobody knows. */
    readonly sourceAnswers?: () => boolean;
  }) {
    this.#sources = options.sources.map((source) => ({
      http: new HttpSource(source),
      receiver: source.receiver,
      notUnderstood: new Set(),
    }));
    this.#book = options.book;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#onError = options.onError;
    this.#sourceAnswers = options.sourceAnswers ?? (() => true);
  }

  /** Asks at once and then every 30 seconds, not all at the same moment, until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (this.#sources.length > 0 && !signal.aborted) {
      await this.poll(signal);
      await sleep(this.#clock, EVERY_MS * (0.75 + this.#random.next() / 2), signal);
    }
    await Promise.all(this.#sources.map(({ http }) => http.close()));
  }

  /** Asks once; resolves when the book has been told. Never rejects. */
  async poll(signal: AbortSignal): Promise<void> {
    const began = this.#clock.now();
    const answers = await Promise.all(this.#sources.map((source) => this.#ask(source, signal)));
    if (signal.aborted) return;
    const heard = answers.filter((answer) => answer !== undefined);
    const isWhole = answers.length > 0 && heard.length === answers.length && heard.every(({ settled }) => settled) && this.#sourceAnswers();
    const byFingerprint = (of: (snapshot: AlertmanagerSnapshot) => readonly Alert[]): ReadonlyMap<string, Alert> =>
      new Map(heard.flatMap(({ snapshot }) => of(snapshot)).map((alert) => [alert.fingerprint, alert]));
    const active = byFingerprint((snapshot) => snapshot.active);
    const suppressed = byFingerprint((snapshot) => snapshot.suppressed);
    const untold = byFingerprint((snapshot) => [...snapshot.suppressed, ...snapshot.unprocessed]);
    this.#book.asked([...active.values(), ...untold.values()], [...suppressed.values()]);
    const now = this.#clock.now();
    const firing = new Map(this.#book.alerts().flatMap((alert) => (alert.status === "firing" ? [[alert.fingerprint, alert]] : [])));
    // What the book has not as firing is over already, and nothing needs to be remembered of it.
    // Silenced in one of them is silenced: between them, silences take a moment, and whoever has set one may be at it.
    const told = [
      ...active.values(),
      ...[...suppressed.values()].filter(({ fingerprint }) => !active.has(fingerprint) && firing.has(fingerprint)),
    ];
    const fires = told.map((alert): Alert => {
      // What fires now is no older life: of what several Prometheus say Alertmanager takes the earliest start, whichever came first.
      const known = firing.get(alert.fingerprint)?.startsAt ?? alert.startsAt;
      const startsAt = known > now ? alert.startsAt : Math.max(alert.startsAt, known);
      return { ...alert, startsAt, ...(suppressed.has(alert.fingerprint) ? { suppressed: true as const } : {}) };
    });
    const firesNow = new Set(fires.map(({ fingerprint }) => fingerprint));
    const silent = [...this.#known.values()].filter(({ fingerprint }) => !firesNow.has(fingerprint) && firing.has(fingerprint));
    // Of what a webhook has told meanwhile, an answer may know nothing yet.
    const isOlder = ({ fingerprint }: Alert): boolean => (firing.get(fingerprint)?.receivedAt ?? now) <= began;
    const missed = isWhole ? silent.filter((alert) => !untold.has(alert.fingerprint) && isOlder(alert)) : [];
    const over = missed.map((alert): Alert => {
      const ended = { ...alert, status: "resolved" as const, endsAt: now, receivedAt: now };
      return hasExpired(alert, now) ? { ...ended, expired: true } : ended;
    });
    // What was told of counts as long as not all have said that it is gone.
    const kept = silent.filter((alert) => !missed.includes(alert));
    this.#known = new Map([...kept, ...fires].map((alert) => [alert.fingerprint, alert]));
    this.#tell([...fires, ...over]);
    if (isWhole) this.#book.settle([...untold.values()].filter(({ fingerprint }) => !active.has(fingerprint)));
  }

  #tell(alerts: readonly Alert[]): void {
    try {
      const { refused } = this.#book.deliver(alerts);
      if (refused > 0) this.#onError(`there is no room for ${refused} alerts of Alertmanager`);
    } catch (error) {
      this.#onError(messageOf(error));
    }
  }

  #tellNotUnderstood(source: Source, refused: readonly RefusedSnapshotAlert[]): void {
    const before = source.notUnderstood;
    source.notUnderstood = new Set(refused.map(refusalKey));
    const news = refused.filter((alert) => !before.has(refusalKey(alert)));
    const [first] = news;
    if (first === undefined) return;
    const which = first.fingerprint ?? `number ${first.index}`;
    this.#onError(`Alertmanager at ${source.http.name}: ${news.length} alerts are not understood, the first is ${which}: ${first.message}`);
  }

  async #ask(source: Source, signal: AbortSignal): Promise<Answer | undefined> {
    try {
      const answer = await askAlertmanager(source, this.#clock, signal);
      if (this.#failing.delete(source)) this.#onError(`Alertmanager at ${source.http.name} answers again`);
      this.#tellNotUnderstood(source, answer.snapshot.refused);
      return answer;
    } catch (error) {
      if (!signal.aborted && !this.#failing.has(source)) {
        this.#failing.add(source);
        this.#onError(`Alertmanager at ${source.http.name} cannot be asked what fires: ${messageOf(error)}`);
      }
      return undefined;
    }
  }
}

/** Whether an alert that is gone may be so as nobody repeated it: a real end would have been seen before its time was up. */
function hasExpired({ expiresAt, receivedAt }: Alert, now: number): boolean {
  return expiresAt !== undefined && now >= expiresAt - Math.min(CLOCKS_MS, (expiresAt - receivedAt) / 4);
}

/** What an alert that is not understood is told from others by. */
const refusalKey = ({ fingerprint = "", message }: RefusedSnapshotAlert): string => `${fingerprint} ${message}`;

async function askAlertmanager({ http, receiver }: Source, clock: Clock, signal: AbortSignal): Promise<Answer> {
  const query: Record<string, string> = receiver === undefined ? {} : { receiver: RegExp.escape(receiver) };
  const snapshot = decodeSnapshot(await http.ask("/api/v2/alerts", { maxBytes: MAX_ANSWER_BYTES, query, signal }), clock.now());
  // Asked afterwards: one that was started between the two has not been up for long.
  const startedAt = decodeUptime(await http.ask("/api/v2/status", { maxBytes: MAX_ANSWER_BYTES, signal }));
  const isUnderstood = snapshot.refused.every(({ nameless }) => nameless);
  return { snapshot, settled: isUnderstood && startedAt !== undefined && clock.now() - startedAt >= SETTLED_MS };
}
