import { z } from "zod";
import { NightshiftError } from "../api/errors.ts";
import type { Alert } from "../api/signal.ts";
import type { Clock } from "../ports/clock.ts";
import { parseJson } from "./json.ts";

const MAX_LABELS = 128;
const MAX_TEXT = 8_192;

const texts = z
  .record(z.string().max(1_024), z.string().max(MAX_TEXT))
  .refine((map) => Object.keys(map).length <= MAX_LABELS, { error: `more than ${MAX_LABELS} entries` });

const time = z.iso.datetime({ offset: true, error: "expected a time of RFC 3339" });

/** What the webhook and the API say of an alert alike. */
export const alertFields = {
  labels: texts.refine((labels) => (labels["alertname"] ?? "") !== "", { error: "has no alertname" }),
  annotations: texts.nullish(),
  startsAt: time,
  endsAt: time.nullish(),
  fingerprint: z.string().min(1).max(128),
};

const alertSchema = z.object({ ...alertFields, status: z.enum(["firing", "resolved"]) });

const payloadSchema = z.object({
  version: z.literal("4", { error: "is not 4, the version of the webhook that Alertmanager sends since 0.7" }),
  alerts: z.array(z.unknown()),
});

/** An alert of a payload that is not understood. */
export interface RefusedAlert {
  /** Its place in the payload's `alerts`. */
  readonly index: number;
  readonly message: string;
}

/** What a payload says. */
export interface AlertmanagerPayload {
  readonly alerts: readonly Alert[];
  readonly refused: readonly RefusedAlert[];
}

/**
 * Decodes the body of Alertmanager's webhook, version 4. Fields that are not read may be anything: Alertmanager adds
 * some now and then. An alert that is not understood is refused by itself; the others are kept, as a fault in one rule
 * must not silence the rest.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `TOO_DEEP` or `MALFORMED_ALERTS`: then nothing of it can be used.
 */
export function decodeAlerts(body: Uint8Array, receivedAt: number): AlertmanagerPayload {
  const payload = payloadSchema.safeParse(parseJson(body));
  if (!payload.success)
    throw new NightshiftError("MALFORMED_ALERTS", `the body is no Alertmanager webhook: ${problem(payload.error)}`, {
      fix: "Point a webhook_configs entry of Alertmanager at this address.",
    });
  const alerts: Alert[] = [];
  const refused: RefusedAlert[] = [];
  payload.data.alerts.forEach((item, index) => {
    const parsed = alertSchema.safeParse(item);
    if (!parsed.success) return void refused.push({ index, message: problem(parsed.error) });
    const alert = alertOf(parsed.data, receivedAt);
    if (typeof alert === "string") refused.push({ index, message: alert });
    else alerts.push(alert);
  });
  return { alerts, refused };
}

/** The alert that is described, or why it is none. */
export function alertOf(
  { status, labels, annotations, startsAt, endsAt, fingerprint }: z.output<typeof alertSchema>,
  receivedAt: number,
): Alert | string {
  const start = Date.parse(startsAt);
  const end = endsAt === undefined || endsAt === null ? undefined : Date.parse(endsAt);
  if (!Number.isFinite(start) || (end !== undefined && !Number.isFinite(end))) return "startsAt or endsAt is no time";
  return {
    status,
    alertname: labels["alertname"] ?? "",
    labels,
    annotations: annotations ?? {},
    startsAt: start,
    // Go's zero time, the year 1, stands for an end that is not known. A firing alert's end is only when it would
    // time out, which is no end either.
    endsAt: status === "firing" || end === undefined || end <= 0 ? undefined : end,
    fingerprint,
    receivedAt,
  };
}

/** The first problem of an input, for people. */
export function problem(error: z.ZodError): string {
  const [issue] = error.issues;
  if (issue === undefined) return "not understood";
  // A label's name may be as long as its sender likes.
  return `${issue.path.length === 0 ? "" : `${issue.path.join(".").slice(0, 200)}: `}${issue.message.slice(0, 500)}`;
}

/** The bounds of an AlertBook. */
export interface AlertBookLimits {
  /** Most alerts. Beyond, the longest resolved make place; a firing one never does, so a new one is refused. Default 50,000. */
  readonly maxAlerts: number;
  /**
   * How long a resolved alert is kept (ms), so that a late replay of its firing is known for what it is. Default 1 hour. One that has
   * `expired` is kept for `keepFiringMs`: forgotten it would look as if it were over, and nobody has said so.
   */
  readonly keepResolvedMs: number;
  /**
   * How long an alert that fires is kept without being heard of (ms): with `send_resolved: false` its end is never said.
   * Default 120 hours: Alertmanager repeats within its own retention (`--data.retention`), of which that is the default.
   */
  readonly keepFiringMs: number;
}

