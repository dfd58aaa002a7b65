import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { MemoryCgroup, writeIfThere, type CgroupVersion } from "../linux/cgroup.ts";
import { sendSignal } from "../linux/proc.ts";

/** Where the kernel shows itself; another place in tests. */
export interface CgroupPaths {
  /** Default `/proc/self/mounts`. */
  readonly mounts?: string;
  /** Default `/proc/self/cgroup`. */
  readonly self?: string;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/**
 * One memory cgroup a replica, below `nightshift/<state>/`.
 *
 * It is made below the cgroup of Nightshift itself, so that limits which somebody set for Nightshift and everything that
 * it starts hold. v2 forbids that where processes are in it ("no internal processes"), so there the nearest ancestor
 * that can take it is used.
 */
export class MemoryCgroups {
  readonly version: CgroupVersion;
  /** The directory that holds one cgroup a replica. */
  readonly base: string;

  private constructor(version: CgroupVersion, base: string) {
    this.version = version;
    this.base = base;
  }

  /** The tree for the state directory with this hash; undefined where there is none, or it is not ours to write. */
  static open(hash: string, paths: CgroupPaths = {}): MemoryCgroups | undefined {
    const mounts = (read(paths.mounts ?? "/proc/self/mounts") ?? "").split("\n").map((line) => line.split(" "));
    const own = (read(paths.self ?? "/proc/self/cgroup") ?? "").split("\n").map((line) => {
      const [, controllers = "", ...path] = line.split(":");
      return { controllers: controllers.split(","), path: path.join(":") };
    });
    const v1 = mounts.find(([, , type, options]) => type === "cgroup" && options?.split(",").includes("memory"))?.[1];
    if (v1 !== undefined) {
      const path = own.find((entry) => entry.controllers.includes("memory"))?.path ?? "/";
      // In a container without a cgroup namespace the path is the host's, and is not below the mount.
      const parent = existsSync(join(v1, path)) ? join(v1, path) : v1;
      return make(() => new MemoryCgroups(1, join(parent, "nightshift", hash)), parent, undefined);
    }
    const v2 = mounts.find(
      ([, at, type]) =>
        type === "cgroup2" &&
        read(join(at ?? "", "cgroup.controllers"))
          ?.split(/\s/)
          .includes("memory"),
    )?.[1];
    if (v2 === undefined) return undefined;
    const path = own.find((entry) => entry.controllers.includes(""))?.path ?? "/";
    let parent = existsSync(join(v2, path)) ? join(v2, path) : v2;
    for (;;) {
      const found = parent;
      const tree = make(() => new MemoryCgroups(2, join(found, "nightshift", hash)), found, "+memory");
      if (tree !== undefined || join(parent) === join(v2)) return tree;
      parent = dirname(parent);
    }
  }

  /** Makes a cgroup, with a limit where one is given, and returns its directory. */
  create(name: string, limitBytes: number | undefined): string {
    const dir = join(this.base, name);
    mkdirSync(dir, { recursive: true });
    // All of a replica or nothing: a replica without its child process would be neither dead nor well.
    if (this.version === 2) writeIfThere(join(dir, "memory.oom.group"), "1");
    if (limitBytes !== undefined) this.setLimit(dir, limitBytes);
    return dir;
  }

  /** Changes the limit while processes are in it. Throws where the kernel refuses. */
  setLimit(dir: string, bytes: number): void {
    if (this.version === 2) writeIfThere(join(dir, "memory.swap.max"), "0");
    this.#memory(dir).setLimit(bytes);
  }

  /** The limit in bytes; undefined where there is none. */
  limit(dir: string): number | undefined {
    return this.#memory(dir).limit();
  }

  /** Memory that cannot be taken back without harm: usage without inactive page cache, as the kubelet computes it. */
  workingSet(dir: string): number | undefined {
    return this.#memory(dir).workingSet();
  }

  /** How often the kernel has killed a process in it for want of memory. */
  oomKills(dir: string): number {
    return this.#memory(dir).oomKills();
  }

  /** Pids of the processes in it. */
  processes(dir: string): number[] {
    return processesIn(dir);
  }

  /** Removes the tree's own directories where nothing is left in them. */
  close(): void {
    for (const dir of [this.base, dirname(this.base)]) removeEmpty(dir);
  }

  #memory(dir: string): MemoryCgroup {
    return new MemoryCgroup(this.version, dir);
  }
}

/** Pids of the processes in a cgroup. */
export function processesIn(dir: string): number[] {
  return (read(join(dir, "cgroup.procs")) ?? "").split("\n").filter(Boolean).map(Number);
}

/** Kills what is in a cgroup; true once nothing is, and it is removed. To be called again until then. */
export function killAndRemove(dir: string): boolean {
  for (const pid of processesIn(dir)) sendSignal(pid, "SIGKILL");
  return removeEmpty(dir);
}

function removeEmpty(dir: string): boolean {
  try {
    rmdirSync(dir);
  } catch {
    // Not empty, or gone already: told apart below.
  }
  return !existsSync(dir);
}

/** Makes the tree's directories and, for v2, hands the memory controller down to them; undefined when that is refused. */
function make(tree: () => MemoryCgroups, parent: string, control: string | undefined): MemoryCgroups | undefined {
  const made = tree();
  try {
    if (control !== undefined) delegate(parent, control);
    mkdirSync(made.base, { recursive: true });
    if (control !== undefined) {
      delegate(dirname(made.base), control);
      delegate(made.base, control);
    }
    // Permission shows only with a cgroup of its own.
    const probe = join(made.base, `probe-${process.pid}`);
    mkdirSync(probe);
    rmdirSync(probe);
    return made;
  } catch {
    removeEmpty(made.base);
    removeEmpty(dirname(made.base));
    return undefined;
  }
}

function delegate(dir: string, control: string): void {
  const file = join(dir, "cgroup.subtree_control");
  if (!(read(file) ?? "").split(/\s/).includes(control.slice(1))) writeFileSync(file, control);
}
