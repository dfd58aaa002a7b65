import { messageOf } from "../../api/errors.ts";
import { timeMs } from "../../api/time.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { ObservedObject, ObservedObjects } from "../../ports/platform.ts";
import type { Random } from "../../ports/random.ts";
import type { BackoffOptions } from "./backoff.ts";
import type { KubeClient } from "./client.ts";
import { KubeApiError } from "./errors.ts";
import type { ObjectMeta } from "./objects.ts";
import { Reflector, type Listed, type ReflectorSink } from "./reflector.ts";

/** How long a kind is followed that nobody asks for any more (ms). */
const IDLE_MS = 300_000;
/** How often it is looked whether a kind is still asked for, and whether one that there is none of has come (ms). */
const LOOK_MS = 30_000;
/** How old what is known may be before it is not known any more (ms): as the platform's own caches have it. */
const MAX_AGE_MS = 180_000;
/** Versions of an object that are kept. */
const MAX_VERSIONS = 32;
/** Longest object that is kept (characters of JSON). */
const MAX_OBJECT_CHARS = 65_536;
/** Longest message of an event that is kept. */
const MAX_MESSAGE = 256;
/** What `kubectl apply` leaves: a copy of all that stands beside it. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** A kind as people name it. */
export interface KindRef {
  readonly apiVersion: string;
  readonly kind: string;
}

interface RawObject extends Listed {
  readonly metadata: ObjectMeta;
}

interface RawEvent extends RawObject {
  readonly involvedObject?: { readonly kind?: string; readonly name?: string; readonly namespace?: string; readonly uid?: string };
  readonly reason?: string;
  readonly message?: string;
  readonly count?: number;
  readonly firstTimestamp?: string | null;
  readonly lastTimestamp?: string | null;
  readonly eventTime?: string | null;
  readonly series?: { readonly count?: number; readonly lastObservedTime?: string } | null;
}

/** What is kept of an object beside its versions. */
interface Kept {
  readonly object: object | undefined;
  readonly owners: readonly string[];
  /** Of a namespace that is not its own: what an event about a node is. */
  readonly isOfNode: boolean;
}

const isEvent = ({ apiVersion, kind }: KindRef): boolean => apiVersion === "v1" && kind === "Event";

function keepObject(raw: RawObject): Kept {
  const { managedFields: _own, annotations, ...metadata } = raw.metadata;
  const { [LAST_APPLIED]: _copy, ...noted } = annotations ?? {};
  const object = { ...raw, metadata: { ...metadata, annotations: noted } };
  const owners = (metadata.ownerReferences ?? []).map(({ uid }) => uid);
  return { object: JSON.stringify(object).length > MAX_OBJECT_CHARS ? undefined : object, owners, isOfNode: false };
}

const time = (text: string | null | undefined): number | undefined => (text === undefined || text === null ? undefined : timeMs(text));

/** What is kept of an event: both the older and the newer way of counting them are read. */
function keepEvent(raw: RawEvent): Kept {
  const made = time(raw.metadata.creationTimestamp) ?? 0;
  const first = time(raw.firstTimestamp) ?? time(raw.eventTime) ?? made;
  const object = {
    reason: raw.reason ?? "",
    message: (raw.message ?? "").slice(0, MAX_MESSAGE),
    count: Math.max(1, raw.series?.count ?? raw.count ?? 1),
    first,
    last: time(raw.series?.lastObservedTime) ?? time(raw.lastTimestamp) ?? first,
  };
  const { uid = "", kind, name = "" } = raw.involvedObject ?? {};
  // The kubelet gives its node's name in the place of a uid.
  return { object, owners: kind === "Node" ? [uid, name] : [uid], isOfNode: kind === "Node" };
}

type Entry = ObservedObject & { readonly isOfNode: boolean };

/** The objects of one kind, with the versions of them that were seen. */
class Versions implements ReflectorSink<RawObject> {
  readonly #clock: Clock;
  readonly #keep: (raw: RawObject) => Kept;
  readonly #objects = new Map<string, Entry>();
  #unseen: Set<string> | undefined;
  /** By namespace, as it was asked for last. */
  #lists = new Map<string, readonly Entry[]>();

  constructor(clock: Clock, keep: (raw: RawObject) => Kept) {
    this.#clock = clock;
    this.#keep = keep;
  }

