import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

interface Hierarchy {
  readonly path: string;
  readonly version: 1 | 2;
}

/** Every mounted cgroup hierarchy. */
function hierarchies(): Hierarchy[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").trim().split("\n");
  return mounts.flatMap((line): Hierarchy[] => {
    const [, path = "", type] = line.split(" ");
    return type === "cgroup" ? [{ path, version: 1 }] : type === "cgroup2" ? [{ path, version: 2 }] : [];
  });
}

function write(path: string, text: string): boolean {
  try {
    writeFileSync(path, text);
    return true;
  } catch {
    return false;
  }
}

/** On v2 a cgroup has the controllers that its parent hands down, and the kubelet wants them before it starts. */
function handDown(dir: string): void {
  const controllers = readFileSync(join(dir, "cgroup.controllers"), "utf8").trim().split(" ").filter(Boolean);
  for (const controller of controllers) write(join(dir, "cgroup.subtree_control"), `+${controller}`);
}

/** Makes a cgroup (`/a/b`) in every hierarchy. */
export function makeCgroup(path: string): void {
  for (const hierarchy of hierarchies()) {
    let at = hierarchy.path;
    for (const part of path.split("/").filter(Boolean)) {
      if (hierarchy.version === 2) handDown(at);
      at = join(at, part);
      mkdirSync(at, { recursive: true });
      // A new cpuset of v1 has neither CPUs nor memory nodes until it is told.
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        try {
          writeFileSync(join(at, file), readFileSync(join(dirname(at), file)));
        } catch {
          // Not the cpuset hierarchy, or v2, where it inherits.
        }
      }
    }
    if (hierarchy.version === 2) handDown(at);
  }
}

/** The directories of a cgroup tree, the deepest first. */
function tree(dir: string): string[] {
  let entries;
  try {
    entries = readdirSync(dir, { withFileTypes: true });
  } catch {
    return [];
  }
  return [...entries.filter((entry) => entry.isDirectory()).flatMap((entry) => tree(join(dir, entry.name))), dir];
}

/** Lets frozen processes of a cgroup's tree go on, so that a SIGKILL reaches them. */
export function thawCgroup(path: string): void {
  for (const hierarchy of hierarchies()) {
    for (const dir of tree(join(hierarchy.path, path))) {
      if (hierarchy.version === 2) write(join(dir, "cgroup.freeze"), "0");
      else if (hierarchy.path.endsWith("freezer")) write(join(dir, "freezer.state"), "THAWED");
    }
  }
}

/** Pids, as this process sees them, of everything in a cgroup's tree. */
export function cgroupPids(path: string): number[] {
  const pids = new Set<number>();
  for (const hierarchy of hierarchies()) {
    for (const dir of tree(join(hierarchy.path, path))) {
      for (const line of readFileSync(join(dir, "cgroup.procs"), "utf8").split("\n")) if (Number(line) > 0) pids.add(Number(line));
    }
  }
  return [...pids];
}

/** The directories that a cgroup still has, over all hierarchies. */
export function cgroupDirectories(path: string): string[] {
  return hierarchies().flatMap((hierarchy) => tree(join(hierarchy.path, path)));
}

/** Removes a cgroup with all below it, waiting up to `timeoutMs` for the kernel to be done with its last processes; false when some is left. */
export async function removeCgroup(path: string, timeoutMs: number): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; ; await delay(50)) {
    for (const dir of cgroupDirectories(path)) {
      try {
        rmdirSync(dir);
      } catch {
        // Busy for a moment more, or gone.
      }
    }
    if (cgroupDirectories(path).length === 0) return true;
    if (Date.now() > end) return false;
  }
}
