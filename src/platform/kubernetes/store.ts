import { isDeepStrictEqual } from "node:util";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { API_VERSION, CLUSTER_SCOPED, KINDS, type Kind } from "../../api/meta.ts";
import { isSettled, type Remediation } from "../../api/remediation.ts";
import type { Resource, ResourceOf } from "../../api/resources.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { Store, WatchEvent } from "../../ports/store.ts";
import { admitUpdate, assertNew, describeKey, resourceKey, validated } from "../admission.ts";
import { ResourceCache } from "../resource-cache.ts";
import type { BackoffOptions } from "./backoff.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { isConflict, isNotFound, KubeApiError } from "./errors.ts";
import { Gate } from "./gate.ts";
import { FIELD_MANAGER, MARKS } from "./marks.ts";
import { Reflector } from "./reflector.ts";
import { storeError } from "./store-errors.ts";
import { collectionOf, listAll, pathOf, readResource, writtenResource, type RawResource } from "./store-objects.ts";
import { StoreSink } from "./store-sink.ts";

/** What has not been heard of for this long is stale (ms). The API server's bookmarks come about once a minute. */
const STALE_MS = 150_000;
/** Episodes that are stamped at once when a leader begins. */
const STAMPS = 16;
/** Times that the first status of a new episode is tried, when somebody else writes to it in between. */
const STATUS_TRIES = 3;
/** Times that an object is read while everything is listed again and again. */
const READS = 3;

export interface KubernetesStoreOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  /** The epoch that Remediations are written under. Throws `NOT_LEADER` when this process may not write. */
  readonly epoch: () => number;
  /** Namespaces to look at. Default: all. */
  readonly namespaces?: readonly string[];
  /** Told of what goes wrong by itself and is tried again, and of objects that cannot be read. */
  readonly onError: (message: string) => void;
  /** How reflectors rest after failures. Default: as client-go. */
  readonly backoff?: BackoffOptions;
}

/** A part of the resources that is followed as one: a kind, or a kind in a namespace. */
interface Part {
  readonly kind: Kind;
  readonly namespace: string | undefined;
  readonly sink: StoreSink;
  readonly reflector: Reflector<RawResource>;
}

/**
 * Resources as custom resources of a Kubernetes cluster. Reads come from memory, kept in step by watches; what was
 * written here is there at once. After a conflict the newest state has been read, so that `get` returns it.
 */
export class KubernetesStore implements Store {
  readonly #client: KubeClient;
  readonly #epoch: () => number;
  readonly #cache = new ResourceCache();
  readonly #parts: readonly Part[];
  readonly #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #isReady = false;

