import { targetKey } from "../api/meta.ts";
import type { Remediation } from "../api/remediation.ts";
import type { Clock } from "../ports/clock.ts";
import type { AuditRecord, AuditSink, AuditType } from "../record/audit.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import { objectKey } from "./cache.ts";

/** Writes the audit trail, and hands each record to whoever shows it live. */
export class Recorder {
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

  /** Resolves once the records are durable. */
  async write(records: readonly AuditRecord[]): Promise<void> {
    if (records.length === 0) return;
    const begin = this.#clock.monotonic();
    await this.#sink.append(records);
    this.#metrics.room("record", (this.#clock.monotonic() - begin) / 1000);
    for (const record of records) this.#listener?.(record);
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
