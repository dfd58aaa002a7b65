/**
 * The router's process: `main --socket PATH [--log FILE] [--pid-file FILE]`. It belongs to nobody: whoever started it may
 * die, and it goes on until SIGTERM, SIGINT or `POST /shutdown`. Its configuration is in memory only.
 */
import { appendFileSync, chmodSync, linkSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createAdmin } from "./admin.ts";
import { socketAddress } from "./address.ts";
import { Router } from "./router.ts";

/** How long requests in flight are waited for at the end. */
const GRACE_MS = 10_000;

const { values } = parseArgs({ options: { socket: { type: "string" }, log: { type: "string" }, "pid-file": { type: "string" } } });
if (values.socket === undefined) {
  process.stderr.write("usage: main --socket PATH [--log FILE] [--pid-file FILE]\n");
  process.exit(2);
}
const socketPath = resolve(values.socket);
const pidFile = values["pid-file"] === undefined ? undefined : resolve(values["pid-file"]);
const logFile = values.log === undefined ? undefined : resolve(values.log);

function log(text: string): void {
  const line = `${new Date().toISOString()} router[${process.pid}] ${text}\n`;
  try {
    if (logFile === undefined) process.stderr.write(line);
    else appendFileSync(logFile, line);
  } catch {
    // A full disk must not take traffic down.
  }
}

/** Whether something answers on the socket. */
function isServed(path: string): Promise<boolean> {
  return new Promise((done) => {
    const probe = connect(socketAddress(path));
    probe.once("connect", () => {
      probe.destroy();
      done(true);
    });
    probe.once("error", () => done(false));
  });
}

const router = new Router();
const startedAt = Date.now();
let stopping = false;

function removeOwnFiles(): void {
  rmSync(socketPath, { force: true });
  if (pidFile !== undefined) rmSync(pidFile, { force: true });
}

async function stop(why: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log(`stopping: ${why}`);
  removeOwnFiles();
  admin.close();
  await router.close(GRACE_MS);
  log("stopped");
  process.exit(0);
}

const admin = createAdmin(router, { pid: process.pid, startedAt }, () => void stop("asked to"));

process.on("SIGTERM", () => void stop("SIGTERM"));
process.on("SIGINT", () => void stop("SIGINT"));
process.on("SIGHUP", () => log("SIGHUP ignored"));
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});
// One broken connection must not end all others; what is in memory is connections and counts.
process.on("uncaughtException", (error) => log(`uncaught: ${error.stack ?? String(error)}`));
process.on("unhandledRejection", (error) => log(`unhandled: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`));

try {
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  // Bound under a name of its own and linked into place, so that a router that serves is never pushed aside.
  const own = join(dirname(socketPath), `.router-${process.pid}.sock`);
  rmSync(own, { force: true });
  process.umask(0o177);
  await new Promise<void>((done, failed) => {
    admin.once("error", failed);
    admin.listen(socketAddress(own), done);
  });
  process.umask(0o077);
  chmodSync(own, 0o600);
  try {
    if (!(await isServed(socketPath))) rmSync(socketPath, { force: true });
    linkSync(own, socketPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    log(`another router serves ${socketPath}`);
    rmSync(own, { force: true });
    process.exit(0);
  }
  rmSync(own, { force: true });
  if (pidFile !== undefined) writeFileSync(pidFile, `${process.pid}\n`);
  log(`listening on ${socketPath}`);
} catch (error) {
  log(`cannot start: ${String(error)}`);
  process.exit(1);
}
