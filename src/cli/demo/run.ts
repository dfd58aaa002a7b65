import { join, resolve } from "node:path";
import { pino, type Logger } from "pino";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { verifyAudit } from "../../record/verify.ts";
import { Demo, type DemoEvent, type ReplicaExit } from "./demo.ts";
import { painter, wantsColor } from "./format.ts";
import { LineOutput, LiveOutput, type Output, silent } from "./output.ts";
import { documentOf, report, type AuditVerdict, type DemoDocument } from "./report.ts";
import type { Promised, Scenario } from "./scenario.ts";

/** What `nightshift demo` was asked for. */
export interface RunOptions {
  readonly healing: boolean;
  readonly json?: boolean;
  readonly headless?: boolean;
  readonly output: string;
  readonly keep?: boolean;
  readonly speed: number;
}

/** Entries of the log that are kept for a run that fails. */
const LOG_TAIL = 30;

/** Runs a scenario to its end, cleans up, and returns the exit status. Whatever happens, nothing that was started is left. */
export async function runDemo(scenario: Scenario, options: RunOptions): Promise<number> {
  const live = options.json !== true && options.headless !== true && process.stdout.isTTY;
  const output: Output =
    options.json === true ? silent : live ? new LiveOutput(process.stdout) : new LineOutput((line) => process.stdout.write(line));
  const { log, tail, exits } = memoryLog();
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  let demo: Demo | undefined;
  let stopped = false;
  const stop = async (): Promise<readonly string[]> => {
    if (stopped || demo === undefined) return [];
    stopped = true;
    return demo.stop(options.keep === true);
  };
  try {
    demo = await Demo.start({
      scenario,
      healing: options.healing,
      speed: options.speed,
      log,
      exits,
      signal: interrupted.signal,
      onChange: (event: DemoEvent) => output.event(demo, event),
    });
    output.begin(demo);
    const promised = await demo.run();
    output.end();
    const document = await finish(demo, promised, options);
    const problems = await stop();
    const passed = document.passed && problems.length === 0;
    for (const problem of problems) process.stderr.write(`nightshift: cleaning up: ${problem}\n`);
    if (options.json === true) process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
    else {
      const columns = process.stdout.columns ?? 100;
      process.stdout.write(
        report(
          { document, title: scenario.title, healing: options.healing, records: demo.records, columns },
          painter(wantsColor(process.stdout)),
        ),
      );
      if (options.keep === true) process.stdout.write(`\nEverything else is in ${demo.dir}\n`);
    }
    if (!passed) process.stderr.write(tail());
    return passed ? 0 : 1;
  } catch (error) {
    output.end();
    if (error instanceof NightshiftError && error.code === "DEMO_INTERRUPTED") {
      process.stderr.write("\nnightshift: interrupted, cleaning up\n");
      return 130;
    }
    process.stderr.write(`${tail()}nightshift: ${messageOf(error)}\n`);
    return 1;
  } finally {
    output.end();
    for (const problem of await stop()) process.stderr.write(`nightshift: cleaning up: ${problem}\n`);
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

/** Verifies the audit trail, and saves what outlives the demo. */
async function finish(demo: Demo, promised: readonly Promised[], options: RunOptions): Promise<DemoDocument> {
  const audit = await auditVerdict(demo);
  const all = [
    ...promised,
    { what: "the audit trail is intact", held: audit.intact && audit.records > 0, detail: `${audit.records} records` },
  ];
  return documentOf(demo, all, audit, resolve(options.output));
}

async function auditVerdict(demo: Demo): Promise<AuditVerdict> {
  const result = await verifyAudit({ path: join(demo.stateDir, "audit.jsonl"), headPath: join(demo.stateDir, "audit.head") });
  return { records: result.records, intact: result.ok, message: result.message };
}

/** The log goes to memory: the screen belongs to the view. Its end is shown when something went wrong. */
function memoryLog(): { log: Logger; tail: () => string; exits: readonly ReplicaExit[] } {
  const lines: string[] = [];
  const exits: ReplicaExit[] = [];
  const stream = {
    write(line: string): void {
      lines.push(line);
      if (lines.length > LOG_TAIL) lines.shift();
      const entry = JSON.parse(line) as { time: string; replica?: string; exit?: Omit<ReplicaExit, "replica" | "at"> };
      if (entry.exit !== undefined && entry.replica !== undefined)
        exits.push({ ...entry.exit, replica: entry.replica, at: Date.parse(entry.time) });
    },
  };
  return { log: pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, stream), tail: () => lines.join(""), exits };
}
