import type { Logger } from "pino";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import { OBJECT_CONDITIONS, type ObjectCondition } from "../../api/policy.ts";
import type { Matchable } from "../../api/targets.ts";
import { timestamp } from "../../api/time.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType, ObservedObjects, Platform, Workload } from "../../ports/platform.ts";
import type { Random } from "../../ports/random.ts";
import type { ActionCaller } from "../actions.ts";
import { applyStatement } from "./apply.ts";
import type { BackoffOptions } from "./backoff.ts";
import { Caches } from "./caches.ts";
import { ConfigMapVersions } from "./config-maps.ts";
import type { KubeClient } from "./client.ts";
import { Effects, HANDLERS } from "./effects/index.ts";
import { MARKS } from "./marks.ts";
import { PROTECTED_NAMESPACES } from "./protected.ts";
import { type KindRef, ResourceWatches } from "./resource-watch.ts";
import { ClusterView, type HealthyRevision } from "./view.ts";

/**
 * How old what the caches say may be before nothing is begun on it (ms). In a quiet collection only the API server's
 * bookmarks prove that nothing has changed: about one a minute, the first of a watch up to two minutes after its beginning
 * (measured on 1.37). Whatever is begun writes to the API server first, bound to what it read there, so that one which
 * cannot be reached stops it at once.
 */
const MAX_AGE_MS = 180_000;
/** How often healthy revisions are marked (ms). */
const MARK_EVERY_MS = 60_000;
/** How many revisions are marked at a time: after an installation there are many, and there is no hurry. */
const MARKS_AT_ONCE = 50;

/** What the platform of a cluster is made with. */
export interface KubernetesOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** See `EffectDeps`. */
  readonly epoch: () => number;
  /** Workloads of these namespaces only, and no nodes unless Nightshift's own is one of them. Default: all. */
  readonly namespaces?: readonly string[];
  /** Namespace that nodes belong to, as targets: Nightshift's own. Default `nightshift-system`. */
  readonly nodeNamespace?: string;
  /** Namespaces in which nothing is touched: a drain leaves their pods. Default: `PROTECTED_NAMESPACES`. */
  readonly protectedNamespaces?: readonly string[];
  /**
   * Whether the healthy revisions of a workload are marked as such (`nightshift.dev/healthy-since`), so that the next leader
   * knows them too. That is a write, so it is for workloads that a policy may roll back. Default: none.
   */
  readonly marksHealthy?: (workload: Matchable) => boolean;
  /** Asks pods for actions. Default: they cannot be asked. */
  readonly actions?: ActionCaller | undefined;
  /** Whether versions of ConfigMaps are followed, as changes of the workloads that are given them. Default: no, as their right covers what is in them. */
  readonly followsConfigMaps?: boolean;
  readonly backoff?: BackoffOptions;
}

/** A Kubernetes cluster: its workloads and nodes as the caches have them, and what can be done with them. */
export class KubernetesPlatform implements Platform {
  readonly name = "kubernetes";
  readonly reports: ReadonlySet<ObjectCondition> = new Set(OBJECT_CONDITIONS);
  readonly effects: ReadonlySet<EffectType>;
  readonly #o: KubernetesOptions;
  readonly #caches: Caches;
  readonly #configMaps: ConfigMapVersions | undefined;
  readonly #view: ClusterView;
  readonly #resources: ResourceWatches;
  readonly #carryOut: Effects;
  readonly #stopping = new AbortController();
  #working: Promise<unknown> = Promise.resolve();
  /** What `workloads` has filtered, and what that was made of. */
  #filtered: { readonly of: readonly Workload[]; readonly workloads: readonly Workload[] } | undefined;

