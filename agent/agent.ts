import { mkdirSync } from "node:fs";
import type { Logger } from "pino";
import type { KubeClient } from "../src/platform/kubernetes/client.ts";
import { Reflector, type ReflectorSink } from "../src/platform/kubernetes/reflector.ts";
import type { Clock } from "../src/ports/clock.ts";
import type { Random } from "../src/ports/random.ts";
import type { ArtifactLimits } from "./artifacts/prune.ts";
import type { ArtifactStore } from "./artifacts/store.ts";
import { Captures } from "./captures/captures.ts";
import type { RemediationObject } from "./captures/request.ts";
import { listen } from "./listener.ts";
import { AgentMetrics } from "./metrics.ts";

/** A watch that has been silent for longer is not ready; see `Reflector.isFresh`. */
const FRESH_MS = 180_000;

/** What the agent is told. */
export interface AgentOptions {
  /** Name of the node that it runs on, as `spec.nodeName` has it. */
  readonly node: string;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly version: string;
  readonly store: ArtifactStore;
  readonly limits: ArtifactLimits;
  /** Of the node, and of this agent alone. */
  readonly stateDir: string;
  /** Where the node's cgroup file system is. */
  readonly cgroupRoot: string;
  /** Where health and metrics are told. */
  readonly listen: { readonly host: string; readonly port: number };
}

/** An agent that runs. */
export interface RunningAgent {
  /** Of its listener. */
  readonly url: string;
  /** Ends it: the capture that runs has `graceMs` to come to its end. */
  stop(graceMs: number): Promise<void>;
}

/** Starts the agent of a node: it watches the episodes that execute, and answers the capture steps of the node's pods. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { node, client, clock, random, log, version, store, limits, stateDir, cgroupRoot } = options;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const metrics = new AgentMetrics(version);
  const captures = new Captures({ node, client, clock, log, metrics, store, limits, stateDir, cgroupRoot });
  const reflector = new Reflector<RemediationObject>({
    client,
    clock,
    random,
    path: "/apis/nightshift.dev/v1alpha1/remediations",
    // What waits for an answer executes: the history of all episodes is not read.
    query: { fieldSelector: "status.phase=Executing" },
    sink: sinkOf(captures),
    onError: (error, retryInMs) => log.warn(`Remediations cannot be watched: ${error.toString()}; again in ${Math.round(retryInMs)} ms`),
  });
  metrics.read(() => ({ ...captures.readings, isSynced: reflector.isFresh(FRESH_MS) }));
  const listener = await listen({
    ...options.listen,
    registry: metrics.registry,
    ready: () =>
      reflector.isFresh(FRESH_MS)
        ? { ok: true, message: "ok" }
        : { ok: false, message: "Remediations are not watched: the API server does not answer" },
  });
  const stopping = new AbortController();
  const watching = reflector.run(stopping.signal);
  return {
    url: listener.url,
    async stop(graceMs) {
      stopping.abort();
      await watching;
      await captures.stop(graceMs);
      await listener.close();
    },
  };
}

/** Tells the captures of every change, and of what is gone when a listing is whole. */
function sinkOf(captures: Captures): ReflectorSink<RemediationObject> {
  const known = new Map<string, RemediationObject>();
  let listed: Set<string> | undefined;
  let isFirst = true;
  return {
    startListing() {
      listed = new Set();
    },
    put(object) {
      known.set(object.metadata.uid, object);
      listed?.add(object.metadata.uid);
      captures.seen(object);
    },
    delete(object) {
      known.delete(object.metadata.uid);
      captures.gone(object);
    },
    endListing() {
      for (const [uid, object] of known) {
        if (listed?.has(uid) === true) continue;
        known.delete(uid);
        captures.gone(object);
      }
      listed = undefined;
      if (isFirst) captures.synced();
      isFirst = false;
    },
  };
}
