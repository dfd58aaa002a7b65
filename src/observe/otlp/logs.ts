import type { Clock } from "../../ports/clock.ts";
import type { LogRecord, LogRefusal } from "../logs.ts";
import { ItemReceiver } from "./item-receiver.ts";
import { decodeLogsJson } from "./logs-json.ts";
import { decodeLogsProtobuf } from "./logs-protobuf.ts";
import type { OtlpLimits } from "./model.ts";
import type { IngestResult, OtlpEncoding } from "./receiver.ts";

/** Why a log record is not counted. */
export type LogPointRefusal =
  | LogRefusal
  /** The resource has no `service.instance.id`, or an overlong one: nobody knows whose it is. */
  | "no-instance-id"
  /** From further in the future than clocks may differ. */
  | "future"
  /** From before anything that is kept. */
  | "too-old"
  /** More records in one request than allowed. */
  | "record-limit";

/** Where log records go. */
export interface LogSink {
  /** Whether some policy asks for logs. */
  readonly logsActive: boolean;
  /** Keys of attributes that are asked for. */
  logAttributeKeys(): ReadonlySet<string>;
  recordLog(replicaUid: string, record: LogRecord): LogRefusal | undefined;
}

/** Takes OTLP logs in and counts what policies ask for. While none does, they are accepted and not looked at. */
export class LogReceiver extends ItemReceiver<LogPointRefusal> {
  readonly #sink: LogSink;

  constructor(options: { readonly sink: LogSink; readonly clock: Clock; readonly limits?: Partial<OtlpLimits> }) {
    super("log records", options);
    this.#sink = options.sink;
  }

  /**
   * Decodes a body and counts its records. They are judged one by one.
   *
   * @throws NightshiftError when the body cannot be decoded; then nothing of it was counted.
   */
  receive(body: Uint8Array, encoding: OtlpEncoding): IngestResult {
    if (!this.#sink.logsActive) return { accepted: 0, rejected: 0, message: "no policy asks for logs: they were not looked at" };
    const keys = this.#sink.logAttributeKeys();
    const request = encoding === "protobuf" ? decodeLogsProtobuf(body, this.limits, keys) : decodeLogsJson(body, this.limits, keys);
    const now = this.clock.now();
    return this.judged((refuse) => {
      let accepted = 0;
      for (const { identity, records } of request.resources) {
        const uid = identity.instanceId;
        if (!this.isName(uid)) {
          refuse("no-instance-id", records.length);
          continue;
        }
        for (const record of records) {
          const reason = this.untimely(record.t, record.t, now) ?? this.#sink.recordLog(uid, record);
          if (reason === undefined) accepted++;
          else refuse(reason, 1);
        }
      }
      refuse("record-limit", request.overLimit);
      return accepted;
    });
  }
}
