import { LOG_SEVERITIES } from "../../api/policy.ts";
import type { LogRecord } from "../logs.ts";
import type { AttributeValue, Identity } from "./model.ts";

/** An ExportLogsServiceRequest, cut down to what is read here. */
export interface LogsRequest {
  readonly resources: readonly { readonly identity: Identity; readonly records: readonly LogRecord[] }[];
  /** Records over the limit of a request: not decoded. */
  readonly overLimit: number;
}

/** A value as text: what is no text as JSON. */
export function bodyText(value: AttributeValue): string {
  return value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
}

/** A severity's number; where the sender gives none, of its text, such as `error`, `WARNING` or `INFO2`. */
export function severityOf(number: number, text: string): number {
  if (number >= 1 && number <= 24) return number;
  const name = /^(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL)/.exec(text.toUpperCase())?.[0];
  return name === undefined ? 0 : (LOG_SEVERITIES[name as keyof typeof LOG_SEVERITIES] ?? 0);
}
