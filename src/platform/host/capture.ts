import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { NightshiftError } from "../../api/errors.ts";
import type { Capture } from "../../api/policy.ts";
import type { Artifact } from "../../api/remediation.ts";
import { timestamp } from "../../api/time.ts";
import { quantityBytes } from "../../api/units.ts";
import type { Clock } from "../../ports/clock.ts";
import { assertDisk, beyondLimits, commit, EXTENSION, mebibytes, partialOf, tagOf } from "../capture/artifact-file.ts";
import { captureToFile, diskNeed, memoryNeed } from "../capture/capture.ts";
import { availableMemory, residentBytes } from "../linux/proc.ts";
import type { MemoryCgroups } from "./cgroup.ts";
import type { Instance } from "./instance.ts";
import type { Stack } from "./stack.ts";
import type { HostState } from "./state.ts";

/** What captures need. */
export interface CapturerOptions {
  /** Where they go. */
  readonly dir: string;
  readonly limits: Stack["artifacts"];
  readonly state: HostState;
  readonly cgroups: MemoryCgroups | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Saves heap snapshots and CPU profiles of Node.js processes. */
export class Capturer {
  readonly #o: CapturerOptions;

  constructor(options: CapturerOptions) {
    this.#o = options;
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  }

  /**
   * Captures and resolves once the file is durable under its final name. Rejects with `CAPTURE_UNSUPPORTED`,
   * `CAPTURE_NO_HEADROOM`, `CAPTURE_NO_SPACE`, `CAPTURE_TIMEOUT` or `CAPTURE_FAILED`; then no file is left.
   */
  async capture(effectId: string, instance: Instance, capture: Capture, signal: AbortSignal): Promise<Artifact> {
    const { pid, inspectPort, name } = instance.row;
    if (pid === undefined || !instance.running) throw new NightshiftError("NOT_FOUND", `${name} is gone, and its memory with it`);
    if (inspectPort === undefined)
      throw new NightshiftError("CAPTURE_UNSUPPORTED", `${name} is not a Node.js process`, {
        fix: "Captures work for workloads whose command begins with node.",
      });
    const { clock, log } = this.#o;
    const size = this.#workingSet(instance, pid);
    assertDisk(this.#o.dir, diskNeed(capture.type, size));
    this.#assertMemory(instance, capture, size);
    const path = this.#path(effectId, instance.row.name, capture.type);
    const written = await captureToFile({
      process: { pid, ports: () => [inspectPort] },
      type: capture.type,
      path,
      clock,
      signal,
      onProgress: (text) => log.info({ replica: name }, `capturing ${name}: ${text}`),
    });
    const artifact: Artifact = {
      type: capture.type,
      path,
      ...written,
      replica: instance.ref,
      capturedAt: timestamp(clock.now()),
    };
    // The digest first: a file that has its final name is known to be whole.
    this.#o.state.putArtifact(effectId, artifact);
    commit(path);
    log.info({ replica: name, path, bytes: written.bytes }, `captured ${name}: ${written.bytes} bytes in ${path}`);
    this.#prune();
    return artifact;
  }

  /** What became of a capture that was cut off: its artifact if that is whole; else what is left of it is removed. */
  recover(effectId: string): Artifact | undefined {
    const artifact = this.#o.state.artifact(effectId);
    if (artifact !== undefined) {
      if (sizeOf(artifact.path) === artifact.bytes) return artifact;
      if (sizeOf(partialOf(artifact.path)) === artifact.bytes) {
        commit(artifact.path);
        return artifact;
      }
      this.#o.state.deleteArtifact(effectId);
    }
    const tag = tagOf(effectId);
    for (const file of readdirSync(this.#o.dir)) if (file.includes(tag)) rmSync(join(this.#o.dir, file), { force: true });
    return undefined;
  }

  #path(effectId: string, replica: string, type: Capture["type"]): string {
    return join(this.#o.dir, `${replica}-${tagOf(effectId)}.${EXTENSION[type]}`);
  }

  #workingSet(instance: Instance, pid: number): number {
    const { cgroup } = instance.row;
    return (cgroup === undefined ? undefined : this.#o.cgroups?.workingSet(cgroup)) ?? residentBytes(pid) ?? 0;
  }

  #assertMemory(instance: Instance, capture: Capture, size: number): void {
    const { cgroup, name } = instance.row;
    const { cgroups } = this.#o;
    const need = memoryNeed(capture.type, size);
    const available = availableMemory();
    if (available !== undefined && available < need)
      throw new NightshiftError(
        "CAPTURE_NO_HEADROOM",
        `the capture may need ${mebibytes(need)} of memory, and the machine has ${mebibytes(available)}`,
      );
    const limit = cgroup === undefined ? undefined : cgroups?.limit(cgroup);
    if (cgroup === undefined || cgroups === undefined || limit === undefined || size + need <= limit) return;
    const message = `the capture may need ${mebibytes(need)} on top of ${mebibytes(size)}, and the limit of ${name} is ${mebibytes(limit)}`;
    if (!capture.raiseLimit)
      throw new NightshiftError("CAPTURE_NO_HEADROOM", message, { fix: "Let the limit be raised with raiseLimit: true." });
    try {
      cgroups.setLimit(cgroup, size + need);
    } catch (cause) {
      throw new NightshiftError("CAPTURE_NO_HEADROOM", `${message}; it could not be raised`, { cause });
    }
    this.#o.log.info(
      { replica: name },
      `raised the memory limit of ${name} from ${mebibytes(limit)} to ${mebibytes(size + need)} for its capture`,
    );
  }

  /** Deletes the oldest captures beyond the limits, never the newest. */
  #prune(): void {
    const { state, limits, log } = this.#o;
    const captures = state.artifacts().map(({ effectId, artifact }) => ({ effectId, artifact, bytes: artifact.bytes }));
    for (const { effectId, artifact } of beyondLimits(captures, { maxBytes: quantityBytes(limits.maxBytes), maxCount: limits.maxCount })) {
      rmSync(artifact.path, { force: true });
      state.deleteArtifact(effectId);
      log.info({ path: artifact.path }, `deleted the capture ${artifact.path}: the artifacts directory is full`);
    }
  }
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}
