import { join } from "node:path";
import type { Logger } from "pino";
import { messageOf } from "../../src/api/errors.ts";
import { mebibytes } from "../../src/platform/capture/artifact-file.ts";
import { MemoryCgroup, type CgroupVersion } from "../../src/platform/linux/cgroup.ts";
import { readJson, writeJson } from "./durable.ts";

/** A limit is lowered again only when the working set is below this share of it: v2 would kill at once for the rest, v1 refuses. */
const RESTORE_BELOW = 0.9;

/** What a cgroup had before it was raised. */
interface Raised {
  readonly version: CgroupVersion;
  readonly dir: string;
  readonly limit?: number;
  readonly high?: number;
}

/** A cgroup, and the limit that it needs (bytes). */
export interface Raise {
  readonly cgroup: MemoryCgroup;
  readonly to: number;
}

/**
 * Raises memory limits for captures, and brings back what they were: after the capture, or as soon as what the process
 * uses fits again. What was raised is on disk before it is raised, so that the next agent brings it back after a crash.
 * The kubelet does not notice meanwhile: it writes a limit when a container starts or its spec is resized.
 */
export class RaisedLimits {
  readonly #path: string;
  readonly #log: Logger;
  #raised: readonly Raised[];
  readonly #held = new Set<string>();

  /** @param stateDir - where what was raised is kept. */
  constructor(stateDir: string, log: Logger) {
    this.#path = join(stateDir, "raised-limits.json");
    this.#log = log;
    this.#raised = (readJson(this.#path) as Raised[] | undefined) ?? [];
  }

  /** How many limits are not yet what they were. */
  get count(): number {
    return this.#raised.length;
  }

  /** Raises all of them, and keeps them until `release`. Throws where one cannot be raised; then all are as they were. */
  raise(raises: readonly Raise[]): void {
    const before = raises.flatMap(({ cgroup }): Raised[] => {
      if (this.#raised.some(({ dir }) => dir === cgroup.dir)) return [];
      const [limit, high] = [cgroup.limit(), cgroup.high()];
      return [
        {
          version: cgroup.version,
          dir: cgroup.dir,
          ...(limit === undefined ? {} : { limit }),
          ...(high === undefined ? {} : { high }),
        },
      ];
    });
    this.#store([...this.#raised, ...before]);
    for (const { cgroup } of raises) this.#held.add(cgroup.dir);
    try {
      // The outermost first: a child may not have more than its parent on every kernel.
      for (const { cgroup, to } of raises.toReversed()) {
        if ((cgroup.limit() ?? Infinity) < to) cgroup.setLimit(to);
        if ((cgroup.high() ?? Infinity) < to) cgroup.setHigh(undefined);
      }
    } catch (error) {
      this.release(raises.map(({ cgroup }) => cgroup));
      throw error;
    }
  }

  /** The capture is over: brings back what can be brought back now. */
  release(cgroups: readonly MemoryCgroup[]): void {
    for (const { dir } of cgroups) this.#held.delete(dir);
    this.restore();
  }

  /** Brings back every limit that no capture holds and whose processes fit into it; to be called again for the others. */
  restore(): void {
    const left = this.#raised.filter((raised) => this.#held.has(raised.dir) || !this.#restored(raised));
    if (left.length !== this.#raised.length) this.#store(left);
  }

  /** True when there is nothing left to bring back. */
  #restored({ version, dir, limit, high }: Raised): boolean {
    const cgroup = new MemoryCgroup(version, dir);
    if (!cgroup.exists) return true;
    if ((cgroup.workingSet() ?? Infinity) >= Math.min(limit ?? Infinity, high ?? Infinity) * RESTORE_BELOW) return false;
    try {
      if (limit !== undefined && (cgroup.limit() ?? Infinity) > limit) cgroup.setLimit(limit);
      if (high !== undefined) cgroup.setHigh(high);
      this.#log.info({ cgroup: dir }, `brought back the memory limit${limit === undefined ? "" : ` of ${mebibytes(limit)}`}`);
      return true;
    } catch (error) {
      this.#log.warn({ cgroup: dir }, `the memory limit could not be lowered again yet: ${messageOf(error)}`);
      return false;
    }
  }

  #store(raised: readonly Raised[]): void {
    writeJson(this.#path, raised);
    this.#raised = raised;
  }
}
