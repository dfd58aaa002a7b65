import { pino, type Logger } from "pino";

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
    write(line: string): void {
      const { time, level: of, msg, ...rest } = JSON.parse(line) as { time: number; level: number; msg?: string };
      const extra = Object.entries(rest).map(([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
      const label = of >= 50 ? "ERROR " : of >= 40 ? "WARN  " : "";
      process.stderr.write(`${new Date(time).toISOString().slice(11, 23)} ${label}${msg ?? ""}${extra.join("")}\n`);
    },
  };
  return pino({ level, base: null }, stream);
}
