import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { NightshiftError, messageOf } from "../../src/api/errors.ts";
import type { Artifact, CaptureRecord } from "../../src/api/remediation.ts";
import { timestamp } from "../../src/api/time.ts";
import { commit, partialOf, tagOf } from "../../src/platform/capture/artifact-file.ts";
import type { KubeClient } from "../../src/platform/kubernetes/client.ts";
import { isNotFound } from "../../src/platform/kubernetes/errors.ts";
import type { Clock } from "../../src/ports/clock.ts";
import { prune, type ArtifactLimits } from "../artifacts/prune.ts";
import { artifactName, type ArtifactStore, type Kept } from "../artifacts/store.ts";
import type { AgentMetrics } from "../metrics.ts";
import { NodeCgroups } from "../process/cgroups.ts";
import { findNodeProcess, type PodContainer } from "../process/find.ts";
import { processesOfPod } from "../process/pod.ts";
import { Answers } from "./answers.ts";
import { Journal, type JournalEntry } from "./journal.ts";
import { RaisedLimits } from "./limits.ts";
import { closeInspector, prepare } from "./process-capture.ts";
import { answerTo, captureRequests, type CaptureRequest, type RemediationObject } from "./request.ts";

/** How often progress is told in the Remediation at most: each telling is a write that the operator's own writes meet. */
const PROGRESS_MS = 10_000;
/** How often raised limits are looked at, and artifacts. */
const RESTORE_MS = 10_000;
const PRUNE_MS = 600_000;
/** How long the agent takes for what an earlier one left: an upload, an inspector to close. */
const RECOVERY_MS = 300_000;
/** How long the last answers may take when the agent stops. */
const LAST_WORD_MS = 5_000;

/** What captures need. */
export interface CapturesOptions {
  readonly node: string;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: AgentMetrics;
  readonly store: ArtifactStore;
  readonly limits: ArtifactLimits;
  /** What must outlive the agent, and is the node's own. */
  readonly stateDir: string;
  /** Where the node's `/sys/fs/cgroup` is mounted. */
  readonly cgroupRoot: string;
}

interface Job {
  readonly request: CaptureRequest;
  /** Taken up by an earlier agent of this node. */
  readonly isResumed: boolean;
  readonly abort: AbortController;
  readonly startedAt: string;
}

interface Outcome {
  readonly artifact: Artifact;
  readonly message: string;
}

interface Pod {
  readonly metadata: { readonly uid: string };
  readonly spec: { readonly nodeName?: string };
  readonly status?: { readonly containerStatuses?: readonly PodContainer[]; readonly initContainerStatuses?: readonly PodContainer[] };
}

/**
 * Answers the capture steps of pods on this node: at most one answer for each effect, whatever is delivered twice or dies.
 *
 * What is done is on disk before it is done: taken up, begun, captured, kept. After a crash what was only taken up is done;
 * what was begun is not done again, as nobody knows what the process has been through; what is whole is kept and told.
 */
export class Captures {
  readonly #o: CapturesOptions;
  readonly #answers: Answers;
  readonly #journal: Journal;
  readonly #raised: RaisedLimits;
  readonly #cgroups: NodeCgroups | undefined;
  /** By effect. One capture at a time: the node's free memory was looked at for one. */
  readonly #jobs = new Map<string, Job>();
  /** Effects that are over here, until their episode is. */
  readonly #over = new Map<string, string>();
  readonly #stopping = new AbortController();
  /** Aborts when even the last answers have had their time. */
  readonly #lastWord = new AbortController();
  readonly #cancel: (() => void)[] = [];
  #queue: Promise<void> = Promise.resolve();
  #kept: readonly Kept[] = [];

