import { KubeApiError } from "../kubernetes/errors.ts";
import type { KubeClient, KubeRequest, RawWatchEvent } from "../kubernetes/client.ts";

/** A Lease, as the API server has it. */
interface Lease {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion: string };
  readonly spec?: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
}

/** The Lease by which operators elect the one that acts, as the API server has it. */
export class LeaseBook {
  #lease: Lease | undefined;
  /** Of the Lease that was deleted: whoever had it leads until another makes one. */
  #deleted: number | undefined;
  #version = 0;

  /** Epoch of who leads; undefined where nobody does. */
  get epoch(): number | undefined {
    if (this.#lease === undefined) return this.#deleted;
    return (this.#lease.spec?.holderIdentity ?? "") === "" ? undefined : this.#lease.spec?.leaseTransitions;
  }

  /** Somebody deletes it. */
  delete(): void {
    this.#deleted = this.epoch;
    this.#lease = undefined;
  }

  /** What the chart's admission policy says to a write under `epoch`. Throws where another leads. A Lease that is missing holds nobody up. */
  admit(epoch: number): void {
    if (this.#lease === undefined || this.epoch === epoch) return;
    throw new KubeApiError("KUBE_FORBIDDEN", this.epoch === undefined ? "nobody leads" : "another leads now", { statusCode: 403 });
  }

  /** Answers a request about it. */
  serve({ method, body }: KubeRequest): unknown {
    if (method === "GET") {
      if (this.#lease === undefined) throw new KubeApiError("KUBE_NOT_FOUND", "there is no Lease", { statusCode: 404 });
      return this.#lease;
    }
    const sent = body as Lease;
    if (method === "POST" && this.#lease !== undefined)
      throw new KubeApiError("KUBE_ALREADY_EXISTS", "the Lease exists", { statusCode: 409 });
    if (method === "PUT") {
      if (this.#lease === undefined) throw new KubeApiError("KUBE_NOT_FOUND", "there is no Lease", { statusCode: 404 });
      if (sent.metadata.resourceVersion !== this.#lease.metadata.resourceVersion)
        throw new KubeApiError("KUBE_CONFLICT", "the Lease has changed", { statusCode: 409 });
    }
    this.#lease = { ...sent, metadata: { ...sent.metadata, resourceVersion: String(++this.#version) } };
    return this.#lease;
  }
}

/** The client by which one operator takes part in the election: that of the Kubernetes platform, on the simulated network. */
export class LeaseClient implements KubeClient {
  readonly #send: <T>(write: boolean, what: string, serve: () => T) => Promise<T>;
  readonly #book: LeaseBook;

  constructor(book: LeaseBook, send: <T>(write: boolean, what: string, serve: () => T) => Promise<T>) {
    this.#book = book;
    this.#send = send;
  }

  request<T>(request: KubeRequest): Promise<T> {
    return this.#send(request.method !== "GET", `${request.method} Lease`, () => this.#book.serve(request) as T);
  }

  /** It is looked at every two seconds all the same: no watch ever says anything. */
  async *watch<T>(_path: string, _query: KubeRequest["query"], signal: AbortSignal): AsyncGenerator<RawWatchEvent<T>> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    yield* [];
  }
}
