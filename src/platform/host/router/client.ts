import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { dirname, extname, join, resolve } from "node:path";
import { NightshiftError, messageOf } from "../../../api/errors.ts";
import { sleep } from "../../../ports/clock.ts";
import { systemClock } from "../clock.ts";
import { socketAddress } from "./address.ts";
import type { RouterConfig, RouterHealth, RouterService, RouterStats } from "./protocol.ts";

/** Longest time for an answer of the router's own interface: everything is in its memory. */
const CALL_TIMEOUT_MS = 5_000;
/** Longest time from the start of the process to its first answer. */
const START_TIMEOUT_MS = 20_000;

/** Where a router is reached, and what it writes. */
export interface RouterFiles {
  /** Its unix socket. */
  readonly socket: string;
  /** What it and Node print. Appended to. */
  readonly logFile: string;
  /** Has its pid while it runs. */
  readonly pidFile: string;
}

/** Talks to the router's process. Safe to have several of; the last configuration wins. */
export class RouterClient {
  readonly #socket: string;
  readonly #address: string;

  /** For a router that runs already, or will. */
  constructor(socket: string) {
    this.#socket = resolve(socket);
    this.#address = socketAddress(this.#socket);
  }

  /**
   * The router that serves the socket, or a new one, detached from this process: it goes on when this process dies.
   * @throws NightshiftError `ROUTER_UNREACHABLE` when one is there and does not answer, or none comes up.
   */
  static async ensureRunning({ socket, logFile, pidFile }: RouterFiles): Promise<RouterClient> {
    mkdirSync(dirname(resolve(socket)), { recursive: true, mode: 0o700 });
    mkdirSync(dirname(resolve(logFile)), { recursive: true, mode: 0o700 });
    const client = new RouterClient(socket);
    if (await client.#isUp()) return client;
    const log = openSync(logFile, "a", 0o600);
    // The same file of a checkout (.ts) or of a package (.js).
    const main = join(import.meta.dirname, `main${extname(import.meta.filename)}`);
    // Debugger ports and the like are this process' own.
    const { NODE_OPTIONS: _, ...env } = process.env;
    const child = spawn(process.execPath, [main, "--socket", resolve(socket), "--pid-file", resolve(pidFile)], {
      detached: true,
      stdio: ["ignore", log, log],
      cwd: "/",
      env,
    });
    closeSync(log);
    let ended: string | undefined;
    child.once("error", (error) => {
      ended = error.message;
    });
    child.once("exit", (code, signal) => {
      ended = `it ended with ${signal ?? code ?? "an unknown status"}`;
    });
    child.unref();
    const deadline = systemClock.monotonic() + START_TIMEOUT_MS;
    while (systemClock.monotonic() < deadline) {
      // Looked at first: what another process started in the same moment serves as well.
      const dead = ended;
      if (await client.#isUp()) return client;
      if (dead !== undefined) break;
      await sleep(systemClock, 20);
    }
    throw new NightshiftError("ROUTER_UNREACHABLE", `the router did not start: ${ended ?? `no answer for ${START_TIMEOUT_MS} ms`}`, {
      where: resolve(socket),
      fix: `Read ${resolve(logFile)}.${lastLine(logFile)}`,
    });
  }

  /**
   * Makes the router serve exactly these services. The same call twice changes nothing.
   * @throws NightshiftError `PORT_IN_USE`, `PORT_UNAVAILABLE`, `INVALID` (nothing was changed) or `ROUTER_UNREACHABLE`.
   */
  async configure(services: readonly RouterService[]): Promise<void> {
    await this.#call("PUT", "/config", { services });
  }

  /** What the router serves. */
  async config(): Promise<RouterConfig> {
    return (await this.#call("GET", "/config")) as RouterConfig;
  }

  /** What was asked of each service and backend. */
  async stats(): Promise<RouterStats> {
    return (await this.#call("GET", "/stats")) as RouterStats;
  }

  /** Who the router is. */
  async health(): Promise<RouterHealth> {
    return (await this.#call("GET", "/health")) as RouterHealth;
  }

  /** Asks the router to end: it takes nothing new, gives requests in flight up to 10 s, and exits. Resolves before that. */
  async shutdown(): Promise<void> {
    await this.#call("POST", "/shutdown");
  }

  /** False when nobody listens on the socket. */
  async #isUp(): Promise<boolean> {
    try {
      await this.health();
      return true;
    } catch (error) {
      const code = ((error as NightshiftError).cause as NodeJS.ErrnoException | undefined)?.code;
      if (code === "ENOENT" || code === "ECONNREFUSED") return false;
      throw error;
    }
  }

  #call(method: string, path: string, body?: unknown): Promise<unknown> {
    return new Promise((done, failed) => {
      const unreachable = (error: Error): void =>
        failed(
          new NightshiftError("ROUTER_UNREACHABLE", `the router does not answer: ${error.message}`, {
            where: this.#socket,
            fix: "`nightshift up` starts one that is not there; end one that hangs.",
            cause: error,
          }),
        );
      const req = request({
        socketPath: this.#address,
        method,
        path,
        agent: false,
        headers: body === undefined ? {} : { "content-type": "application/json" },
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      });
      req.once("error", unreachable);
      req.once("response", (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.once("error", unreachable);
        res.once("end", () => {
          try {
            const answer: unknown = JSON.parse(Buffer.concat(chunks).toString());
            if (res.statusCode === 200) return done(answer);
            const { code, message, where, fix } = answer as ReturnType<NightshiftError["toJSON"]>;
            failed(new NightshiftError(code, message, { ...(where && { where }), ...(fix && { fix }) }));
          } catch (error) {
            unreachable(new Error(`not an answer of a router (${messageOf(error)})`));
          }
        });
      });
      req.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

function lastLine(file: string): string {
  try {
    const line = readFileSync(file, "utf8").trim().split("\n").at(-1) ?? "";
    return line === "" ? "" : ` It ends with: ${line}`;
  } catch {
    return "";
  }
}
