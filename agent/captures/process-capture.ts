import type { Logger } from "pino";
import { NightshiftError, messageOf } from "../../src/api/errors.ts";
import type { Capture } from "../../src/api/policy.ts";
import type { Artifact } from "../../src/api/remediation.ts";
import { assertDisk, type Written } from "../../src/platform/capture/artifact-file.ts";
import { captureToFile, diskNeed, memoryNeed } from "../../src/platform/capture/capture.ts";
import { Inspector, type InspectedProcess } from "../../src/platform/capture/inspector.ts";
import type { MemoryCgroup } from "../../src/platform/linux/cgroup.ts";
import { availableMemory, processIdentity } from "../../src/platform/linux/proc.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { MemoryLevels } from "../process/cgroups.ts";
import type { FoundProcess } from "../process/find.ts";
import { PodNetwork } from "../process/network.ts";
import { InspectorPorts } from "../process/ports.ts";
import { raisesFor } from "./headroom.ts";
import type { JournalProcess } from "./journal.ts";
import type { RaisedLimits } from "./limits.ts";

/** What captures of processes need. */
export interface ProcessCaptureDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: RaisedLimits;
}

/** One capture, once there is room for it. */
export interface Prepared {
  /** What is captured: a heap profile where a snapshot has no room and may be missing. */
  readonly type: Artifact["type"];
  /** Why it is not what was asked for. */
  readonly note: string | undefined;
  readonly process: JournalProcess;
  /** Captures into the partial file of `path`; see `captureToFile`. */
  take(path: string, signal: AbortSignal, onProgress: (text: string) => void): Promise<Written>;
  /** Brings back what was raised for it, also where it was not taken. */
  release(): void;
}

/**
 * Looks whether a capture has room, on disk and in memory, and makes it where the limits may be raised. The process is
 * not touched yet. Throws `CAPTURE_NO_SPACE`, `CAPTURE_NO_HEADROOM` or `CAPTURE_UNSUPPORTED`; then nothing is raised.
 */
export function prepare(
  found: FoundProcess,
  levels: MemoryLevels | undefined,
  capture: Capture,
  dir: string,
  { clock, log, limits }: ProcessCaptureDeps,
): Prepared {
  const ports = new InspectorPorts(found.pid);
  const taken = ports.takenByAnother;
  if (taken !== undefined)
    throw new NightshiftError(
      "CAPTURE_UNSUPPORTED",
      `port ${taken}, at which the process would open its inspector, is taken by another of its pod`,
      {
        fix: "Give the process a port of its own with NODE_OPTIONS=--inspect-port=127.0.0.1:<port>.",
      },
    );
  const size = levels?.pod[0]?.workingSet() ?? found.residentBytes;
  const { type, note, raised } = makeRoom(capture, size, levels, dir, limits);
  for (const cgroup of raised) log.info({ cgroup: cgroup.dir }, "raised a memory limit for a capture");
  return {
    type,
    note,
    process: { pid: found.pid, identity: found.identity, ownPid: found.ownPid, wasInspected: ports.candidates().length > 0 },
    release: () => limits.release(raised),
    take: (path, signal, onProgress) =>
      withNetwork(found, (network) =>
        captureToFile({ process: { ...network, ports: () => ports.candidates() }, type, path, clock, signal, onProgress }),
      ),
  };
}

function makeRoom(
  capture: Capture,
  size: number,
  levels: MemoryLevels | undefined,
  dir: string,
  limits: RaisedLimits,
): { type: Artifact["type"]; note: string | undefined; raised: readonly MemoryCgroup[] } {
  const roomFor = (type: Artifact["type"]): readonly MemoryCgroup[] => {
    assertDisk(dir, diskNeed(type, size));
    const raises = raisesFor({ need: memoryNeed(type, size), levels, available: availableMemory(), raiseLimit: capture.raiseLimit });
    try {
      if (raises.length > 0) limits.raise(raises);
    } catch (cause) {
      throw new NightshiftError("CAPTURE_NO_HEADROOM", `the memory limit could not be raised: ${messageOf(cause)}`, { cause });
    }
    return raises.map(({ cgroup }) => cgroup);
  };
  try {
    return { type: capture.type, note: undefined, raised: roomFor(capture.type) };
  } catch (error) {
    const mayReplace = capture.type === "HeapSnapshot" && !capture.required;
    if (!mayReplace || !(error instanceof NightshiftError) || error.code !== "CAPTURE_NO_HEADROOM") throw error;
    return {
      type: "HeapProfile",
      note: `samples of allocations in the place of a heap snapshot: ${error.message}`,
      raised: roomFor("HeapProfile"),
    };
  }
}

/** Closes an inspector that a capture which was cut off may have left open. */
export async function closeInspector(process: JournalProcess, clock: Clock, log: Logger, signal: AbortSignal): Promise<void> {
  if (process.wasInspected || processIdentity(process.pid) !== process.identity) return;
  const ports = new InspectorPorts(process.pid);
  if (ports.candidates().length === 0) return;
  try {
    await withNetwork(process, async (network) => {
      const inspector = await Inspector.open({ ...network, ports: () => ports.candidates(), openedByUs: true }, clock, signal);
      await inspector.close(clock);
    });
    log.info({ pid: process.pid }, "closed the inspector that a capture which was cut off had left open");
  } catch (error) {
    log.warn({ pid: process.pid }, `the inspector that a capture had opened could not be closed: ${messageOf(error)}`);
  }
}

/** Lets `work` reach the process' own loopback. */
async function withNetwork<T>(
  { pid, identity, ownPid }: JournalProcess | FoundProcess,
  work: (target: Omit<InspectedProcess, "ports" | "openedByUs">) => Promise<T>,
): Promise<T> {
  if (processIdentity(pid) !== identity) throw new NightshiftError("NOT_FOUND", "the process is gone, and its memory with it");
  const network = await PodNetwork.of(pid);
  try {
    return await work({ pid, ownPid, connect: (port) => network.connect(port) });
  } finally {
    network.close();
  }
}
