import { targetKey } from "../api/meta.ts";
import type { Remediation } from "../api/remediation.ts";
import type { Clock } from "../ports/clock.ts";
import type { AuditRecord, AuditSink, AuditType } from "../record/audit.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import { objectKey } from "./cache.ts";

/** Most records that are kept while the trail cannot be written. */
const MAX_OWED = 10_000;

/**
 * Writes the audit trail, and hands each record to whoever shows it live. What could not be written is owed: it goes before
 * whatever is written next, so that no effect has its intent on record and its decision not.
 */
export class Recorder {
  /** Oldest first, each once however often it was tried again: the key is the record without its time. */
  readonly #owed = new Map<string, AuditRecord>();
  #lost = 0;
  readonly #sink: AuditSink;
  readonly #clock: Clock;
  readonly #metrics: LoopMetrics;
  readonly #listener: ((record: AuditRecord) => void) | undefined;

  constructor(options: {
    readonly sink: AuditSink;
    readonly clock: Clock;
    readonly metrics: LoopMetrics;
    readonly listener?: (record: AuditRecord) => void;
  }) {
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#listener = options.listener;
  }

  /** Resolves once the records, and those that are owed, are durable. */
  async write(records: readonly AuditRecord[]): Promise<void> {
    const batch = new Map(this.#owed);
    for (const record of records) if (!batch.has(keyOf(record))) batch.set(keyOf(record), record);
    if (batch.size === 0) return;
    this.#owed.clear();
    const lost = this.#lost;
    if (lost > 0)
      batch.set("lost", {
        type: "Trail",
        at: this.#clock.now(),
        message: `${lost} records were lost while the trail could not be written`,
      });
    const begin = this.#clock.monotonic();
    try {
      await this.#sink.append([...batch.values()]);
    } catch (error) {
      batch.delete("lost");
      const newer = [...this.#owed];
      this.#owed.clear();
      for (const [key, record] of [...batch, ...newer]) {
        if (this.#owed.size < MAX_OWED) this.#owed.set(key, record);
        else this.#lost += 1;
      }
      throw error;
    }
    this.#lost -= lost;
    this.#metrics.room("record", (this.#clock.monotonic() - begin) / 1000);
    for (const record of batch.values()) this.#listener?.(record);
  }

  /** A record about an episode, at this moment. */
  about(remediation: Remediation, type: AuditType, message: string, data?: Record<string, unknown>): AuditRecord {
    return {
      type,
      at: this.#clock.now(),
      remediation: objectKey(remediation),
      policy: `${remediation.metadata.namespace}/${remediation.spec.policy.name}`,
      target: targetKey(remediation.spec.remediationTarget),
      message,
      ...(data === undefined ? {} : { data }),
    };
  }
}

function keyOf({ at: _at, ...record }: AuditRecord): string {
  return JSON.stringify(record);
}
