/** A request to the API server. Paths are absolute (`/api/v1/namespaces/x/pods/y`), already escaped. */
export interface KubeRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default `application/json`; a PATCH must say which kind of patch it is. */
  readonly contentType?:
    | "application/json"
    | "application/json-patch+json"
    | "application/merge-patch+json"
    | "application/strategic-merge-patch+json"
    | "application/apply-patch+yaml";
  /** Which form of the answer is taken (`Accept`). Default `application/json`. */
  readonly accept?: string;
  /** Longest time for the whole request (ms). Default 30 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** One line of a watch, as the API server sends it. `ERROR` never comes out: it is thrown as a `KubeApiError`. */
export interface RawWatchEvent<T = unknown> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  readonly object: T;
}

/**
 * The way to one API server. Every failure is a `KubeApiError`.
 *
 * A request is sent once: whoever calls knows whether it may be sent again. 429 with Retry-After is waited for here, as
 * the server has then done nothing.
 */
export interface KubeClient {
  /** Sends a request and returns the decoded body. */
  request<T>(request: KubeRequest): Promise<T>;
  /**
   * Watches a collection until the server ends the stream (the iteration ends), `signal` aborts (the iteration ends) or the
   * connection fails or falls silent for longer than the server's own timeout allows (it throws). `accept`: as of a request.
   */
  watch<T>(path: string, query: KubeRequest["query"], signal: AbortSignal, accept?: string): AsyncIterable<RawWatchEvent<T>>;
}
