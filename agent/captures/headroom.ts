import { NightshiftError } from "../../src/api/errors.ts";
import { mebibytes } from "../../src/platform/capture/artifact-file.ts";
import type { MemoryLevels } from "../process/cgroups.ts";
import type { Raise } from "./limits.ts";

/** What is looked at. */
export interface HeadroomRequest {
  /** Memory that the capture may need on top of what is used, in bytes. */
  readonly need: number;
  /** Undefined where the process' cgroups cannot be read. */
  readonly levels: MemoryLevels | undefined;
  /** What the node can still give, in bytes; undefined where the kernel does not say. */
  readonly available: number | undefined;
  readonly raiseLimit: boolean;
}

/**
 * The limits that must be raised so that a capture has room; none where it has. Throws `CAPTURE_NO_HEADROOM` where it
 * cannot have it: by the node's memory, by a limit that other pods share, or because the limits may not be raised. What
 * cannot be read is no room either.
 */
export function raisesFor({ need, levels, available, raiseLimit }: HeadroomRequest): Raise[] {
  const refuse = (why: string, fix?: string): NightshiftError =>
    new NightshiftError(
      "CAPTURE_NO_HEADROOM",
      `the capture may need ${mebibytes(need)} of memory, and ${why}`,
      fix === undefined ? {} : { fix },
    );
  if (levels === undefined)
    throw refuse(
      "the container's memory cgroup cannot be read",
      "Mount the node's /sys/fs/cgroup into the agent, and name it with --cgroup-root.",
    );
  if (available === undefined || available < need)
    throw refuse(`the node has ${available === undefined ? "an amount that cannot be read" : mebibytes(available)}`);
  for (const cgroup of levels.shared) {
    const [limit, used] = [cgroup.limit(), cgroup.workingSet() ?? Infinity];
    if (limit !== undefined && used + need > limit)
      throw refuse(`${cgroup.dir}, which many pods share, has a limit of ${mebibytes(limit)}`);
  }
  const raises = levels.pod.flatMap((cgroup): Raise[] => {
    const limit = Math.min(cgroup.limit() ?? Infinity, cgroup.high() ?? Infinity);
    const used = cgroup.workingSet();
    if (used === undefined) throw refuse(`what ${cgroup.dir} uses cannot be read`);
    return used + need > limit ? [{ cgroup, to: used + need }] : [];
  });
  const [first] = raises;
  if (first !== undefined && !raiseLimit)
    throw refuse(
      `the limit is ${mebibytes(first.cgroup.limit() ?? first.cgroup.high() ?? 0)}, of which ${mebibytes(first.cgroup.workingSet() ?? 0)} are used`,
      "Let the limit be raised with raiseLimit: true.",
    );
  return raises;
}
