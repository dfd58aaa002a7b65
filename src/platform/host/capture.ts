import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync, statfsSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { NightshiftError } from "../../api/errors.ts";
import type { Capture } from "../../api/policy.ts";
import type { Artifact } from "../../api/remediation.ts";
import { timestamp } from "../../api/time.ts";
import { quantityBytes } from "../../api/units.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { MemoryCgroups } from "./cgroup.ts";
import { Inspector } from "./inspector.ts";
import type { Instance } from "./instance.ts";
import { availableMemory, residentBytes } from "./proc.ts";
import type { Stack } from "./stack.ts";
import type { HostState } from "./state.ts";

/**
 * Memory that a heap snapshot needs on top of what the process uses, as a multiple of that: V8 builds a graph of all
 * objects and their edges natively, so many small objects cost most. Measured as peak over resident memory: Node 24.21,
 * 3 million small objects 5.7, a Map of 1 million entries 8.7, 200,000 long strings 1.2; Node 20, a Map, 11.6.
 */
export const HEADROOM_FACTOR = 11;
/** Disk that a snapshot needs, as a multiple of the working set: its JSON is somewhat larger than the heap. */
export const DISK_FACTOR = 1.5;
/** A CPU profile needs next to nothing; this much is asked for all the same. */
const PROFILE_BYTES = 32 * 2 ** 20;
const PROFILE_MS = 10_000;
/** A capture of which nothing has been heard for this long has failed. V8 stalls the process while it walks the heap. */
const SILENCE_MS = 90_000;
const PROGRESS_MS = 2_000;

