import type { Clock } from "../ports/clock.ts";

/** The counter by which an application asks for a recovery path. */
export const HINT_METRIC = "service.remediation.hint";
/** Attribute of its points that names the action. */
export const HINT_ACTION = "remediation.action";
/** Attribute of its points that says of what there is too much. */
export const HINT_SATURATION = "saturation.type";

/** What a hint asks for where it names no action: the number that published examples add for it. */
export const BARE_ACTIONS: ReadonlyMap<number, string> = new Map([
  [1, "pool-reset"],
  [2, "cache-flush"],
  [3, "restart"],
]);

/** What one replica asked for. It is a claim, about nobody but the replica that sent it. */
export interface Hint {
  /** `remediation.action`; undefined where the sender named none. */
  readonly action: string | undefined;
  /** `saturation.type`. */
  readonly saturationType: string | undefined;
  /** How much was added to the counter since the point before, above 0. */
  readonly added: number;
  /** Whether the sender exports differences (delta temporality). */
  readonly delta: boolean;
  /** Whether an exemplar shows that all of it was one addition. */
  readonly single: boolean;
  /** No earlier than this was it added, and no later than `t`: milliseconds since the epoch, by the sender's clock. */
  readonly since: number;
  /** Never later than `receivedAt`. */
  readonly t: number;
  /** When it reached Nightshift (ms). */
  readonly receivedAt: number;
  /** Traces that the sender gave as examples of it, newest first. */
  readonly traceIds: readonly string[];
}

/** Why a hint is not kept. */
export type HintRefusal =
  /** More hints of one replica in a minute than are listened to, or of more kinds. */
  | "hint-limit"
  /** Hints of more replicas than are listened to. */
  | "hint-senders";

/** The bounds of a HintBook. */
export interface HintLimits {
  /** Most hints of one replica that are taken in a minute; a repeated one says nothing new. Default 60. */
  readonly maxPerMinute: number;
  /** Most kinds (action and saturation type) of one replica. Default 16. */
  readonly maxKinds: number;
  /** Most replicas. Default 20,000. */
  readonly maxSenders: number;
  /** How long a hint is kept (ms). Default one hour. */
  readonly retentionMs: number;
}

export const DEFAULT_HINT_LIMITS: HintLimits = { maxPerMinute: 60, maxKinds: 16, maxSenders: 20_000, retentionMs: 3_600_000 };

interface Sender {
  /** The newest of each kind. */
  readonly kinds: Map<string, Hint>;
  /** Hints that may still be taken: a bucket that fills by `maxPerMinute` a minute. */
  allowance: number;
  allowanceAt: number;
}

/** The newest hints of each replica, in memory and bounded. */
export class HintBook {
  readonly #clock: Clock;
  readonly #limits: HintLimits;
  /** Least recently heard of first. */
  readonly #senders = new Map<string, Sender>();
  readonly #listeners = new Set<(replicaUid: string) => void>();

  constructor(clock: Clock, limits: Partial<HintLimits> = {}) {
    this.#clock = clock;
    this.#limits = { ...DEFAULT_HINT_LIMITS, ...limits };
  }

  /** Keeps a hint, and tells whoever listens. Says why it does not; undefined when it does. */
  record(replicaUid: string, hint: Hint): HintRefusal | undefined {
    const now = this.#clock.monotonic();
    const { maxPerMinute, maxKinds, maxSenders } = this.#limits;
    this.#expire(hint.receivedAt);
    const known = this.#senders.get(replicaUid);
    if (known === undefined && this.#senders.size >= maxSenders) return "hint-senders";
    const sender = known ?? { kinds: new Map(), allowance: maxPerMinute, allowanceAt: now };
    sender.allowance = Math.min(maxPerMinute, sender.allowance + ((now - sender.allowanceAt) * maxPerMinute) / 60_000);
    sender.allowanceAt = now;
    // Those of whoever was heard of since the oldest sender are not looked at by `#expire`.
    for (const [kind, { receivedAt }] of sender.kinds)
      if (receivedAt < hint.receivedAt - this.#limits.retentionMs) sender.kinds.delete(kind);
    const kind = JSON.stringify([hint.action, hint.saturationType]);
    if (sender.allowance < 1 || (!sender.kinds.has(kind) && sender.kinds.size >= maxKinds)) return "hint-limit";
    sender.allowance--;
    // One that comes late must not hide a newer one.
    if ((sender.kinds.get(kind)?.t ?? 0) <= hint.t) sender.kinds.set(kind, hint);
    this.#senders.delete(replicaUid);
    this.#senders.set(replicaUid, sender);
    for (const listener of this.#listeners) listener(replicaUid);
    return undefined;
  }

  /** The newest hint of each kind of a replica; of the last hour only. */
  of(replicaUid: string): readonly Hint[] {
    const oldest = this.#clock.now() - this.#limits.retentionMs;
    return [...(this.#senders.get(replicaUid)?.kinds.values() ?? [])].filter(({ receivedAt }) => receivedAt >= oldest);
  }

  /** Calls back with the uid of each replica that sent a hint, once it is kept; returns what ends it. */
  onHint(listener: (replicaUid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Drops those of a replica that is gone. */
  forget(replicaUid: string): void {
    this.#senders.delete(replicaUid);
  }

  #expire(now: number): void {
    const oldest = now - this.#limits.retentionMs;
    for (const [uid, { kinds }] of this.#senders) {
      for (const [kind, { receivedAt }] of kinds) if (receivedAt < oldest) kinds.delete(kind);
      if (kinds.size > 0) break;
      this.#senders.delete(uid);
    }
  }
}
