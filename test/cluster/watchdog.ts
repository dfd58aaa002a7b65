// Stands between a cluster and whoever asked for it: starts the cluster in namespaces of its own, and clears everything
// away when its owner closes standard input, which happens however the owner ends, or when it is told to by a signal.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type ClusterPlan, type ClusterState, Layout, type ProcessRef } from "./layout.ts";
import { SYSTEM_PATH } from "./path.ts";
import { childrenOf, clearAway, readState, refOf, writeState } from "./state.ts";

const layout = new Layout(process.argv[2] ?? "");
const plan = JSON.parse(readFileSync(layout.plan, "utf8")) as ClusterPlan;

/**
 * setpriv: whatever ends this process, SIGKILL included, the kernel ends unshare with it. `--kill-child`: and with unshare
 * the first process of the pid namespace. With that one, every process of the cluster, all pods among them, and with
 * the last of them every mount and the network.
 */
function enclose(log: number): ChildProcess {
  const namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
  const supervisor = [process.execPath, "--disable-warning=ExperimentalWarning", join(import.meta.dirname, "supervisor.ts"), layout.name];
  return spawn("setpriv", ["--pdeathsig", "KILL", ...namespaces, "tini", "--", ...supervisor], {
    env: { ...process.env, PATH: SYSTEM_PATH },
    stdio: ["ignore", log, log, "ipc"],
  });
}

/** The first process in the namespaces, once the supervisor below it has spoken. */
function firstProcess(child: ChildProcess): ProcessRef {
  const [pid] = childrenOf(child.pid ?? 0);
  if (pid === undefined) throw new Error("the cluster's first process is gone");
  return refOf(pid);
}

function main(): void {
  const log = openSync(join(layout.dir, "supervisor.log"), "a");
  const child = enclose(log);
  closeSync(log);
  let state: ClusterState = { ...readState(layout), watchdog: refOf(process.pid) };
  writeState(layout, state);
  // Held open, so that no other namespaces can get their numbers while this process looks for the processes in them.
  let namespaces: readonly number[] = [];
  let ending = false;

  const end = async (why: string): Promise<void> => {
    if (ending) return;
    ending = true;
    console.error(`clearing away: ${why}`);
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await clearAway(layout, state, { namespaceHeld: namespaces.length > 0 });
    process.exit(0);
  };

  child.once("message", () => {
    const init = firstProcess(child);
    const path = `/proc/${init.pid}/ns/net`;
    namespaces = [openSync(path, "r"), openSync(`/proc/${init.pid}/ns/pid`, "r")];
    const listener = createServer().listen(0, "127.0.0.1", () => {
      const address = listener.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      // The socket keeps the network namespace that it was made in, whoever accepts on it.
      child.send("listener", listener, () => listener.close());
      state = { ...state, init, network: readlinkSync(path), pids: readlinkSync(`/proc/${init.pid}/ns/pid`), port };
      writeState(layout, state);
      process.stdout.write(`${JSON.stringify({ port })}\n`);
    });
  });
  child.once("exit", () => void end("the cluster's first process ended"));
  if (!plan.detached) {
    process.stdin.resume();
    process.stdin.once("close", () => void end("its owner ended"));
  }
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => void end(signal));
}

// A reader that has left (`up` ends when the cluster is ready) is no reason to end.
process.stdout.on("error", () => undefined);
main();
