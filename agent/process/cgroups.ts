import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { MemoryCgroup, type CgroupVersion } from "../../src/platform/linux/cgroup.ts";
import { isOfPod, type PodProcess } from "./pod.ts";

/** How deep below the root a pod's cgroup is looked for: `kubepods.slice/kubepods-burstable.slice/…-pod<uid>.slice`, and a runtime's own levels above. */
const MAX_DEPTH = 6;

/** The memory cgroups that a process is in, from its own upwards. */
export interface MemoryLevels {
  /** Its container's and its pod's: what the pod's spec limits. */
  readonly pod: readonly MemoryCgroup[];
  /** Those above, which many pods share. */
  readonly shared: readonly MemoryCgroup[];
}

/** The node's memory cgroups, where its `/sys/fs/cgroup` is mounted. */
export class NodeCgroups {
  readonly version: CgroupVersion;
  /** Root of the hierarchy with the memory controller. */
  readonly root: string;

  private constructor(version: CgroupVersion, root: string) {
    this.version = version;
    this.root = root;
  }

  /** Undefined where no memory controller is mounted there. */
  static open(mount: string): NodeCgroups | undefined {
    const v1 = join(mount, "memory");
    if (existsSync(join(v1, "memory.usage_in_bytes"))) return new NodeCgroups(1, v1);
    const controllers = readText(join(mount, "cgroup.controllers")) ?? "";
    return controllers.split(/\s/).includes("memory") ? new NodeCgroups(2, mount) : undefined;
  }

  /** The levels that a process of a pod is in; undefined where they cannot be found. */
  levels(process: PodProcess, uid: string): MemoryLevels | undefined {
    const own = this.#directory(process, uid);
    if (own === undefined) return undefined;
    const chain: string[] = [];
    for (let dir = own; dir !== this.root && dir !== dirname(dir); dir = dirname(dir)) chain.push(dir);
    const top = chain.findLastIndex((dir) => isOfPod(basename(dir), uid));
    const cgroups = chain.map((dir) => new MemoryCgroup(this.version, dir));
    return { pod: cgroups.slice(0, top + 1), shared: cgroups.slice(top + 1) };
  }

  #directory({ pid, cgroup }: PodProcess, uid: string): string | undefined {
    const lines = cgroup.split("\n").map((line) => {
      const [, controllers = "", ...path] = line.split(":");
      return { controllers: controllers.split(","), path: path.join(":") };
    });
    const path = lines.find(({ controllers }) => controllers.includes(this.version === 1 ? "memory" : ""))?.path;
    if (path === undefined) return undefined;
    const direct = join(this.root, path);
    if (!path.startsWith("/..") && has(direct, pid)) return direct;
    // Read from inside another cgroup namespace, the path is relative to a place that is not known here.
    return this.#search(this.root, pid, uid, 0);
  }

  #search(dir: string, pid: number, uid: string, depth: number): string | undefined {
    const inPod = isOfPod(dir, uid);
    if (inPod && has(dir, pid)) return dir;
    if (!inPod && depth > MAX_DEPTH) return undefined;
    for (const child of directories(dir)) {
      const found = this.#search(join(dir, child), pid, uid, depth + 1);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function has(dir: string, pid: number): boolean {
  return readText(join(dir, "cgroup.procs"))?.split("\n").includes(String(pid)) ?? false;
}

function directories(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch {
    return [];
  }
}
