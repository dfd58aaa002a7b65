import { resolve } from "node:path";
import { pino, type Logger } from "pino";
import { messageOf } from "../../api/errors.ts";
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

/** Runs a scenario to its end, cleans up, and returns the exit status; rejects when it could not be run, or was interrupted. Whatever happens, nothing that was started is left. */
export async function runDemo(scenario: Scenario, options: RunOptions): Promise<number> {
  const live = options.json !== true && options.headless !== true && process.stdout.isTTY;
  const output: Output =
    options.json === true ? silent : live ? new LiveOutput(process.stdout) : new LineOutput((line) => process.stdout.write(line));
  const { log, tail, exits } = memoryLog();
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  process.on("SIGHUP", interrupt);
  let demo: Demo | undefined;
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
    const problems = await demo.halt();
    for (const problem of problems) process.stderr.write(`nightshift: cleaning up: ${problem}\n`);
    const document = await finish(demo, promised, options);
    const passed = document.passed && problems.length === 0;
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
    if (!interrupted.signal.aborted) process.stderr.write(tail());
    throw error;
  } finally {
    output.end();
    await cleanUp(demo, options.keep === true);
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
    process.off("SIGHUP", interrupt);
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
  const found = await verifyAudit({ path: demo.auditPath, headPath: demo.auditHeadPath });
  return { records: found.records, intact: found.ok, message: found.message };
}

/** Ends what still runs and removes the demo's directory; says what could not be done, and goes on. */
async function cleanUp(demo: Demo | undefined, keep: boolean): Promise<void> {
  try {
    await demo?.halt();
    if (!keep) await demo?.remove();
  } catch (error) {
    process.stderr.write(`nightshift: cleaning up: ${messageOf(error)}\n`);
  }
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
