import { pino, type Logger } from "pino";

/** A log on standard error: JSON lines for programs, else one readable line an entry. */
export function createLog(options: { readonly json: boolean }): Logger {
  if (options.json) return pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }));
  const stream = {
    write(line: string): void {
      const { time, level, msg, ...rest } = JSON.parse(line) as { time: number; level: number; msg?: string };
      const extra = Object.entries(rest).map(([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
      const label = level >= 50 ? "ERROR " : level >= 40 ? "WARN  " : "";
      process.stderr.write(`${new Date(time).toISOString().slice(11, 23)} ${label}${msg ?? ""}${extra.join("")}\n`);
    },
  };
  return pino({ base: null }, stream);
}
