import { NightshiftError } from "../../api/errors.ts";
import { isSettled, type Remediation } from "../../api/remediation.ts";
import type { Kind } from "../../api/meta.ts";
import type { ResourceOf } from "../../api/resources.ts";
import { sleep } from "../../ports/clock.ts";
import type { Store, WatchEvent } from "../../ports/store.ts";
import { resourceKey } from "../admission.ts";
import { KubeApiError } from "../kubernetes/errors.ts";
import { storeError } from "../kubernetes/store-errors.ts";
import type { ApiServer } from "./api-server.ts";
import type { Network } from "./network.ts";
import type { SimProcess } from "./process.ts";
import { type Delivery, WatchStream } from "./watch-stream.ts";

/** How long a new leader tries to make the episodes its own (ms), and how often. */
const TAKEOVER_TRIES = 20;
const TAKEOVER_PAUSE_MS = 500;

/** The store as one operator sees it: over the network, and by watches that may lag. */
export class SimStore implements Store {
  readonly #api: ApiServer;
  readonly #network: Network;
  readonly #process: SimProcess;
  readonly #operator: number;
  readonly #epoch: () => number;
  readonly #admit: (epoch: number) => void;
  readonly #delivery: Delivery;
  /** What a stale read returns: what this operator has read or been told last. */
  readonly #lastSeen = new Map<string, ResourceOf[Kind]>();
  /** Whether a read is answered by a replica that lags. */
  readonly #isStale: () => boolean;
  readonly #streams = new Set<WatchStream<Kind>>();

  constructor(options: {
    readonly api: ApiServer;
    readonly network: Network;
    readonly process: SimProcess;
    readonly operator: number;
    readonly epoch: () => number;
    /** What the API server's admission says to a new episode under an epoch. Throws where another leads. */
    readonly admit: (epoch: number) => void;
    readonly delivery: Delivery;
    readonly isStale: () => boolean;
  }) {
    this.#api = options.api;
    this.#network = options.network;
    this.#process = options.process;
    this.#operator = options.operator;
    this.#epoch = options.epoch;
    this.#admit = options.admit;
    this.#delivery = options.delivery;
    this.#isStale = options.isStale;
    const unsubscribe = this.#api.onChange((change) => {
      for (const stream of this.#streams) if (stream.kind === change.object.kind) stream.changed(change.type, change.object);
    });
    this.#process.onKill(unsubscribe);
  }

  async get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    const key = `${kind}/${resourceKey(kind, namespace, name)}`;
    const stale = this.#isStale() ? (this.#lastSeen.get(key) as ResourceOf[K] | undefined) : undefined;
    const found = await this.#request(false, `get ${kind} ${namespace}/${name}`, () => stale ?? this.#api.get(kind, namespace, name));
    if (found !== undefined) this.#lastSeen.set(key, found);
    return found;
  }

  list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]> {
    return this.#request(false, `list ${kind}`, () => this.#api.list(kind, namespace));
  }

  async create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const signed = this.#signed<K>(object);
    return this.#write<K>("create", object, () => {
      if (signed.kind === "Remediation") this.#admit((signed as unknown as Remediation).status.epoch ?? 0);
      return this.#api.create<K>(signed as never);
    });
  }

  async update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const signed = this.#signed<K>(object) as never;
    return this.#write<K>("update", object, () => this.#api.update<K>(signed));
  }

  async delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): Promise<void> {
    await this.#request(true, `delete ${kind} ${namespace}/${name}`, () => this.#api.delete(kind, namespace, name, resourceVersion));
  }

  async *watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncGenerator<WatchEvent<K>> {
    // Listing and watching are one: what changes in between is delivered.
    let stream: WatchStream<K> | undefined;
    const listed = await this.#request(false, `watch ${kind}`, () => {
      stream = new WatchStream<K>(kind, this.#process, this.#delivery);
      this.#streams.add(stream as unknown as WatchStream<Kind>);
      return this.#api.list(kind);
    });
    if (stream === undefined) throw new RangeError("the listing was not served");
    const end = (): void => stream?.end();
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) stream.end();
    try {
      for (const object of listed) yield { type: "Added", object };
      yield { type: "Synced" };
      yield* stream;
    } finally {
      signal.removeEventListener("abort", end);
      this.#streams.delete(stream as unknown as WatchStream<Kind>);
      stream.end();
    }
  }

  /** Breaks every watch, as a 410 does: what was missed comes with the next listing. */
  breakWatches(): void {
    for (const stream of this.#streams) stream.fail(new NightshiftError("STORE_UNAVAILABLE", "410: the resourceVersion is too old"));
  }

  /** The highest epoch that any Remediation carries. */
  usedEpoch(): number {
    return this.#api.list("Remediation").reduce((highest, { status }) => Math.max(highest, status.epoch ?? 0), 0);
  }

  /** See `KubernetesStore.takeover`. */
  async takeover(): Promise<void> {
    const listed = await this.#tried(() => this.list("Remediation"));
    for (const { metadata } of listed)
      await this.#tried(async () => {
        const epoch = this.#epoch();
        await this.#request(true, `take over Remediation ${metadata.namespace}/${metadata.name}`, () => {
          const current = this.#api.get("Remediation", metadata.namespace, metadata.name);
          if (current === undefined || isSettled(current.status)) return;
          this.#api.update<"Remediation">({ ...current, status: { ...current.status, epoch } });
        });
      });
  }

  async #tried<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof NightshiftError) || error.code !== "STORE_UNAVAILABLE" || tries >= TAKEOVER_TRIES) throw error;
        await sleep(this.#process, TAKEOVER_PAUSE_MS);
      }
    }
  }

  /** As it is sent: the epoch is that of the moment, and nothing is sent by whom may not lead. */
  #signed<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): ResourceOf[K] & { readonly kind: K } {
    if (object.kind !== "Remediation") return object;
    return { ...object, status: { ...(object as unknown as Remediation).status, epoch: this.#epoch() } } as unknown as typeof object;
  }

  async #write<K extends Kind>(
    verb: string,
    object: ResourceOf[K] & { readonly kind: K },
    serve: () => ResourceOf[K],
  ): Promise<ResourceOf[K]> {
    const { kind, metadata } = object;
    const stored = await this.#request(true, `${verb} ${kind} ${metadata.namespace}/${metadata.name}`, serve);
    this.#lastSeen.set(`${kind}/${resourceKey(kind, metadata.namespace, metadata.name)}`, stored);
    return stored;
  }

  async #request<T>(write: boolean, what: string, serve: () => T): Promise<T> {
    try {
      return await this.#network.request({ process: this.#process, operator: this.#operator, write, what }, serve);
    } catch (error) {
      if (error instanceof KubeApiError) throw storeError(error, what);
      throw error;
    }
  }
}