  /** Those of a namespace; with `ofNodes` also those of none, and events about nodes. */
  list(namespace: string, ofNodes: boolean): readonly Entry[] {
    let list = this.#lists.get(namespace);
    if (list === undefined) {
      list = [...this.#objects.values()].filter((o) => o.namespace === namespace || (ofNodes && (o.namespace === "" || o.isOfNode)));
      this.#lists.set(namespace, list);
    }
    return list;
  }

  startListing(): void {
    this.#unseen = new Set(this.#objects.keys());
  }

  put(raw: RawObject): void {
    const { uid, name, namespace = "", labels = {}, resourceVersion } = raw.metadata;
    this.#unseen?.delete(uid);
    const known = this.#objects.get(uid);
    const { object, owners, isOfNode } = this.#keep(raw);
    const last = known?.versions.at(-1);
    // Told again by a listing.
    if (last !== undefined && this.#seen.get(uid) === resourceVersion) return;
    this.#seen.set(uid, resourceVersion);
    const versions = [...(known?.versions ?? []).slice(1 - MAX_VERSIONS), { seenAt: this.#clock.now(), object }];
    this.#objects.set(uid, { namespace, name, uid, labels, owners, versions, isOfNode });
    this.#lists = new Map();
  }
  readonly #seen = new Map<string, string>();

  delete(raw: RawObject): void {
    this.#remove(raw.metadata.uid);
  }

  endListing(): void {
    for (const uid of this.#unseen ?? []) this.#remove(uid);
    this.#unseen = undefined;
  }

  #remove(uid: string): void {
    this.#objects.delete(uid);
    this.#seen.delete(uid);
    this.#lists = new Map();
  }
}

/** A kind that is followed. */
interface Followed {
  readonly versions: Versions;
  readonly stop: AbortController;
  askedAt: number;
  reflector: Reflector<RawObject> | undefined;
  problem: string;
}

interface ApiResources {
  readonly resources?: readonly { readonly name: string; readonly kind: string; readonly namespaced: boolean }[];
}

/**
 * Objects of kinds that only policies name, and Warning events: each kind is followed from when it is first asked for until it
 * has not been asked for in five minutes. Never more than what the operator's account may read.
 */
export class ResourceWatches {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #nodeNamespace: string;
  readonly #backoff: BackoffOptions | undefined;
  readonly #followed = new Map<string, Followed>();
  readonly #working = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: {
    readonly client: KubeClient;
    readonly clock: Clock;
    readonly random: Random;
    /** Policies of this namespace look at objects that have none, and at events about nodes. */
    readonly nodeNamespace: string;
    readonly backoff?: BackoffOptions | undefined;
  }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#nodeNamespace = options.nodeNamespace;
    this.#backoff = options.backoff;
  }

  /** See `Platform.resources`. */
  ask(of: KindRef, namespace: string): ObservedObjects {
    if (of.kind === "Secret" && of.apiVersion === "v1") return { problem: "Secrets are never read" };
    const key = `${of.apiVersion}/${of.kind}`;
    let followed = this.#followed.get(key);
    if (followed === undefined) {
      const keep = isEvent(of) ? keepEvent : keepObject;
      followed = {
        versions: new Versions(this.#clock, keep),
        stop: new AbortController(),
        askedAt: 0,
        reflector: undefined,
        problem: "they were not read yet",
      };
      this.#followed.set(key, followed);
      const work = this.#follow(of, key, followed).finally(() => this.#working.delete(work));
      this.#working.add(work);
    }
    followed.askedAt = this.#clock.monotonic();
    if (followed.reflector?.hasSynced !== true) return { problem: followed.problem };
    if (!followed.reflector.isFresh(MAX_AGE_MS)) return { problem: `nothing was heard of them for ${MAX_AGE_MS / 1000} s` };
    return followed.versions.list(namespace, namespace === this.#nodeNamespace);
  }

  /** Kinds that are followed now. */
  get kinds(): readonly string[] {
    return [...this.#followed.keys()];
  }

  /** Ends everything; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#working);
  }

  async #follow(of: KindRef, key: string, followed: Followed): Promise<void> {
    const signal = AbortSignal.any([this.#stopping.signal, followed.stop.signal]);
    const watching = this.#untilIdle(key, followed, signal);
    while (!signal.aborted) {
      try {
        const path = await this.#pathOf(of, signal);
        if (path === undefined) followed.problem = `the cluster knows no kind ${of.kind} in ${of.apiVersion}`;
        else {
          followed.reflector = new Reflector<RawObject>({
            client: this.#client,
            clock: this.#clock,
            random: this.#random,
            path,
            ...(isEvent(of) ? { query: { fieldSelector: "type=Warning" } } : {}),
            sink: followed.versions,
            ...(this.#backoff === undefined ? {} : { backoff: this.#backoff }),
            onError: (error) => (followed.problem = problemText(of, error)),
          });
          await followed.reflector.run(signal);
        }
      } catch (error) {
        followed.problem = problemText(of, error);
      }
      await sleep(this.#clock, LOOK_MS, signal);
    }
    await watching;
  }

  async #untilIdle(key: string, followed: Followed, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#clock, LOOK_MS, signal);
      if (this.#clock.monotonic() - followed.askedAt < IDLE_MS) continue;
      followed.stop.abort();
      this.#followed.delete(key);
    }
  }

  /** Path of the kind's collection, as the API server's discovery has it; undefined where there is no such kind. */
  async #pathOf({ apiVersion, kind }: KindRef, signal: AbortSignal): Promise<string | undefined> {
    const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    try {
      const { resources } = await this.#client.request<ApiResources>({ method: "GET", path: base, signal });
      const found = resources?.find((resource) => resource.kind === kind && !resource.name.includes("/"));
      return found === undefined ? undefined : `${base}/${found.name}`;
    } catch (error) {
      if (error instanceof KubeApiError && error.code === "KUBE_NOT_FOUND") return undefined;
      throw error;
    }
  }
}

function problemText({ apiVersion, kind }: KindRef, error: unknown): string {
  if (error instanceof KubeApiError && error.code === "KUBE_FORBIDDEN")
    return `the operator may not read ${kind} of ${apiVersion}: name it in the chart's value watchResources`;
  return messageOf(error);
}