const EXTENSION = { HeapSnapshot: "heapsnapshot", CpuProfile: "cpuprofile" } as const;

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
    const size = this.#workingSet(instance, pid);
    this.#assertDisk(capture.type === "HeapSnapshot" ? size * DISK_FACTOR : PROFILE_BYTES);
    this.#assertMemory(instance, capture, size);
    const path = this.#path(effectId, instance.row.name, capture.type);
    const file = new ArtifactFile(`${path}.partial`);
    let written: { bytes: number; sha256: string };
    try {
      const inspector = await Inspector.open(pid, inspectPort, this.#o.clock, signal);
      try {
        await (capture.type === "HeapSnapshot"
          ? this.#heapSnapshot(inspector, file, name, signal)
          : this.#cpuProfile(inspector, file, signal));
      } finally {
        await inspector.close(this.#o.clock);
      }
      written = await file.finish();
    } catch (error) {
      file.discard();
      throw explained(error, this.#o.dir);
    }
    const artifact: Artifact = {
      type: capture.type,
      path,
      ...written,
      replica: instance.ref,
      capturedAt: timestamp(this.#o.clock.now()),
    };
    // The digest first: a file that has its final name is known to be whole.
    this.#o.state.putArtifact(effectId, artifact);
    commit(path, this.#o.dir);
    this.#o.log.info({ replica: name, path, bytes: written.bytes }, `captured ${name}: ${written.bytes} bytes in ${path}`);
    this.#prune();
    return artifact;
  }

  /** What became of a capture that was cut off: its artifact if that is whole; else what is left of it is removed. */
  recover(effectId: string): Artifact | undefined {
    const artifact = this.#o.state.artifact(effectId);
    if (artifact !== undefined) {
      if (sizeOf(artifact.path) === artifact.bytes) return artifact;
      if (sizeOf(`${artifact.path}.partial`) === artifact.bytes) {
        commit(artifact.path, this.#o.dir);
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

  #assertDisk(need: number): void {
    const { bavail, bsize } = statfsSync(this.#o.dir);
    if (bavail * bsize < need)
      throw new NightshiftError("CAPTURE_NO_SPACE", `the capture may need ${mebibytes(need)}, and ${mebibytes(bavail * bsize)} are free`, {
        where: this.#o.dir,
        fix: "Free space there, or put the state directory on a larger file system.",
      });
  }

  #assertMemory(instance: Instance, capture: Capture, size: number): void {
    const { cgroup, name } = instance.row;
    const { cgroups } = this.#o;
    const need = capture.type === "HeapSnapshot" ? size * HEADROOM_FACTOR : PROFILE_BYTES;
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

  async #heapSnapshot(inspector: Inspector, file: ArtifactFile, name: string, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#o;
    let reported = clock.monotonic();
    // Chunks are written as they come, synchronously: what is not yet read stays with the process that sends it.
    const onEvent = (method: string, params: Record<string, unknown>): void => {
      if (method === "HeapProfiler.addHeapSnapshotChunk") file.write(String(params["chunk"]));
      if (clock.monotonic() - reported < PROGRESS_MS) return;
      reported = clock.monotonic();
      const walked =
        method === "HeapProfiler.reportHeapSnapshotProgress" ? `, ${String(params["done"])} of ${String(params["total"])} objects` : "";
      log.info({ replica: name }, `capturing ${name}: ${mebibytes(file.bytes)} written${walked}`);
    };
    await inspector.call("HeapProfiler.takeHeapSnapshot", { reportProgress: true }, clock, signal, { timeoutMs: SILENCE_MS, onEvent });
    if (file.bytes === 0) throw new NightshiftError("CAPTURE_FAILED", "the process sent an empty heap snapshot");
  }

  async #cpuProfile(inspector: Inspector, file: ArtifactFile, signal: AbortSignal): Promise<void> {
    const { clock } = this.#o;
    await inspector.call("Profiler.enable", {}, clock, signal);
    await inspector.call("Profiler.start", {}, clock, signal);
    await sleep(clock, PROFILE_MS, signal);
    const { profile } = await inspector.call("Profiler.stop", {}, clock, signal, { timeoutMs: SILENCE_MS });
    file.write(JSON.stringify(profile));
  }

  /** Deletes the oldest captures beyond the limits, never the newest. */
  #prune(): void {
    const { state, limits, log } = this.#o;
    const maxBytes = quantityBytes(limits.maxBytes);
    let bytes = 0;
    state.artifacts().forEach(({ effectId, artifact }, index) => {
      bytes += artifact.bytes;
      if (index === 0 || (bytes <= maxBytes && index < limits.maxCount)) return;
      rmSync(artifact.path, { force: true });
      state.deleteArtifact(effectId);
      log.info({ path: artifact.path }, `deleted the capture ${artifact.path}: the artifacts directory is full`);
    });
  }
}

/** A file that is being captured into, with its digest. */
class ArtifactFile {
  readonly #path: string;
  readonly #hash = createHash("sha256");
  #fd: number | undefined;
  bytes = 0;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, "w", 0o600);
  }

  write(text: string): void {
    if (this.#fd === undefined) throw new NightshiftError("CAPTURE_FAILED", "the capture was abandoned");
    const data = Buffer.from(text);
    for (let at = 0; at < data.length;) at += writeSync(this.#fd, data, at);
    this.#hash.update(data);
    this.bytes += data.length;
  }

  /** Makes what was written durable. */
  async finish(): Promise<{ bytes: number; sha256: string }> {
    this.#close();
    const file = await open(this.#path, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    return { bytes: this.bytes, sha256: this.#hash.digest("hex") };
  }

  discard(): void {
    this.#close();
    rmSync(this.#path, { force: true });
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Gives a durable file its final name, durably. */
function commit(path: string, dir: string): void {
  renameSync(`${path}.partial`, path);
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}

/** What of a file's name belongs to one effect. */
function tagOf(effectId: string): string {
  return createHash("sha256").update(effectId).digest("hex").slice(0, 16);
}

function explained(error: unknown, dir: string): unknown {
  if (error instanceof NightshiftError) return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG")
    return new NightshiftError("CAPTURE_NO_SPACE", "the disk was full before the capture was whole; what there was of it is removed", {
      where: dir,
      cause: error,
    });
  return new NightshiftError(
    "CAPTURE_FAILED",
    `the capture could not be written: ${error instanceof Error ? error.message : String(error)}`,
    {
      where: dir,
      cause: error,
    },
  );
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
