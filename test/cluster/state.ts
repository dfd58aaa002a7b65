import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { processIdentity, sendSignal } from "../../src/platform/linux/proc.ts";
import { cgroupPids, removeCgroup, thawCgroup } from "./cgroups.ts";
import { CLUSTERS_DIR, type ClusterState, Layout, type ProcessRef } from "./layout.ts";

/** How long the kernel may take to be done with killed processes and their cgroups. */
const CLEAR_TIMEOUT_MS = 30_000;

/** A running process by pid and identity. */
export function refOf(pid: number): ProcessRef {
  return { pid, identity: processIdentity(pid) ?? "" };
}

/** Whether it still is that process, and runs. */
export function isAlive(ref: ProcessRef | undefined): boolean {
  return ref !== undefined && ref.identity !== "" && processIdentity(ref.pid) === ref.identity;
}

export function readState(layout: Layout): ClusterState {
  return JSON.parse(readFileSync(layout.state, "utf8")) as ClusterState;
}

export function writeState(layout: Layout, state: ClusterState): void {
  const temporary = `${layout.state}.tmp`;
  writeFileSync(temporary, JSON.stringify(state));
  renameSync(temporary, layout.state);
}

function pids(): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number);
}

function read<T>(reader: () => T): T | undefined {
  try {
    return reader();
  } catch {
    return undefined;
  }
}

/** Pids of the direct children of a process. */
export function childrenOf(parent: number): number[] {
  return pids().filter((pid) => {
    const stat = read(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
    return stat !== undefined && Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
  });
}

/** The variable by which whatever is started for a cluster can be told, with the cluster's name as its value. */
export const CLUSTER_VARIABLE = "NIGHTSHIFT_CLUSTER";

function belongs(pid: number, state: ClusterState, name: string, namespaceHeld: boolean): boolean {
  const is = (kind: "net" | "pid", link: string | undefined): boolean =>
    link !== undefined && read(() => readlinkSync(`/proc/${pid}/ns/${kind}`)) === link;
  if (!is("net", state.network) && !is("pid", state.pids)) return false;
  // The number of a namespace that is gone may be another's by now.
  return (
    namespaceHeld ||
    (read(() => readFileSync(`/proc/${pid}/environ`, "latin1"))
      ?.split("\0")
      .includes(`${CLUSTER_VARIABLE}=${name}`) ??
      false)
  );
}

/** Pids of a cluster's processes: of all in its pid namespace, and of those that were started from outside in its network. */
export function clusterPids(layout: Layout, state: ClusterState, namespaceHeld: boolean): number[] {
  return pids().filter((pid) => belongs(pid, state, layout.name, namespaceHeld));
}

/**
 * Ends every process of a cluster and removes its cgroups and its directory. Its mounts and its network end with the
 * last process. Where `NIGHTSHIFT_CLUSTER_LOGS` names a directory, the logs are left there, below the cluster's name.
 */
export async function clearAway(layout: Layout, state: ClusterState, options: { namespaceHeld: boolean }): Promise<void> {
  for (const end = Date.now() + CLEAR_TIMEOUT_MS; Date.now() < end; await delay(20)) {
    thawCgroup(layout.cgroup);
    const left = new Set([...clusterPids(layout, state, options.namespaceHeld), ...cgroupPids(layout.cgroup)]);
    if (state.init !== undefined && isAlive(state.init)) left.add(state.init.pid);
    left.delete(process.pid);
    if (left.size === 0) break;
    for (const pid of left) sendSignal(pid, "SIGKILL");
  }
  await removeCgroup(layout.cgroup, CLEAR_TIMEOUT_MS);
  const keep = process.env["NIGHTSHIFT_CLUSTER_LOGS"];
  if (keep !== undefined && keep !== "") {
    const to = join(keep, layout.name);
    mkdirSync(to, { recursive: true });
    for (const file of ["logs", "supervisor.log", "watchdog.log"]) {
      read(() => cpSync(join(layout.dir, file), join(to, file), { recursive: true }));
    }
  }
  rmSync(layout.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

/** Names of the clusters that have a directory, whoever runs them, or none does. */
export function clusterNames(): string[] {
  return (read(() => readdirSync(CLUSTERS_DIR)) ?? []).filter((name) => !name.startsWith(".") && existsSync(new Layout(name).state));
}

/** Tells the watchdog of a cluster, whoever started it, to clear it away, and waits until it has. Nothing when there is none. */
export async function endCluster(layout: Layout): Promise<void> {
  const watchdog = read(() => readState(layout))?.watchdog;
  if (watchdog === undefined || !isAlive(watchdog)) return;
  sendSignal(watchdog.pid, "SIGTERM");
  while (isAlive(watchdog)) await delay(20);
}

/** Clears away what is left of clusters whose watchdog was killed. */
export async function sweep(): Promise<void> {
  for (const name of clusterNames()) {
    const layout = new Layout(name);
    const state = read(() => readState(layout));
    if (state === undefined || isAlive(state.watchdog) || (state.watchdog === undefined && isAlive(state.owner))) continue;
    await clearAway(layout, state, { namespaceHeld: false });
  }
  // Directories whose makers died before they gave them their name.
  for (const entry of read(() => readdirSync(CLUSTERS_DIR)) ?? []) {
    const pid = /^\..*\.(\d+)$/.exec(entry)?.[1];
    if (pid !== undefined && processIdentity(Number(pid)) === undefined)
      rmSync(join(CLUSTERS_DIR, entry), { recursive: true, force: true });
  }
}
