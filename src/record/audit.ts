/** What an audit record is about. */
export type AuditType = "Started" | "Policy" | "Signal" | "Decision" | "Intent" | "Result" | "Phase" | "Page" | "Stopped";

/** One thing that happened, or was decided, or was decided against. */
export interface AuditRecord {
  readonly type: AuditType;
  /** When, milliseconds since the epoch. */
  readonly at: number;
  /** `namespace/name` of the Remediation that it belongs to. */
  readonly remediation?: string;
  /** `namespace/name` of the policy. */
  readonly policy?: string;
  /** Key of the target, see `targetKey`. */
  readonly target?: string;
  /** For people. */
  readonly message: string;
  /** For programs. */
  readonly data?: Readonly<Record<string, unknown>>;
}

/** Where the audit trail goes. */
export interface AuditSink {
  /** Resolves once the records are durable. Calls are kept in order; calls made while one is under way share a flush. */
  append(records: readonly AuditRecord[]): Promise<void>;
}
