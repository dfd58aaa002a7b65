import { parseJson } from "../json.ts";
import { type LogRecord, MAX_BODY } from "../logs.ts";
import { anyValue, identityIn, int32, keyValues, list, milliseconds, object, optional, text } from "./json-values.ts";
import { bodyText, type LogsRequest, severityOf } from "./logs-model.ts";
import { type OtlpLimits, Tally } from "./model.ts";

/**
 * Decodes an ExportLogsServiceRequest from OTLP/JSON; see `decodeLogsProtobuf`.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeLogsJson(body: Uint8Array, limits: OtlpLimits, keys: ReadonlySet<string>): LogsRequest {
  const tally = new Tally(limits);
  const root = object(parseJson(body, limits.maxJsonDepth), "the body");
  const resources = list(root["resourceLogs"], "resourceLogs").map((item) => {
    tally.item();
    const resourceLogs = object(item, "resourceLogs[]");
    const records: LogRecord[] = [];
    for (const scope of list(resourceLogs["scopeLogs"], "scopeLogs")) {
      tally.item();
      for (const entry of list(object(scope, "scopeLogs[]")["logRecords"], "logRecords"))
        if (tally.point()) records.push(recordOf(object(entry, "logRecords[]"), limits, keys));
    }
    return { identity: identityIn(resourceLogs["resource"], limits), records };
  });
  return { resources, overLimit: tally.overLimit };
}

function recordOf(record: Readonly<Record<string, unknown>>, limits: OtlpLimits, keys: ReadonlySet<string>): LogRecord {
  const attributes = new Map<string, string>();
  for (const [key, value] of keyValues(record["attributes"], limits, 1)) if (keys.has(key)) attributes.set(key, bodyText(value));
  const time = milliseconds(record["timeUnixNano"], "timeUnixNano");
  const number = record["severityNumber"];
  // ProtoJSON lets enumerations be written by name: SEVERITY_NUMBER_ERROR2.
  const severity = typeof number === "string" && !/^-?\d+$/.test(number) ? 0 : int32(number, "severityNumber");
  const named = typeof number === "string" ? number.replace(/^SEVERITY_NUMBER_/, "") : "";
  return {
    t: time > 0 ? time : milliseconds(record["observedTimeUnixNano"], "observedTimeUnixNano"),
    severity: severityOf(severity, severity === 0 && named !== "" ? named : text(record["severityText"], "severityText")),
    body: bodyText(anyValue(optional(record["body"]) ?? {}, limits, 1)).slice(0, MAX_BODY),
    attributes,
    traceId: text(record["traceId"], "traceId").toLowerCase(),
  };
}
