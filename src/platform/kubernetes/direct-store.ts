import { messageOf, NightshiftError } from "../../api/errors.ts";
import type { Kind } from "../../api/meta.ts";
import type { ResourceOf } from "../../api/resources.ts";
import type { Store } from "../../ports/store.ts";
import { describeKey, validated } from "../admission.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { isForbidden, isNotFound } from "./errors.ts";
import { FIELD_MANAGER } from "./marks.ts";
import { storeError } from "./store-errors.ts";
import { collectionOf, listAll, pathOf, readResource, writtenResource, type RawResource } from "./store-objects.ts";

/**
 * Nightshift's resources straight from the API server: for commands, which look once and go. Rejects as `Store` does, and
 * with `FORBIDDEN` where RBAC or an admission policy refuses it.
 */
export class DirectStore implements Pick<Store, "get" | "list" | "create"> {
  readonly #client: KubeClient;
  readonly #onUnreadable: (message: string) => void;

  /** @param onUnreadable - told of objects that this version cannot read; they are left out */
  constructor(client: KubeClient, onUnreadable: (message: string) => void) {
    this.#client = client;
    this.#onUnreadable = onUnreadable;
  }

  async get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    try {
      return readResource(kind, await this.#client.request<RawResource>({ method: "GET", path: pathOf(kind, namespace, name) }));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw explained(error, describeKey(kind, namespace, name));
    }
  }

  async list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]> {
    const found: ResourceOf[K][] = [];
    for (const raw of await listAll((page) => this.#ask(page, describeKey(kind, namespace ?? "*", "*")), kind, namespace)) {
      try {
        found.push(readResource(kind, raw));
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        this.#onUnreadable(`${describeKey(kind, raw.metadata.namespace ?? "", raw.metadata.name)} is left out: ${messageOf(error)}`);
      }
    }
    return found;
  }

  async create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    const { namespace, name } = copy.metadata;
    const created = await this.#ask<RawResource>(
      {
        method: "POST",
        path: collectionOf(object.kind, namespace),
        query: { fieldManager: FIELD_MANAGER },
        body: writtenResource(copy, undefined),
      },
      describeKey(object.kind, namespace, name),
    );
    return readResource(object.kind, created);
  }

  /** The name under which the API server knows whoever asks. */
  async whoAmI(): Promise<string> {
    const { status } = await this.#ask<{ readonly status?: { readonly userInfo?: { readonly username?: string } } }>(
      {
        method: "POST",
        path: "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        body: { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" },
      },
      "your own name",
    );
    const name = status?.userInfo?.username;
    if (name === undefined) throw new NightshiftError("STORE_UNAVAILABLE", "the API server does not say who you are to it");
    return name;
  }

  async #ask<T>(request: KubeRequest, what: string): Promise<T> {
    try {
      return await this.#client.request<T>(request);
    } catch (error) {
      throw explained(error, what);
    }
  }
}

function explained(error: unknown, what: string): unknown {
  if (!isForbidden(error)) return storeError(error, what);
  return new NightshiftError("FORBIDDEN", `${what} is refused: ${error.message}`, {
    fix: "Ask for the ClusterRole that allows it (nightshift-view, nightshift-approver), or look at what the named policy says.",
    cause: error,
  });
}
