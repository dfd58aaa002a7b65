import { pino, type Logger } from "pino";
import { printable } from "./table.ts";

/** Levels of the log, the most talkative first. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** A log on standard error: JSON lines for programs, else one readable line an entry. `level` is the least; default `info`. */
export function createLog(options: { readonly json: boolean; readonly level?: string }): Logger {
  const { level = "info" } = options;
  if (options.json) {
    const destination = pino.destination({ dest: 2, sync: true });
    // A log that cannot be written (a full disk) must not take down what it is about.
    destination.on("error", () => undefined);
    return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination);
  }
  const stream = {
    write: (line: string): void => void process.stderr.write(readable(line)),
  };
  return pino({ level, base: null }, stream);
}

/**
 * An entry of JSON for people. It may quote anybody who sends telemetry or alerts: no terminal acts on it, and a line of its
 * own is indented, as no entry is.
 */
export function readable(line: string): string {
  const { time, level, msg, ...rest } = JSON.parse(line) as { time: number; level: number; msg?: string };
  const extra = Object.entries(rest).map(([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const label = level >= 50 ? "ERROR " : level >= 40 ? "WARN  " : "";
  const text = `${label}${msg ?? ""}${extra.join("")}`.split("\n").map(printable).join("\n    ");
  return `${new Date(time).toISOString().slice(11, 23)} ${text}\n`;
}

/** Where an operator listens, for people. */
export function listeningText({ url, grpcUrl }: { readonly url: string; readonly grpcUrl: string | undefined }): string {
  return `listening on ${url}${grpcUrl === undefined ? "" : `, and for OTLP over gRPC on ${grpcUrl}`}`;
}