  constructor(options: CapturesOptions) {
    this.#o = options;
    this.#answers = new Answers(options.client, options.clock);
    this.#journal = new Journal(options.stateDir);
    this.#raised = new RaisedLimits(options.stateDir, options.log);
    this.#cgroups = NodeCgroups.open(options.cgroupRoot);
    if (this.#cgroups === undefined)
      options.log.warn(
        { path: options.cgroupRoot },
        "the node's memory cgroups are not there: heap snapshots will be refused for want of known headroom",
      );
    this.#every(RESTORE_MS, async () => this.#raised.restore());
    this.#every(PRUNE_MS, () => this.#prune());
    this.#enqueue(() => this.#prune());
  }

  /** For metrics. */
  get readings(): { readonly running: number; readonly raisedLimits: number; readonly keptBytes: number; readonly kept: number } {
    return {
      running: this.#jobs.size,
      raisedLimits: this.#raised.count,
      keptBytes: this.#kept.reduce((sum, { bytes }) => sum + bytes, 0),
      kept: this.#kept.length,
    };
  }

  /** An episode that executes is as it is here. */
  seen(remediation: RemediationObject): void {
    if (this.#stopping.signal.aborted) return;
    const requests = captureRequests(remediation);
    this.#abortOthers(remediation, new Set(requests.map(({ effectId }) => effectId)));
    for (const request of requests) {
      const { effectId, replica } = request;
      if (this.#jobs.has(effectId) || this.#over.has(effectId)) continue;
      const answer = answerTo(remediation, effectId);
      const isOurs = answer?.state === "Running" && answer.node === this.#o.node;
      if (isOurs || (answer === undefined && processesOfPod(replica.uid).length > 0))
        this.#begin(request, isOurs, answer?.startedAt ?? timestamp(this.#o.clock.now()));
    }
  }

  /** An episode no longer executes, or is gone. */
  gone(remediation: RemediationObject): void {
    this.#abortOthers(remediation, new Set());
    for (const [effectId, uid] of this.#over) if (uid === keyOf(remediation)) this.#over.delete(effectId);
  }

  /** Every episode that executes has been seen: what is left in the journal belongs to episodes that no longer do. */
  synced(): void {
    for (const entry of this.#journal.all())
      if (entry.state !== "Kept" && !this.#jobs.has(entry.effectId)) this.#enqueue(() => this.#abandonLeft(entry));
  }

  /** Waits `graceMs` for the capture that runs, and cuts it off then; resolves once the last answer is written or has had its time. */
  async stop(graceMs: number): Promise<void> {
    for (const cancel of this.#cancel) cancel();
    this.#stopping.abort();
    const cut = this.#o.clock.after(graceMs, () => {
      for (const { abort } of this.#jobs.values()) abort.abort(new NightshiftError("CAPTURE_INTERRUPTED", "the agent was stopped"));
    });
    const last = this.#o.clock.after(graceMs + LAST_WORD_MS, () => this.#lastWord.abort());
    await this.#queue;
    cut();
    last();
    this.#raised.restore();
  }

  // ---- one at a time -------------------------------------------------------------------------------------------

  #begin(request: CaptureRequest, isResumed: boolean, startedAt: string): void {
    const abort = new AbortController();
    const { effectId, timeoutMs } = request;
    const cancel = this.#o.clock.after(timeoutMs, () =>
      abort.abort(new NightshiftError("CAPTURE_TIMEOUT", `not done in the ${timeoutMs / 1000} s that the step has`)),
    );
    const job: Job = { request, isResumed, abort, startedAt };
    this.#jobs.set(effectId, job);
    this.#enqueue(() =>
      this.#run(job).finally(() => {
        cancel();
        this.#jobs.delete(effectId);
      }),
    );
  }

  #abortOthers(remediation: RemediationObject, wanted: ReadonlySet<string>): void {
    for (const [effectId, { request, abort }] of this.#jobs)
      if (!wanted.has(effectId) && keyOf(remediation) === `${request.remediation.namespace}/${request.remediation.name}`)
        abort.abort(new NightshiftError("CAPTURE_INTERRUPTED", "the step was over before the capture was"));
  }

  #enqueue(work: () => Promise<void>): void {
    this.#queue = this.#queue.then(work).catch((error: unknown) => {
      this.#o.log.error({ error: messageOf(error) }, "a capture's bookkeeping failed");
    });
  }

  #every(ms: number, work: () => Promise<void>): void {
    const index = this.#cancel.length;
    const again = (): void => {
      this.#cancel[index] = this.#o.clock.after(
        ms,
        () => {
          this.#enqueue(work);
          again();
        },
        { background: true },
      );
    };
    again();
  }

  // ---- one capture ---------------------------------------------------------------------------------------------

  async #run(job: Job): Promise<void> {
    const { clock, log, metrics } = this.#o;
    const { effectId, remediation, replica, capture } = job.request;
    const begun = clock.monotonic();
    const known = this.#journal.get(effectId);
    // An agent that stops takes nothing up.
    if (!job.isResumed && this.#stopping.signal.aborted) return;
    if (!job.isResumed && !(await this.#claim(job))) return;
    const [end, result] = await this.#outcome(job, known).then(
      ({ artifact, message }) => [{ state: "Done" as const, message, artifact }, "Done"] as const,
      (error: unknown) =>
        [{ state: "Failed" as const, message: messageOf(error) }, error instanceof NightshiftError ? error.code : "INTERNAL"] as const,
    );
    log[end.state === "Done" ? "info" : "warn"]({ effect: effectId, pod: replica.name }, `capture of ${replica.name}: ${end.message}`);
    metrics.captureEnded(capture?.type ?? "Unknown", result, (clock.monotonic() - begun) / 1000);
    await this.#answer(remediation, effectId, end);
    this.#over.set(effectId, `${remediation.namespace}/${remediation.name}`);
  }

  /** Takes the capture up before the eyes of all. False when another has, or it is no longer wanted. */
  async #claim({ request, abort, startedAt }: Job): Promise<boolean> {
    const { node } = this.#o;
    const { effectId, remediation } = request;
    this.#journal.put({ effectId, remediation, state: "Claimed" });
    const stored = await this.#answers.write(
      remediation,
      effectId,
      (current, newest) =>
        current === undefined && captureRequests(newest).some((wanted) => wanted.effectId === effectId)
          ? { effectId, state: "Running", node, startedAt }
          : undefined,
      abort.signal,
    );
    const answer = stored === undefined ? undefined : answerTo(stored, effectId);
    if (answer?.state === "Running" && answer.node === node && answer.startedAt === startedAt) return true;
    // The write may have gone through, and only its answer been cut off.
    await this.#answer(remediation, effectId, { state: "Failed", message: messageOf(abort.signal.reason ?? "it was no longer wanted") });
    return false;
  }

  async #outcome(job: Job, known: JournalEntry | undefined): Promise<Outcome> {
    const { signal } = job.abort;
    switch (known?.state) {
      case "Kept":
        return known;
      case "Captured":
        return this.#keep(known, signal);
      case "Begun":
        await this.#cleanUp(known, signal);
        throw interrupted();
      case "Claimed":
        return this.#capture(job);
      case undefined:
        // What the node remembered is lost: nobody knows how far it was.
        if (job.isResumed) throw interrupted();
        return this.#capture(job);
    }
  }

  async #capture({ request, abort: { signal } }: Job): Promise<Outcome> {
    const { store, clock, log } = this.#o;
    const { effectId, remediation, replica, capture } = request;
    if (capture === undefined)
      throw new NightshiftError("CAPTURE_UNSUPPORTED", "this agent does not know what is to be captured", {
        fix: "Bring the agent to the operator's version.",
      });
    const containers = await this.#containers(request, signal);
    const found = findNodeProcess(processesOfPod(replica.uid), containers, capture.container);
    const prepared = prepare(found, this.#cgroups?.levels(found, replica.uid), capture, store.dir, { clock, log, limits: this.#raised });
    try {
      signal.throwIfAborted();
      const file = join(store.dir, artifactName(effectId, replica.name, prepared.type));
      this.#journal.put({ effectId, remediation, state: "Begun", process: prepared.process, file });
      const written = await prepared.take(file, signal, this.#progress(request, signal));
      const entry: JournalEntry = {
        effectId,
        remediation,
        state: "Captured",
        file,
        artifact: { type: prepared.type, path: file, node: this.#o.node, ...written, replica, capturedAt: timestamp(clock.now()) },
        message: [`captured ${found.container === undefined ? "" : `container ${found.container} of `}${replica.name}`, prepared.note]
          .filter((part) => part !== undefined)
          .join("; "),
      };
      // The digest first: a file that has its final name is known to be whole.
      this.#journal.put(entry);
      commit(file);
      prepared.release();
      return await this.#keep(entry, signal);
    } catch (error) {
      // What is under way ends with its own error; why it was cut off says more.
      throw signal.aborted ? signal.reason : error;
    } finally {
      prepared.release();
    }
  }

  /** The pod's containers, when it is this node's and the one that is meant. */
  async #containers({ replica }: CaptureRequest, signal: AbortSignal): Promise<PodContainer[]> {
    const path = `/api/v1/namespaces/${encodeURIComponent(replica.namespace)}/pods/${encodeURIComponent(replica.name)}`;
    const pod = await this.#o.client.request<Pod>({ method: "GET", path, signal }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (pod === undefined || pod.metadata.uid !== replica.uid || pod.spec.nodeName !== this.#o.node)
      throw new NightshiftError("NOT_FOUND", `the pod ${replica.name} is gone, and its memory with it`);
    return [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
  }

  #progress({ remediation, effectId, replica }: CaptureRequest, signal: AbortSignal): (text: string) => void {
    const { clock, log } = this.#o;
    let told = clock.monotonic();
    return (progress) => {
      log.info({ effect: effectId }, `capturing ${replica.name}: ${progress}`);
      if (clock.monotonic() - told < PROGRESS_MS) return;
      told = clock.monotonic();
      const running = (current: CaptureRecord | undefined): CaptureRecord | undefined =>
        current?.state === "Running" ? { ...current, progress } : undefined;
      this.#answers
        .write(remediation, effectId, running, signal)
        .catch((error: unknown) => log.warn(`progress was not told: ${messageOf(error)}`));
    };
  }

  /** Hands a whole file to the store. */
  async #keep(entry: Extract<JournalEntry, { state: "Captured" }>, signal: AbortSignal): Promise<Outcome> {
    const { store, limits } = this.#o;
    const { effectId, remediation, file, artifact, message } = entry;
    if (sizeOf(file) === undefined && sizeOf(partialOf(file)) === artifact.bytes) commit(file);
    const path = await store.keep({ path: file, bytes: artifact.bytes, sha256: artifact.sha256 }, signal);
    const expiresAt = timestamp(Date.parse(artifact.capturedAt) + limits.ttlMs);
    const kept: JournalEntry = {
      effectId,
      remediation,
      state: "Kept",
      artifact: { ...artifact, path, expiresAt },
      message: `${message}: ${path}`,
    };
    this.#journal.put(kept);
    this.#enqueue(() => this.#prune());
    return kept;
  }

  async #answer(
    episode: CaptureRequest["remediation"],
    effectId: string,
    end: Pick<CaptureRecord, "state" | "message" | "artifact">,
  ): Promise<void> {
    const { clock, node } = this.#o;
    const endedAt = timestamp(clock.now());
    const stored = await this.#answers.write(
      episode,
      effectId,
      (current) => (current?.state === "Running" && current.node === node ? withoutProgress({ ...current, ...end, endedAt }) : undefined),
      this.#lastWord.signal,
    );
    // The next agent says it from the journal.
    if (stored === undefined && this.#lastWord.signal.aborted) return;
    if (end.state === "Failed") this.#discard(effectId);
  }

  // ---- what an earlier agent left ------------------------------------------------------------------------------

  /** The episode has gone on without an answer: what there is of the capture is told all the same, and nothing begins. */
  async #abandonLeft(entry: JournalEntry): Promise<void> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(RECOVERY_MS)]);
    const end = await (
      entry.state === "Captured"
        ? this.#keep(entry, signal).then(({ artifact, message }) => ({ state: "Done" as const, artifact, message }))
        : this.#cleanUp(entry, signal).then(() => Promise.reject(interrupted()))
    ).catch((error: unknown) => ({ state: "Failed" as const, message: messageOf(error) }));
    this.#o.log.warn({ effect: entry.effectId }, `a capture that an earlier agent left: ${end.message}`);
    await this.#answer(entry.remediation, entry.effectId, end);
  }

  async #cleanUp(entry: JournalEntry, signal: AbortSignal): Promise<void> {
    if (entry.state === "Begun") await closeInspector(entry.process, this.#o.clock, this.#o.log, signal);
    this.#raised.restore();
  }

  /** Removes every trace of a capture that came to nothing. */
  #discard(effectId: string): void {
    const { dir } = this.#o.store;
    for (const file of readdirSync(dir)) if (file.includes(tagOf(effectId))) rmSync(join(dir, file), { force: true });
    this.#journal.delete(effectId);
  }

  async #prune(): Promise<void> {
    const { store, limits, clock, log, metrics } = this.#o;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(60_000)]);
    const entries = this.#journal.all().filter((entry) => entry.state === "Kept");
    const expiry = new Map(entries.map(({ artifact }) => [artifact.path, Date.parse(artifact.expiresAt ?? "")]));
    try {
      this.#kept = await prune(
        store,
        limits,
        clock.now(),
        (path) => expiry.get(path),
        (artifact, why) => {
          metrics.artifactDeleted(why);
          log.info({ path: artifact.path }, `deleted ${artifact.path}: ${why === "Expired" ? "it has expired" : "others need the room"}`);
        },
        signal,
      );
    } catch (error) {
      log.warn(`artifacts could not be looked through: ${messageOf(error)}`);
      return;
    }
    const left = new Set(this.#kept.map(({ path }) => path));
    for (const { effectId, artifact } of entries) if (!left.has(artifact.path)) this.#journal.delete(effectId);
  }
}

function interrupted(): NightshiftError {
  return new NightshiftError("CAPTURE_INTERRUPTED", "the agent on the node ended during the capture; what there was of it is removed");
}

function keyOf({ metadata }: RemediationObject): string {
  return `${metadata.namespace ?? "default"}/${metadata.name}`;
}

function withoutProgress({ progress: _over, ...entry }: CaptureRecord): CaptureRecord {
  return entry;
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}
