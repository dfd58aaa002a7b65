import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { BackoffOptions } from "./backoff.ts";
import type { KubeClient } from "./client.ts";
import type { KubeApiError } from "./errors.ts";
import { recordKey } from "./records.ts";
import { type Listed, Reflector, type ReflectorSink } from "./reflector.ts";

/**
 * Has the API server leave out everything but metadata; there is no other form in it that it might answer with. What a ConfigMap contains comes
 * along in one case: `kubectl apply` without `--server-side` leaves a copy in an annotation. Nothing of annotations is looked at or kept.
 */
export const METADATA_ONLY = {
  list: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
  watch: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
} as const;

/** What a view asks of ConfigMaps. */
export interface ConfigMaps {
  /** Whether all that there are are known. */
  readonly known: boolean;
  /** Something else for each version of one, also where it was deleted and made anew; undefined where there is none. */
  version(namespace: string, name: string): string | undefined;
  /** Calls back with each that has come, changed or gone; with nothing once all are known. */
  onChange(listener: (namespace?: string, name?: string) => void): void;
}

/** The versions of all ConfigMaps, and nothing that is in them. */
export class ConfigMapVersions implements ConfigMaps, ReflectorSink<Listed> {
  /** By key. */
  readonly #known = new Map<string, Listed["metadata"]>();
  readonly #listeners = new Set<(namespace?: string, name?: string) => void>();
  readonly #reflector: Reflector<Listed>;
  #unseen: Map<string, Listed["metadata"]> | undefined;
  #isWhole = false;

  constructor(options: {
    readonly client: KubeClient;
    readonly clock: Clock;
    readonly random: Random;
    readonly backoff?: BackoffOptions | undefined;
    /** Told of each failure. It goes on by itself. */
    readonly onError: (error: KubeApiError, retryInMs: number) => void;
  }) {
    const { client, clock, random, backoff, onError } = options;
    this.#reflector = new Reflector<Listed>({
      client,
      clock,
      random,
      path: "/api/v1/configmaps",
      accept: METADATA_ONLY,
      sink: this,
      onError,
      ...(backoff === undefined ? {} : { backoff }),
    });
  }

  get known(): boolean {
    return this.#isWhole;
  }

  version(namespace: string, name: string): string | undefined {
    const metadata = this.#known.get(recordKey(namespace, name));
    return metadata === undefined ? undefined : `${metadata.uid}/${metadata.resourceVersion}`;
  }

  onChange(listener: (namespace?: string, name?: string) => void): void {
    this.#listeners.add(listener);
  }

  /** Works until `signal` aborts, then resolves. */
  run(signal: AbortSignal): Promise<void> {
    return this.#reflector.run(signal);
  }

  startListing(): void {
    this.#unseen = new Map(this.#known);
  }

  put({ metadata: { namespace = "", name, uid, resourceVersion } }: Listed): void {
    const key = recordKey(namespace, name);
    this.#unseen?.delete(key);
    const before = this.#known.get(key);
    if (before?.uid === uid && before.resourceVersion === resourceVersion) return;
    this.#known.set(key, { namespace, name, uid, resourceVersion });
    this.#tell(namespace, name);
  }

  delete({ metadata: { namespace = "", name } }: Listed): void {
    if (this.#known.delete(recordKey(namespace, name))) this.#tell(namespace, name);
  }

  endListing(): void {
    for (const metadata of this.#unseen?.values() ?? []) this.delete({ metadata });
    this.#unseen = undefined;
    if (this.#isWhole) return;
    this.#isWhole = true;
    for (const listener of this.#listeners) listener();
  }

  #tell(namespace: string, name: string): void {
    if (this.#isWhole) for (const listener of this.#listeners) listener(namespace, name);
  }
}