  constructor(options: KubernetesOptions) {
    const { client, clock, random, log, epoch, nodeNamespace = "nightshift-system", backoff } = options;
    const protectedNamespaces = new Set(options.protectedNamespaces ?? PROTECTED_NAMESPACES);
    this.#o = options;
    const types = Object.keys(HANDLERS) as EffectType[];
    this.effects = new Set(options.actions === undefined ? types.filter((type) => type !== "InvokeAction") : types);
    this.#caches = new Caches({
      client,
      clock,
      random,
      onError: (kind, error, retryInMs) => log.warn({ kind, retryInMs }, `the ${kind}s cannot be followed: ${messageOf(error)}`),
      onUnreadable: (kind, name, error) => log.warn({ kind, name }, `${kind} ${name} cannot be read: ${messageOf(error)}`),
      ...(backoff === undefined ? {} : { backoff }),
    });
    const retries = backoff === undefined ? {} : { backoff };
    this.#configMaps =
      options.followsConfigMaps === true
        ? new ConfigMapVersions({
            client,
            clock,
            random,
            onError: (error, retryInMs) => log.warn({ retryInMs }, `the ConfigMaps cannot be followed: ${messageOf(error)}`),
            ...retries,
          })
        : undefined;
    this.#view = new ClusterView({ tables: this.#caches.tables, clock, nodeNamespace, configMaps: this.#configMaps });
    this.#resources = new ResourceWatches({ client, clock, random, nodeNamespace, backoff });
    this.#carryOut = new Effects({ client, view: this.#view, clock, epoch, protectedNamespaces, actions: options.actions }, random);
  }

  /** Begins to follow the cluster; resolves when everything that exists has been read. Rejects when `signal` aborts first. */
  async start(signal: AbortSignal): Promise<void> {
    const ends = AbortSignal.any([signal, this.#stopping.signal]);
    // Nothing waits for ConfigMaps: what is not known of them is told of as no change.
    this.#working = Promise.all([this.#caches.run(ends), this.#configMaps?.run(ends), this.#markHealthy(ends)]);
    const aborted = new Promise<never>((_resolve, reject) => {
      const end = (): void => reject(new NightshiftError("STOPPED", "stopped before the cluster was read"));
      if (ends.aborted) end();
      else ends.addEventListener("abort", end, { once: true });
    });
    await Promise.race([this.#caches.synced, aborted]);
  }

  /** Cuts off what is under way, and resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#resources.stop();
    await this.#carryOut.close();
    await this.#working;
  }

  workloads(): readonly Workload[] {
    const all = this.#view.workloads();
    const { namespaces } = this.#o;
    if (namespaces === undefined) return all;
    if (this.#filtered?.of !== all)
      this.#filtered = { of: all, workloads: all.filter((workload) => namespaces.includes(workload.ref.namespace)) };
    return this.#filtered.workloads;
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    return this.#view.onChange((workload) => {
      if (this.#o.namespaces?.includes(workload.namespace) !== false) listener(workload);
    });
  }

  resources(of: KindRef, namespace: string): ObservedObjects {
    const objects = this.#resources.ask(of, namespace);
    if ("problem" in objects || of.kind !== "Event") return objects;
    // An event about a ReplicaSet is about its Deployment, and a kubelet's about its node.
    return objects.map((event) => ({ ...event, owners: [...event.owners, ...event.owners.flatMap((uid) => this.#view.aboutWhom(uid))] }));
  }

  async apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    // Asked again here: the caches may have fallen behind since the step was decided.
    const staleness = this.staleness();
    if (staleness !== undefined) throw new NightshiftError("STALE_VIEW", staleness);
    return this.#carryOut.apply(effect, signal);
  }

  observe(effect: Effect): Promise<EffectState> {
    return this.#carryOut.observe(effect);
  }

  /** Whether what is known of the cluster is up to date (design rule S13). */
  fresh(): boolean {
    return this.#caches.isFresh(MAX_AGE_MS);
  }

  staleness(): string | undefined {
    if (!this.fresh())
      return `nothing was heard of the API server for more than ${MAX_AGE_MS / 1000} s: what is known of the cluster may be out of date`;
    const owed = this.#view.owed();
    if (owed.length === 0) return undefined;
    return `what was written to a ${owed.join(" and a ")} has not been heard of again: what is known of the cluster is out of date`;
  }

  async #markHealthy(signal: AbortSignal): Promise<void> {
    const { marksHealthy, clock, log } = this.#o;
    if (marksHealthy === undefined) return;
    while (!signal.aborted) {
      await sleep(clock, MARK_EVERY_MS, signal);
      if (signal.aborted || !this.fresh()) continue;
      let marked = 0;
      for (const revision of this.#view.unmarkedHealthy()) {
        if (marked >= MARKS_AT_ONCE) break;
        if (!marksHealthy(revision.workload)) continue;
        marked += 1;
        try {
          await this.#mark(revision, signal);
        } catch (error) {
          // Another leads, or the revision has changed: the next round sees.
          log.debug(`${revision.kind} ${revision.namespace}/${revision.name} was not marked as healthy: ${messageOf(error)}`);
          break;
        }
      }
    }
  }

  async #mark({ kind, namespace, name, uid, resourceVersion, since }: HealthyRevision, signal: AbortSignal): Promise<void> {
    const annotations = { [MARKS.epoch]: String(this.#o.epoch()), [MARKS.healthySince]: timestamp(since) };
    await applyStatement(this.#o.client, kind, { namespace, name, uid, resourceVersion }, { metadata: { annotations } }, signal);
  }
}
