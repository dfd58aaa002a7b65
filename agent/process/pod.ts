import { readFileSync, readdirSync, readlinkSync } from "node:fs";

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

/** A process of a pod, as the node sees it. */
export interface PodProcess {
  readonly pid: number;
  /** What `/proc/<pid>/cgroup` says: one line for each hierarchy of v1, and one for v2. */
  readonly cgroup: string;
}

/**
 * Whether a cgroup path (or the whole of `/proc/<pid>/cgroup`) is inside the pod: the kubelet writes the uid as it is
 * (cgroupfs: `/kubepods/burstable/pod<uid>/<container>`) or with `_` for `-`, which separates slices
 * (systemd: `kubepods-burstable-pod<uid>.slice/cri-containerd-<container>.scope`).
 */
export function isOfPod(cgroup: string, uid: string): boolean {
  // A uid is no pattern, and nothing shorter may match everything.
  if (uid.length < 8) return false;
  return cgroup.includes(`pod${uid}`) || cgroup.includes(`pod${uid.replaceAll("-", "_")}`);
}

/** The processes of a pod on this node, the sandbox's own too; empty where the pod is not here. Needs the node's PID namespace. */
export function processesOfPod(uid: string): PodProcess[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    const cgroup = read(`/proc/${entry}/cgroup`);
    return cgroup !== undefined && isOfPod(cgroup, uid) ? [{ pid: Number(entry), cgroup }] : [];
  });
}

/** Whether a process belongs to the container with this id, as the pod's status has it (`containerd://<id>`). */
export function isOfContainer(cgroup: string, containerId: string): boolean {
  const id = containerId.slice(containerId.lastIndexOf("/") + 1);
  return id.length >= 8 && cgroup.includes(id);
}

/** Whether a process runs Node.js under that name. */
export function isNode(pid: number): boolean {
  try {
    // A binary that was replaced while it runs, as by an upgrade in place, has ` (deleted)` behind its name.
    return /\/node(js)?(-?\d+)?( \(deleted\))?$/.test(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return false;
  }
}

/** The number that a process has for itself, in its own PID namespace; undefined when it is gone. */
export function ownPid(pid: number): number | undefined {
  const status = read(`/proc/${pid}/status`);
  if (status === undefined) return undefined;
  const last = /^NSpid:\s+(.+)$/m.exec(status)?.[1]?.split(/\s+/).at(-1);
  return last === undefined ? pid : Number(last);
}
