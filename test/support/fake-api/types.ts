/** A Kubernetes object, as loosely as the fake API server knows it. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    generateName?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
    ownerReferences?: unknown[];
    managedFields?: { manager: string; operation: "Apply" | "Update"; subresource?: string }[];
  };
  [field: string]: unknown;
}

/** A type of resource that the fake API server serves. */
export interface ResourceType {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** `status` is a subresource. */
  readonly status?: boolean;
  /** A custom resource: items of a list say what they are, and an update must carry a resourceVersion. */
  readonly custom?: boolean;
  /** Why an object is refused (422), or undefined. */
  readonly validate?: (object: KubeObject, old: KubeObject | undefined) => string | undefined;
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: unknown;
}

/** A refusal, which becomes a Status. */
export class Refusal extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: object | undefined;

  constructor(code: number, reason: string, message: string, details?: object) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  get status(): object {
    const { code, reason, message, details } = this;
    return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", code, reason, message, ...(details && { details }) };
  }
}
