import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** A number of a flat keyed file such as memory.stat. */
function keyed(path: string, key: string): number | undefined {
  const match = new RegExp(`^${key} (\\d+)$`, "m").exec(read(path) ?? "");
  return match ? Number(match[1]) : undefined;
}

function value(path: string): number | undefined {
  const text = read(path)?.trim();
  return text === undefined || text === "max" || text === "" ? undefined : Number(text);
}

/** v1 shows "no limit" as the largest multiple of the page size that fits a long. */
const V1_UNLIMITED = 2 ** 62;

/** Version of the cgroup file systems on which the memory controller can be. */
export type CgroupVersion = 1 | 2;

/**
 * The memory controller's files in one cgroup.
 * Sources: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of Linux.
 */
export class MemoryCgroup {
  readonly version: CgroupVersion;
  /** Its directory. */
  readonly dir: string;

  constructor(version: CgroupVersion, dir: string) {
    this.version = version;
    this.dir = dir;
  }

  /** Whether it is there. */
  get exists(): boolean {
    return existsSync(this.#path("memory.current", "memory.usage_in_bytes"));
  }

  /** The limit in bytes; undefined where there is none. */
  limit(): number | undefined {
    const bytes = value(this.#path("memory.max", "memory.limit_in_bytes"));
    return bytes === undefined || bytes >= V1_UNLIMITED ? undefined : bytes;
  }

  /** Changes the limit while processes are in it. Throws where the kernel refuses. */
  setLimit(bytes: number): void {
    const text = String(Math.floor(bytes));
    if (this.version === 2) return writeFileSync(join(this.dir, "memory.max"), text);
    // Memory with swap may never be below memory, so the order depends on the direction. It is absent without swap accounting.
    const raising = bytes > (this.limit() ?? Infinity);
    if (raising) writeIfThere(join(this.dir, "memory.memsw.limit_in_bytes"), text);
    writeFileSync(join(this.dir, "memory.limit_in_bytes"), text);
    if (!raising) writeIfThere(join(this.dir, "memory.memsw.limit_in_bytes"), text);
  }

  /** v2: usage in bytes above which its processes are slowed down; undefined where there is none. */
  high(): number | undefined {
    return this.version === 2 ? value(join(this.dir, "memory.high")) : undefined;
  }

  /** v2: sets that, or takes it away. Throws where the kernel refuses. */
  setHigh(bytes: number | undefined): void {
    writeFileSync(join(this.dir, "memory.high"), bytes === undefined ? "max" : String(Math.floor(bytes)));
  }

  /** Memory that cannot be taken back without harm: usage without inactive page cache, as the kubelet computes it. */
  workingSet(): number | undefined {
    const usage = value(this.#path("memory.current", "memory.usage_in_bytes"));
    if (usage === undefined) return undefined;
    const inactive = keyed(join(this.dir, "memory.stat"), this.version === 2 ? "inactive_file" : "total_inactive_file") ?? 0;
    return Math.max(0, usage - inactive);
  }

  /** How often the kernel has killed a process in it for want of memory. */
  oomKills(): number {
    return keyed(this.#path("memory.events", "memory.oom_control"), "oom_kill") ?? 0;
  }

  #path(v2: string, v1: string): string {
    return join(this.dir, this.version === 2 ? v2 : v1);
  }
}

/** Writes a file that only sharpens what another says: where it is missing, or the kernel refuses, nothing is lost. */
export function writeIfThere(path: string, text: string): void {
  if (!existsSync(path)) return;
  try {
    writeFileSync(path, text);
  } catch {
    // As said above.
  }
}