  constructor(options: KubernetesStoreOptions) {
    const { client, clock, random, epoch, namespaces, onError, backoff } = options;
    this.#client = client;
    this.#epoch = epoch;
    const gate = new Gate(2);
    this.#parts = KINDS.flatMap((kind) =>
      (namespaces === undefined || CLUSTER_SCOPED.has(kind) ? [undefined] : namespaces).map((namespace): Part => {
        const sink = new StoreSink(this.#cache, kind, {
          error: onError,
          doubt: (about) =>
            void this.#read(kind, about.namespace, about.name, about.uid).catch((error: unknown) => onError(messageOf(error))),
        });
        const reflector = new Reflector<RawResource>({
          client,
          clock,
          random,
          path: collectionOf(kind, namespace),
          sink,
          gate,
          onError: (error: KubeApiError, ms) => onError(`${kind}: ${error.toString()} (again in ${Math.round(ms)} ms)`),
          ...(backoff === undefined ? {} : { backoff }),
        });
        return { kind, namespace, sink, reflector };
      }),
    );
  }

  /** Follows every kind until `signal` aborts; resolves once everything that exists has been read. */
  async start(signal: AbortSignal): Promise<void> {
    const ends = AbortSignal.any([signal, this.#stop.signal]);
    this.#running = Promise.all(this.#parts.map(({ reflector }) => reflector.run(ends)));
    const aborted = new Promise<void>((resolve) => {
      if (ends.aborted) resolve();
      else ends.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([Promise.all(this.#parts.map(({ reflector }) => reflector.synced)), aborted]);
    this.#isReady = !ends.aborted;
  }

  /** Ends every watch, and resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#isReady = false;
    this.#stop.abort();
    await this.#running;
    this.#cache.close();
  }

  /** What has not been heard of for too long, in a sentence; undefined when everything is fresh. */
  staleness(): string | undefined {
    const stale = this.#parts.filter(({ reflector }) => !reflector.isFresh(STALE_MS));
    return stale.length === 0
      ? undefined
      : `the API server has not been heard of for ${STALE_MS / 1000} s about ${[...new Set(stale.map(({ kind }) => kind))].join(", ")}`;
  }

  /** The highest epoch that any Remediation carries; 0 where none does. A new Lease must not begin below it. */
  usedEpoch(): number {
    return this.#cache.list("Remediation").reduce((highest, { status }) => Math.max(highest, status.epoch ?? 0), 0);
  }

  /**
   * Makes every episode that is not over this leader's: its status carries the epoch afterwards, and the CRD's rule then
   * refuses what a deposed leader may still want to write. To be called before anything else is done as leader.
   * @throws NightshiftError `NOT_LEADER` when another has taken over meanwhile, or `STORE_UNAVAILABLE`.
   */
  async takeover(): Promise<void> {
    this.#assertReady();
    for (const part of this.#parts.filter(({ kind }) => kind === "Remediation")) {
      const listed = await this.#list(part);
      const next = listed.values();
      // Each takes the next one until none is left.
      const stampAll = async (): Promise<void> => {
        for (const raw of next) await this.#takeOver(raw);
      };
      await Promise.all(Array.from({ length: STAMPS }, stampAll));
    }
  }

  async get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    this.#assertReady();
    return this.#cache.get(kind, resourceKey(kind, namespace, name));
  }

  async list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]> {
    this.#assertReady();
    return this.#cache.list(kind, namespace);
  }

  async create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    assertNew(copy);
    const { kind } = object;
    const { name, namespace, labels, annotations } = copy.metadata;
    this.#assertMayWrite(kind);
    const { status, ...rest } = { status: undefined, ...copy };
    return this.#attempt(kind, namespace, name, "Whole", async () => {
      // An episode is begun by who leads: an admission policy looks at the annotation.
      const noted = kind === "Remediation" ? { ...annotations, [MARKS.epoch]: String(this.#epoch()) } : annotations;
      const metadata = { name, namespace, ...(labels && { labels }), ...(noted && { annotations: noted }) };
      const body = writtenResource({ ...rest, metadata } as Resource, undefined);
      const created = await this.#request<RawResource>({ method: "POST", path: collectionOf(kind, namespace), body });
      return status === undefined ? created : this.#firstStatus(kind, created, status);
    });
  }

  async update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    const { kind } = object;
    const { name, namespace, resourceVersion = "" } = copy.metadata;
    this.#assertMayWrite(kind);
    let current: ResourceOf[K] | undefined = this.#cache.get(kind, resourceKey(kind, namespace, name));
    if (current?.metadata.resourceVersion !== resourceVersion) current = await this.#refresh(kind, namespace, name);
    const next: ResourceOf[K] = admitUpdate<ResourceOf[K]>(
      () => current,
      copy,
      () => resourceVersion,
    );
    if (next === current) return next;
    const content = ({ spec, metadata: { labels, annotations } }: Resource): unknown => ({ spec, labels, annotations });
    const isObject = current === undefined || !isDeepStrictEqual(content(next), content(current));
    const status = statusOf(next);
    return this.#attempt(kind, namespace, name, "AsItComes", async (sink, key) => {
      let raw: RawResource | undefined;
      if (isObject) {
        const body = writtenResource(next, sink.foreign(key));
        raw = await this.#request<RawResource>({ method: "PUT", path: pathOf(kind, namespace, name), body });
      }
      const isStatus = status !== undefined && (current === undefined || !isDeepStrictEqual(status, statusOf(current)));
      if (isStatus) return this.#putStatus(kind, raw?.metadata ?? next.metadata, status);
      if (raw !== undefined) return raw;
      throw new NightshiftError("INVALID", `${describeKey(kind, namespace, name)}: a status is never taken away`);
    });
  }

  async delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): Promise<void> {
    this.#assertMayWrite(kind);
    const { sink } = this.#partOf(kind, namespace);
    const key = resourceKey(kind, namespace, name);
    const uid = this.#cache.get(kind, key)?.metadata.uid;
    const body = { propagationPolicy: "Background", ...(resourceVersion === undefined ? {} : { preconditions: { resourceVersion } }) };
    sink.begin(key);
    let answer: RawResource & { readonly kind?: string; readonly details?: { readonly uid?: string } };
    try {
      answer = await this.#request<typeof answer>({ method: "DELETE", path: pathOf(kind, namespace, name), body });
    } catch (error) {
      sink.failed(key);
      throw await this.#explained(error, kind, namespace, name);
    }
    const gone = answer.details?.uid ?? uid;
    let isDoubtful = false;
    // What has finalizers stays until they are done.
    if (answer.kind !== "Status") isDoubtful = sink.answered(answer);
    else if (gone === undefined) sink.failed(key);
    else isDoubtful = sink.gone(key, gone);
    if (isDoubtful) await this.#catchUp(kind, namespace, name);
  }

  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<WatchEvent<K>> {
    this.#assertReady();
    return this.#cache.watch(kind, signal);
  }

  #assertReady(): void {
    if (!this.#isReady) throw new NightshiftError("STORE_UNAVAILABLE", "the store has not read what exists yet, or is closed");
  }

  /** Episodes are written by the leader only; people's resources by whoever may. */
  #assertMayWrite(kind: Kind): void {
    this.#assertReady();
    if (kind === "Remediation") this.#epoch();
  }

  #partOf(kind: Kind, namespace: string): Part {
    const part = this.#parts.find((p) => p.kind === kind && (p.namespace === undefined || p.namespace === namespace));
    if (part !== undefined) return part;
    throw new NightshiftError("INVALID", `${describeKey(kind, namespace, "*")}: this namespace is not followed`, {
      fix: "Add it to the namespaces that Nightshift looks at.",
    });
  }

  #request<T>(request: KubeRequest): Promise<T> {
    const query =
      request.method === "POST" || request.method === "PUT" || request.method === "PATCH" ? { fieldManager: FIELD_MANAGER } : {};
    return this.#client.request<T>({ ...request, query: { ...query, ...request.query } });
  }

  /** The newest state of an object, read from the API server and put into the cache. */
  async #refresh<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    const { sink } = this.#partOf(kind, namespace);
    const key = resourceKey(kind, namespace, name);
    for (let tries = 1; ; tries += 1) {
      const uid = this.#cache.get(kind, key)?.metadata.uid;
      sink.begin(key);
      const { raw, isDoubtful } = await this.#read(kind, namespace, name, uid);
      if (!isDoubtful || tries === READS) return raw === undefined ? undefined : readResource(kind, raw);
    }
  }

  /** As `#refresh`, where the cache is better off with it and can do without: the watch brings it in any case. */
  async #catchUp(kind: Kind, namespace: string, name: string): Promise<void> {
    try {
      await this.#refresh(kind, namespace, name);
    } catch (error) {
      if (!(error instanceof NightshiftError)) throw error;
    }
  }

  /** Reads an object, for which the request has begun in its sink. */
  async #read(
    kind: Kind,
    namespace: string,
    name: string,
    uid: string | undefined,
  ): Promise<{ readonly raw: RawResource | undefined; readonly isDoubtful: boolean }> {
    const { sink } = this.#partOf(kind, namespace);
    const key = resourceKey(kind, namespace, name);
    let raw: RawResource;
    try {
      raw = await this.#request<RawResource>({ method: "GET", path: pathOf(kind, namespace, name) });
    } catch (error) {
      const isGone = isNotFound(error);
      if (isGone && uid !== undefined) return { raw: undefined, isDoubtful: sink.gone(key, uid) };
      sink.failed(key);
      if (isGone) return { raw: undefined, isDoubtful: false };
      throw storeError(error, describeKey(kind, namespace, name));
    }
    return { raw, isDoubtful: sink.answered(raw) };
  }

  /** The error in the port's codes. When the API server has refused, the newest state is read first: it is why. */
  async #explained(error: unknown, kind: Kind, namespace: string, name: string): Promise<unknown> {
    const isRefused = error instanceof KubeApiError && error.statusCode !== undefined && error.statusCode < 429;
    if (isRefused) await this.#catchUp(kind, namespace, name);
    return storeError(error, describeKey(kind, namespace, name));
  }

  #putStatus(kind: Kind, metadata: object, status: object): Promise<RawResource> {
    const { name, namespace = "default", uid, resourceVersion } = metadata as RawResource["metadata"];
    const body = {
      apiVersion: API_VERSION,
      kind,
      metadata: { name, ...(CLUSTER_SCOPED.has(kind) ? {} : { namespace }), uid, resourceVersion },
      status: kind === "Remediation" ? { ...status, epoch: this.#epoch() } : status,
    };
    return this.#request({ method: "PUT", path: `${pathOf(kind, namespace, name)}/status`, body });
  }

  /** The status of an object that was created just now; others may write its metadata at the same time. */
  async #firstStatus(kind: Kind, created: RawResource, status: object): Promise<RawResource> {
    let raw = created;
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#putStatus(kind, raw.metadata, status);
      } catch (error) {
        if (!isConflict(error) || tries === STATUS_TRIES) throw error;
      }
      const { namespace = "default", name, uid } = raw.metadata;
      const newest = await this.#request<RawResource>({ method: "GET", path: pathOf(kind, namespace, name) });
      if (newest.metadata.uid !== uid || newest.status !== undefined)
        throw new NightshiftError("CONFLICT", `${describeKey(kind, namespace, name)}: somebody else has written its status`);
      raw = newest;
    }
  }

  /** Everything of a part, as it is now. */
  async #list({ kind, namespace }: Part): Promise<RawResource[]> {
    try {
      return await listAll((page) => this.#request(page), kind, namespace);
    } catch (error) {
      throw storeError(error, kind);
    }
  }

  /**
   * Does what writes an object and puts what came of it into the cache. `Whole`: nothing is told of the object before it
   * has ended. Errors are in the codes of the port.
   */
  async #attempt<K extends Kind>(
    kind: K,
    namespace: string,
    name: string,
    show: "Whole" | "AsItComes",
    write: (sink: StoreSink, key: string) => Promise<RawResource>,
  ): Promise<ResourceOf[K]> {
    const { sink } = this.#partOf(kind, namespace);
    const key = resourceKey(kind, namespace, name);
    sink.begin(key, show === "Whole");
    let raw: RawResource;
    try {
      raw = await write(sink, key);
    } catch (error) {
      sink.failed(key);
      throw await this.#explained(error, kind, namespace, name);
    }
    // What is returned is what was written; what is shown is the newest.
    if (sink.answered(raw)) await this.#catchUp(kind, namespace, name);
    return readResource(kind, raw);
  }

  /** An episode becomes this leader's, or is seen to be over. */
  async #takeOver(listed: RawResource): Promise<void> {
    const { namespace = "default", name } = listed.metadata;
    for (let raw: RawResource | undefined = listed; raw !== undefined;) {
      try {
        await this.#takeOverOnce(raw, namespace, name);
        return;
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        // Gone, or nothing that this version understands, which was reported and is left alone.
        if (error.code === "NOT_FOUND" || error.code === "INVALID") return;
        // It was given its first status since it was listed.
        if (error.code !== "CONFLICT") throw error;
      }
      raw = await this.#request<RawResource>({ method: "GET", path: pathOf("Remediation", namespace, name) }).catch((error: unknown) => {
        if (isNotFound(error)) return undefined;
        throw storeError(error, describeKey("Remediation", namespace, name));
      });
    }
  }

  async #takeOverOnce(raw: RawResource, namespace: string, name: string): Promise<void> {
    const { resourceVersion } = raw.metadata;
    const status = raw.status as Partial<Remediation["status"]> | undefined;
    if (status !== undefined && isSettled(status)) {
      // How it ended counts all the same, for strikes and rests.
      const known = this.#cache.get("Remediation", resourceKey("Remediation", namespace, name));
      if (known?.metadata.resourceVersion !== resourceVersion) await this.#refresh("Remediation", namespace, name);
      return;
    }
    const epoch = this.#epoch();
    await this.#attempt("Remediation", namespace, name, "AsItComes", () =>
      this.#request<RawResource>({
        method: "PATCH",
        path: `${pathOf("Remediation", namespace, name)}/status`,
        contentType: "application/merge-patch+json",
        // A patch of one field: whatever else is in the status by now stays. Only a first status must be the first.
        body:
          status === undefined
            ? { metadata: { resourceVersion }, status: { phase: "Pending", revision: 0, epoch } }
            : { status: { epoch } },
      }),
    );
  }
}

function statusOf(resource: Resource): object | undefined {
  return "status" in resource ? resource.status : undefined;
}
