import { fork, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Size } from "./dataset.ts";
import type { Order, Report } from "./list-server.ts";

/** One line of JSON that a measured process says. */
export interface Said {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** Ticks of the kernel's CPU clock a second: 100 on every Linux that Node runs on. */
const TICKS = 100;

/** A process that is measured from outside: it says what it does in lines of JSON, and the kernel says what it takes. */
export class Measured {
  readonly #child: ChildProcess;
  readonly #said: Said[] = [];
  readonly #errors: string[] = [];
  readonly #waiting = new Set<() => void>();

  /** @param child - with pipes as its stdout and stderr. */
  constructor(child: ChildProcess) {
    this.#child = child;
    const { stdout, stderr } = child;
    if (stdout !== null) createInterface({ input: stdout }).on("line", (line) => this.#hear(line));
    if (stderr !== null)
      createInterface({ input: stderr }).on("line", (line) => {
        this.#errors.push(line);
        if (this.#errors.length > 20) this.#errors.shift();
      });
    this.#child.once("exit", () => this.#wake());
    this.#child.once("error", (error) => {
      this.#errors.push(error.message);
      this.#wake();
    });
  }

  static start(command: string, argv: readonly string[]): Measured {
    return new Measured(spawn(command, argv, { stdio: ["ignore", "pipe", "pipe"] }));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What it said, the oldest first. */
  get said(): readonly Said[] {
    return this.#said;
  }

  /** What it says first of this kind. @throws when it ends before, or says nothing of the kind for `timeoutMs` (default 10 min). */
  async hear(event: string, matches: (said: Said) => boolean = () => true, timeoutMs = 600_000): Promise<Said> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const found = this.#said.find((said) => said.event === event && matches(said));
      if (found !== undefined) return found;
      const { exitCode, signalCode, pid } = this.#child;
      const trouble = `${this.#child.spawnargs.slice(0, 3).join(" ")}: no ${event}`;
      if (exitCode !== null || signalCode !== null || pid === undefined)
        throw new Error(`${trouble}, it ended (${signalCode ?? exitCode}):\n${this.#errors.join("\n")}`);
      if (Date.now() >= end) throw new Error(`${trouble} within ${timeoutMs} ms:\n${this.#errors.join("\n")}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, Math.max(1, end - Date.now()));
        this.#waiting.add(wake);
      });
    }
  }

  /** Writes a line of JSON to its stdin. */
  tell(order: unknown): void {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  /** Memory that is resident, and the most of it since the start or `resetPeak` (bytes). */
  memory(): { readonly rss: number; readonly peak: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? Number.NaN);
    return { rss: kib("VmRSS") * 1024, peak: kib("VmHWM") * 1024 };
  }

  /** Lets the peak begin anew. */
  resetPeak(): void {
    writeFileSync(`/proc/${this.pid}/clear_refs`, "5");
  }

  /** CPU time that it has taken, in user and kernel mode (s). */
  cpu(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    // The second field, in brackets, may have spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  }

  /** Ends it, and waits for its end. */
  async stop(): Promise<void> {
    const { exitCode, signalCode, pid } = this.#child;
    if (exitCode !== null || signalCode !== null || pid === undefined) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await ended;
    clearTimeout(timer);
  }

  #hear(line: string): void {
    if (!line.startsWith("{")) return;
    const said = JSON.parse(line) as Partial<Said>;
    if (typeof said.event === "string") this.#said.push(said as Said);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** The list server, in its process. */
export class ListServer {
  readonly #child: ChildProcess;
  readonly url: string;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(size: Size): Promise<ListServer> {
    const child = fork(join(import.meta.dirname, "list-server.ts"), [String(size.nodes), String(size.pods)]);
    const [report] = (await once(child, "message")) as [Report];
    if (!("listening" in report)) throw new Error("the list server did not say where it listens");
    return new ListServer(child, report.listening);
  }

  /** Gives an order; resolves when it is carried out. */
  async tell(order: Order): Promise<void> {
    const done = once(this.#child, "message");
    this.#child.send(order);
    await done;
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.disconnect();
    await ended;
  }
}
