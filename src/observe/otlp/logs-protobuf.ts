import { type LogRecord, MAX_BODY } from "../logs.ts";
import type { AttributeValue, OtlpLimits } from "./model.ts";
import { bodyText, type LogsRequest, severityOf } from "./logs-model.ts";
import { decoding, Wire } from "./wire.ts";

/**
 * Decodes an ExportLogsServiceRequest from protobuf by hand, as `decodeTracesProtobuf` does traces; of attributes those whose
 * keys are in `keys`.
 *
 * @throws NightshiftError `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeLogsProtobuf(body: Uint8Array, limits: OtlpLimits, keys: ReadonlySet<string>): LogsRequest {
  return decoding(() => new Decoder(body, limits, keys).request());
}

class Decoder extends Wire {
  readonly #keys: ReadonlySet<string>;

  constructor(body: Uint8Array, limits: OtlpLimits, keys: ReadonlySet<string>) {
    super(body, limits);
    this.#keys = keys;
  }

  request(): LogsRequest {
    const resources = this.itemsByResource((end) => this.#record(end));
    return { resources: resources.map(({ identity, items }) => ({ identity, records: items })), overLimit: this.tally.overLimit };
  }

  #record(end: number): LogRecord {
    const attributes = new Map<string, string>();
    let time = 0;
    let observed = 0;
    let severity = 0;
    let severityText = "";
    let body: AttributeValue = null;
    let traceId = "";
    this.fields(end, (field) => {
      switch (field) {
        case 1:
          time = this.milliseconds();
          return true;
        case 2:
          severity = this.varint();
          return true;
        case 3:
          severityText = this.text();
          return true;
        case 5:
          body = this.anyValue(this.end(), 1);
          return true;
        case 6:
          this.keyValue(
            this.end(),
            (key, value) => void (this.#keys.has(key) && attributes.set(key, bodyText(value))),
            (key) => this.#keys.has(key),
          );
          return true;
        case 9:
          traceId = this.hex();
          return true;
        case 11:
          observed = this.milliseconds();
          return true;
        default:
          return false;
      }
    });
    return {
      t: time > 0 ? time : observed,
      severity: severityOf(severity, severityText),
      body: bodyText(body).slice(0, MAX_BODY),
      attributes,
      traceId,
    };
  }
}
