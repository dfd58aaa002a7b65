// Real databases of Debian's packages, on the loopback address, with directories of their own.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unusedPort } from "./ports.ts";

const POSTGRES_BIN = globSync("/usr/lib/postgresql/*/bin").toSorted().at(-1) ?? "";
const REDIS = "/usr/bin/redis-server";

/** Why the tests with databases cannot run here; false where they can. */
export const lackingDatabases: string | false =
  POSTGRES_BIN !== "" && existsSync(REDIS) ? false : "no PostgreSQL or Redis here: scripts/apt-install.sh postgresql redis-server";

/** A database that runs. */
export interface Database {
  readonly port: number;
  stop(): Promise<void>;
}

/** Starts a PostgreSQL without passwords, and with the superuser `postgres`. */
export async function startPostgres(): Promise<Database> {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-postgres-"));
  const port = unusedPort();
  const as = unprivileged("postgres");
  if (as.uid !== undefined) execFileSync("chown", [`${as.uid}:${as.gid}`, dir]);
  const data = join(dir, "data");
  execFileSync(join(POSTGRES_BIN, "initdb"), ["-D", data, "-U", "postgres", "--auth=trust", "--no-sync"], {
    ...as,
    cwd: dir,
    stdio: "pipe",
  });
  const settings = ["fsync=off", "max_connections=50", `unix_socket_directories=${dir}`, "listen_addresses=127.0.0.1"];
  const child = spawn(join(POSTGRES_BIN, "postgres"), ["-D", data, "-p", String(port), ...settings.flatMap((each) => ["-c", each])], {
    ...as,
    cwd: dir,
    stdio: "ignore",
  });
  // SIGINT is its fast shutdown: it ends connections.
  return started(child, port, dir, "SIGINT");
}

/** Starts a Redis that stores nothing. */
export async function startRedis(): Promise<Database> {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-redis-"));
  const port = unusedPort();
  const child = spawn(REDIS, ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir], {
    stdio: "ignore",
  });
  return started(child, port, dir, "SIGTERM");
}

async function started(child: ChildProcess, port: number, dir: string, signal: NodeJS.Signals): Promise<Database> {
  const exit = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill(signal);
    await exit;
    rmSync(dir, { recursive: true, force: true });
  };
  for (let tries = 0; !(await accepts(port)); tries++) {
    if (child.exitCode !== null || tries > 1_200) {
      await stop();
      throw new Error(`the database on port ${port} does not come up`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { port, stop };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** The user that a package made, as PostgreSQL does not run as root; nobody else where this is no root. */
function unprivileged(name: string): { readonly uid?: number; readonly gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string): number => Number(spawnSync("id", [flag, name], { encoding: "utf8" }).stdout.trim());
  return { uid: id("-u"), gid: id("-g") };
}
