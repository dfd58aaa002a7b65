import { dirname } from "node:path";
import { NightshiftError } from "../../api/errors.ts";
import type { Artifact } from "../../api/remediation.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import { ArtifactFile, explained, mebibytes, type Written } from "./artifact-file.ts";
import { Inspector, type InspectedProcess } from "./inspector.ts";

/**
 * Memory that a heap snapshot needs on top of what the process uses, as a multiple of that: V8 builds a graph of all
 * objects and their edges natively, so many small objects cost most. Measured as peak over resident memory: Node 24.21,
 * 3 million small objects 5.7, a Map of 1 million entries 8.7, 200,000 long strings 1.2; Node 20, a Map, 11.6.
 */
export const HEADROOM_FACTOR = 11;
/** Disk that a snapshot needs, as a multiple of the working set: its JSON is somewhat larger than the heap. */
export const DISK_FACTOR = 1.5;
/** A profile needs next to nothing; this much is asked for all the same. */
const PROFILE_BYTES = 32 * 2 ** 20;
const PROFILE_MS = 10_000;
/** Mean distance of two samples of a heap profile, in allocated bytes: V8's own default. */
const SAMPLING_INTERVAL_BYTES = 32_768;
/** A capture of which nothing has been heard for this long has failed. V8 stalls the process while it walks the heap. */
const SILENCE_MS = 90_000;
const PROGRESS_MS = 2_000;

/** Memory that a capture may need on top of the working set, in bytes. */
export function memoryNeed(type: Artifact["type"], workingSet: number): number {
  return type === "HeapSnapshot" ? workingSet * HEADROOM_FACTOR : PROFILE_BYTES;
}

/** Disk that a capture may need, in bytes. */
export function diskNeed(type: Artifact["type"], workingSet: number): number {
  return type === "HeapSnapshot" ? workingSet * DISK_FACTOR : PROFILE_BYTES;
}

/** One capture. */
export interface CaptureRequest {
  readonly process: InspectedProcess;
  readonly type: Artifact["type"];
  /** Final name of its file; see `ArtifactFile`. */
  readonly path: string;
  readonly clock: Clock;
  /** Ends it early. */
  readonly signal: AbortSignal;
  /** How far it is, for people; every two seconds at most. */
  readonly onProgress: (text: string) => void;
}

/**
 * Captures into the partial file and makes it durable; the caller puts the digest on record and commits it.
 * Rejects with `CAPTURE_UNSUPPORTED`, `CAPTURE_NO_SPACE`, `CAPTURE_TIMEOUT` or `CAPTURE_FAILED`; then no file is left.
 */
export async function captureToFile(request: CaptureRequest): Promise<Written> {
  const { clock, signal, path } = request;
  const dir = dirname(path);
  let file: ArtifactFile | undefined;
  try {
    file = new ArtifactFile(path);
    const inspector = await Inspector.open(request.process, clock, signal);
    try {
      await TAKE[request.type](inspector, file, request);
    } finally {
      await inspector.close(clock);
    }
    return await file.finish();
  } catch (error) {
    file?.discard();
    throw explained(error, dir);
  }
}

const TAKE: Readonly<Record<Artifact["type"], (inspector: Inspector, file: ArtifactFile, request: CaptureRequest) => Promise<void>>> = {
  async HeapSnapshot(inspector, file, { clock, signal, onProgress }) {
    let reported = clock.monotonic();
    const onEvent = (method: string, params: Record<string, unknown>): void => {
      if (method === "HeapProfiler.addHeapSnapshotChunk") file.write(String(params["chunk"]));
      if (clock.monotonic() - reported < PROGRESS_MS) return;
      reported = clock.monotonic();
      const walked =
        method === "HeapProfiler.reportHeapSnapshotProgress" ? `, ${String(params["done"])} of ${String(params["total"])} objects` : "";
      onProgress(`${mebibytes(file.bytes)} written${walked}`);
    };
    await inspector.call("HeapProfiler.takeHeapSnapshot", { reportProgress: true }, clock, signal, { timeoutMs: SILENCE_MS, onEvent });
    if (file.bytes === 0) throw new NightshiftError("CAPTURE_FAILED", "the process sent an empty heap snapshot");
  },

  async CpuProfile(inspector, file, { clock, signal }) {
    await inspector.call("Profiler.enable", {}, clock, signal);
    await inspector.call("Profiler.start", {}, clock, signal);
    await sleep(clock, PROFILE_MS, signal);
    const { profile } = await inspector.call("Profiler.stop", {}, clock, signal, { timeoutMs: SILENCE_MS });
    file.write(JSON.stringify(profile));
  },

  async HeapProfile(inspector, file, { clock, signal }) {
    await inspector.call("HeapProfiler.startSampling", { samplingInterval: SAMPLING_INTERVAL_BYTES }, clock, signal);
    await sleep(clock, PROFILE_MS, signal);
    const { profile } = await inspector.call("HeapProfiler.stopSampling", {}, clock, signal, { timeoutMs: SILENCE_MS });
    file.write(JSON.stringify(profile));
  },
};