/** How long what Alertmanager said of an alert, when it was asked, outweighs what a webhook says of the time before (ms). */
const ASKED_MS = 300_000;
/** An alert of which Alertmanager was not asked for this long before its end may have got another time to end by itself (ms). */
const UNASKED_MS = 90_000;

/** How far a source's clock may run ahead of ours before the start that it names is not believed. */
const MAX_FUTURE_MS = 60_000;

/** What became of a delivery. */
export interface AlertDelivery {
  /** Alerts that are news: new, changed, or resolved. */
  readonly changed: readonly Alert[];
  /** Alerts that were known as they are, or that a newer notice has overtaken. */
  readonly unchanged: number;
  /** Alerts for which there was no place. */
  readonly refused: number;
}

/**
 * The alerts that Alertmanager has told of, by fingerprint, in memory.
 *
 * Deliveries may come twice and out of order. Of one fingerprint, the later `startsAt` is the newer life. Within one
 * life, resolved is final: a replayed notice of its firing does not bring it back. An older life changes nothing, except
 * that a start in the future, from a clock that was wrong, silences none that is believable.
 *
 * What Alertmanager says when it is asked (`asked`) is of now, where a webhook may have been sent long before it arrives. So one that
 * fires stays suppressed until the answer is another. And it tells one end from another: Prometheus repeats each alert with a time at which it
 * ends by itself, four minutes ahead, and a real end is earlier. An alert that ends at that very time has `expired`: nobody said that
 * it is over. It comes back when Alertmanager has it again.
 */
export class AlertBook {
  readonly #clock: Clock;
  readonly #limits: AlertBookLimits;
  readonly #listeners = new Set<(changed: readonly Alert[]) => void>();
  /** In the order in which they were last heard of. */
  readonly #firing = new Map<string, { alert: Alert; at: number }>();
  /** In the order in which they were resolved: those to be forgotten first are at the front. */
  readonly #resolved = new Map<string, { alert: Alert; at: number }>();
  #settled: { readonly suppressed: readonly Alert[] } | undefined;
  /** What Alertmanager said last of what fires, and when (monotonic ms), least recently said first. */
  readonly #asked = new Map<
    string,
    { readonly startsAt: number; readonly expiresAt: number; readonly suppressed: boolean; readonly at: number; readonly askedAt: number }
  >();

  constructor(clock: Clock, limits: Partial<AlertBookLimits> = {}) {
    this.#clock = clock;
    this.#limits = { maxAlerts: 50_000, keepResolvedMs: 3_600_000, keepFiringMs: 120 * 3_600_000, ...limits };
  }

  /** Alerts that fire, and those resolved a short while ago. */
  alerts(): readonly Alert[] {
    this.#forget();
    return [...this.#firing.values(), ...this.#resolved.values()].map(({ alert }) => alert);
  }

  /** Calls back, before `deliver` returns, with the alerts that are news. Returns what ends it. */
  onChange(listener: (changed: readonly Alert[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes note of what every Alertmanager that answers says now of what fires: before it is delivered. */
  asked(firing: readonly Alert[], suppressed: readonly Alert[]): void {
    const at = this.#clock.monotonic();
    const quiet = new Set(suppressed.map(({ fingerprint }) => fingerprint));
    for (const { fingerprint, startsAt, expiresAt = -Infinity } of [...firing, ...suppressed]) {
      const known = this.#asked.get(fingerprint);
      // Of several Alertmanagers the one that heard of it last knows for longest.
      const expires = known?.at === at ? Math.max(known.expiresAt, expiresAt) : expiresAt;
      this.#asked.delete(fingerprint);
      this.#asked.set(fingerprint, { startsAt, expiresAt: expires, suppressed: quiet.has(fingerprint), at, askedAt: this.#clock.now() });
    }
    for (const fingerprint of this.#asked.keys()) {
      if (this.#asked.size <= this.#limits.maxAlerts) break;
      this.#asked.delete(fingerprint);
    }
  }

  /**
   * Everything that fires, and of which anybody is told, has been delivered: what is not here does not fire. What is only
   * `suppressed` fires without anybody being told.
   */
  settle(suppressed: readonly Alert[]): void {
    this.#settled = { suppressed };
  }

  /** What was suppressed when everything that fires was known last; undefined as long as it never was. */
  settled(): { readonly suppressed: readonly Alert[] } | undefined {
    return this.#settled;
  }

  /** Takes a delivery in. When it returns, `alerts()` shows it and every listener has been called. */
  deliver(alerts: readonly Alert[]): AlertDelivery {
    this.#forget();
    const changed: Alert[] = [];
    let refused = 0;
    for (const told of alerts) {
      const alert = this.#inLightOfAnswers(told);
      const outcome = this.#take(alert);
      if (outcome === "changed") changed.push(alert);
      else if (outcome === "refused") refused++;
    }
    const delivery = { changed, unchanged: alerts.length - changed.length - refused, refused };
    if (changed.length > 0) {
      const failures: unknown[] = [];
      for (const listener of this.#listeners) {
        try {
          listener(changed);
        } catch (error) {
          failures.push(error);
        }
      }
      // One listener's fault must not keep the news from the others.
      if (failures.length > 0) throw new AggregateError(failures, "a listener for alerts failed");
    }
    return delivery;
  }

  /** An alert with what Alertmanager has said of it when it was asked, which the alert itself cannot say. */
  #inLightOfAnswers(alert: Alert): Alert {
    const asked = this.#asked.get(alert.fingerprint);
    if (asked === undefined) return alert;
    if (alert.status === "resolved") {
      // It was asked about a life before this one.
      if (alert.startsAt > Math.max(asked.startsAt, asked.askedAt)) return alert;
      const after = (alert.endsAt ?? -Infinity) - asked.expiresAt;
      // They are cut to ms by different hands.
      const isExpired = Math.abs(after) <= 1 || (after > 0 && (alert.endsAt ?? 0) - asked.askedAt > UNASKED_MS);
      return isExpired && Number.isFinite(after) ? { ...alert, expired: true } : alert;
    }
    // Of what several Prometheus say, Alertmanager takes the earliest start.
    const startsAt = Math.max(asked.startsAt, this.#firing.get(alert.fingerprint)?.alert.startsAt ?? 0);
    const isQuiet = asked.suppressed && alert.startsAt <= startsAt && this.#clock.monotonic() - asked.at <= ASKED_MS;
    return isQuiet ? { ...alert, suppressed: true } : alert;
  }

  /** Whether somebody says that an alert is over. */
  #isOver({ status, expired }: Alert): boolean {
    return status === "resolved" && expired === undefined;
  }

  /** Whether Alertmanager has an alert that had expired: since it was said to be over. */
  #isBack({ fingerprint, status }: Alert): boolean {
    const endedAt = this.#resolved.get(fingerprint)?.at ?? Infinity;
    return status === "firing" && (this.#asked.get(fingerprint)?.at ?? -Infinity) > endedAt;
  }

  #take(alert: Alert): "changed" | "unchanged" | "refused" {
    const { fingerprint } = alert;
    const at = this.#clock.monotonic();
    const known = (this.#firing.get(fingerprint) ?? this.#resolved.get(fingerprint))?.alert;
    const wrong = known !== undefined && known.startsAt > alert.receivedAt + MAX_FUTURE_MS && alert.startsAt < known.startsAt;
    if (known !== undefined && !wrong) {
      // Alertmanager merges what several Prometheus servers say and takes the earliest start: the end of a life may name
      // an earlier start than its beginning did. By its end it is told from the end of an older life.
      const ends = alert.status === "resolved" && known.status === "firing" && (alert.endsAt ?? 0) > known.startsAt;
      if (alert.startsAt < known.startsAt && !ends) return "unchanged";
      if (alert.startsAt === known.startsAt) {
        if (known.status === "resolved" && !(known.expired === true && (this.#isOver(alert) || this.#isBack(alert)))) return "unchanged";
        if (alert.status === "firing" && known.status === "firing") {
          // Said again: newer evidence for the same thing, with annotations that may have changed.
          this.#firing.delete(fingerprint);
          this.#firing.set(fingerprint, { alert, at });
          return "changed";
        }
      }
    } else if (known === undefined && this.#firing.size + this.#resolved.size >= this.#limits.maxAlerts) {
      const oldest = this.#resolved.keys().next();
      if (oldest.done === true) return "refused";
      this.#resolved.delete(oldest.value);
    }
    this.#firing.delete(fingerprint);
    this.#resolved.delete(fingerprint);
    (alert.status === "firing" ? this.#firing : this.#resolved).set(fingerprint, { alert, at });
    return "changed";
  }

  #forget(): void {
    const now = this.#clock.monotonic();
    const { keepResolvedMs, keepFiringMs } = this.#limits;
    for (const [fingerprint, { alert, at }] of this.#resolved) {
      if (at >= now - keepResolvedMs) break;
      if (alert.expired !== true || at < now - keepFiringMs) this.#resolved.delete(fingerprint);
    }
    for (const [fingerprint, { at }] of this.#firing) {
      if (at >= now - keepFiringMs) break;
      this.#firing.delete(fingerprint);
    }
  }
}
