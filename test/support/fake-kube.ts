import type { KubeClient, KubeRequest, RawWatchEvent } from "../../src/platform/kubernetes/client.ts";
import { KubeApiError, type KubeErrorCode } from "../../src/platform/kubernetes/errors.ts";
import type {
  ControllerRevision,
  EndpointSlice,
  HorizontalPodAutoscaler,
  Job,
  KubeObject,
  LabelSelector,
  Namespace,
  Node,
  Owner,
  Pod,
  PodDisruptionBudget,
  Service,
} from "../../src/platform/kubernetes/objects.ts";
import { DELETION_COST, FIELD_MANAGER, SERVICE_NAME } from "../../src/platform/kubernetes/marks.ts";
import {
  collectionPath,
  objectPath,
  RECORD_KINDS,
  type RecordKind,
  type Records,
  RESOURCES,
} from "../../src/platform/kubernetes/records.ts";
import { selects, serviceSelects } from "../../src/platform/kubernetes/selector.ts";
import { MemoryTable, type Tables } from "../../src/platform/kubernetes/table.ts";
import { ClusterView } from "../../src/platform/kubernetes/view.ts";
import { managedApply, managedUpdate } from "./managed-fields.ts";
import type { ManualClock } from "./manual-clock.ts";

type Json = Record<string, unknown>;
interface Objects {
  Pod: Pod;
  Deployment: Owner;
  ReplicaSet: Owner;
  StatefulSet: Owner;
  DaemonSet: Owner;
  ControllerRevision: ControllerRevision;
  Service: Service;
  EndpointSlice: EndpointSlice;
  PodDisruptionBudget: PodDisruptionBudget;
  HorizontalPodAutoscaler: HorizontalPodAutoscaler;
  Node: Node;
  Namespace: Namespace;
  Job: Job;
  Remediation: KubeObject & Json;
}
type Kind = keyof Objects;
/** An object to put: what the API server sets may be left out. */
export type Draft = { readonly metadata: Partial<KubeObject["metadata"]> & { readonly name: string }; readonly [other: string]: unknown };

/** Other kinds that effects read or make. */
const OTHERS = {
  Job: "/apis/batch/v1/jobs",
  Remediation: "/apis/nightshift.dev/v1alpha1/remediations",
};

/**
 * An API server in memory, at the level of `KubeClient`: resourceVersions and conflicts, patches and applies, selectors,
 * deletions with preconditions, evictions under budgets; with the controllers of ReplicaSets and EndpointSlices, so that
 * what is written has the consequences that it has on a cluster. A view over it is kept up to date.
 */
export class FakeKube implements KubeClient {
  readonly view: ClusterView;
  readonly tables: Tables;
  /** `METHOD path` of each request, in order. */
  readonly requests: string[] = [];
  /** Writes that took effect. */
  readonly writes: { readonly method: string; readonly path: string; readonly body: Json }[] = [];
  /** Asked before a request is handled: what it throws is the answer. */
  before: ((request: KubeRequest) => void) | undefined;
  /** Asked after a request was handled: what it throws is the answer, although it took effect. */
  after: ((request: KubeRequest) => void) | undefined;
  /** Whether changes reach the view. */
  feeding = true;
  /** Whether ReplicaSets start pods that they lack. */
  startsPods = true;
  /** Whether pods that are started become ready. */
  podsBecomeReady = true;
  /** Whether a deleted pod is there until `finish`. */
  graceful = false;
  readonly #clock: ManualClock;
  readonly #objects = new Map<string, Json & KubeObject>();
  readonly #events: {
    readonly version: number;
    readonly type: RawWatchEvent["type"];
    readonly kind: string;
    readonly object: KubeObject;
  }[] = [];
  readonly #watchers = new Set<() => void>();
  #round = 0;
  #version = 1000;
  #uid = 0;

  constructor(clock: ManualClock, nodeNamespace = "nightshift-system") {
    this.#clock = clock;
    this.tables = Object.fromEntries(RECORD_KINDS.map((kind) => [kind, new MemoryTable()])) as unknown as Tables;
    this.view = new ClusterView({ tables: this.tables, clock, nodeNamespace });
  }

  /** Puts an object there, or changes what is there. */
  put(kind: Kind, draft: Draft): KubeObject {
    const path = this.#path(kind, draft.metadata.namespace ?? "", draft.metadata.name);
    const before = this.#objects.get(path);
    const given = draft as unknown as Json & KubeObject;
    const object = this.#store(
      path,
      kind,
      given.metadata.managedFields === undefined ? managedUpdate(before, given, "kubectl-create") : given,
    );
    this.settle();
    return object;
  }

  /** Changes an object as somebody else would; whose fields are which may be said, too. */
  change(kind: Kind, namespace: string, name: string, patch: Json & { readonly metadata?: Json }): void {
    const path = this.#path(kind, namespace, name);
    const before = this.#must(path);
    const after = merge(before, patch) as Json & KubeObject;
    this.#store(path, kind, patch.metadata?.["managedFields"] === undefined ? managedUpdate(before, after, "kubectl-edit") : after);
    this.settle();
  }

  /** Applies to an object as somebody else would, by server-side apply. */
  applyAs(manager: string, kind: Kind, namespace: string, name: string, config: Json): void {
    const path = this.#path(kind, namespace, name);
    this.#apply(path, config, kind, { fieldManager: manager, force: true });
    this.settle();
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): Objects[K] | undefined {
    return this.#objects.get(this.#path(kind, namespace, name)) as Objects[K] | undefined;
  }

  all<K extends Kind>(kind: K): Objects[K][] {
    return [...this.#objects.values()].filter((object) => object.kind === kind) as unknown as Objects[K][];
  }

  /** Takes an object away as somebody else would. */
  remove(kind: Kind, namespace: string, name: string): void {
    this.#delete(this.#path(kind, namespace, name));
    this.settle();
  }

  /** Ends a pod that is being deleted. */
  finish(namespace: string, name: string): void {
    this.remove("Pod", namespace, name);
  }

  // ---- the API -------------------------------------------------------------------------------------------------

  async request<T>(request: KubeRequest): Promise<T> {
    this.requests.push(`${request.method} ${request.path}`);
    await Promise.resolve();
    if (request.signal?.aborted) throw new KubeApiError("KUBE_ABORTED", "aborted");
    this.before?.(request);
    const answer = structuredClone(this.#handle(request));
    this.settle();
    this.after?.(request);
    return answer as T;
  }

  async *watch<T>(path: string, query: KubeRequest["query"], signal: AbortSignal): AsyncGenerator<RawWatchEvent<T>> {
    this.before?.({ method: "GET", path });
    const { kind } = this.#parse(path);
    const round = this.#round;
    let next = this.#events.findIndex((event) => event.version > Number(query?.["resourceVersion"] ?? 0));
    if (next === -1) next = this.#events.length;
    // The first of those that a real one sends about every minute.
    if (next === this.#events.length) yield { type: "BOOKMARK", object: { metadata: { resourceVersion: String(this.#version) } } as T };
    while (!signal.aborted) {
      for (; next < this.#events.length; next++) {
        const event = this.#events[next];
        if (event?.kind === kind) yield { type: event.type, object: structuredClone(event.object) as T };
      }
      if (this.#round !== round) throw failure("KUBE_CONNECTION_LOST", "the watch broke");
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#watchers.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#watchers.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }

  /** Breaks every watch. */
  breakWatches(): void {
    this.#round += 1;
    for (const wake of Array.from(this.#watchers)) wake();
  }

  #tell(type: "ADDED" | "MODIFIED" | "DELETED", kind: string | undefined, object: KubeObject): void {
    this.#events.push({ version: ++this.#version, type, kind: kind ?? "", object });
    for (const wake of Array.from(this.#watchers)) wake();
  }

  #handle(request: KubeRequest): unknown {
    const { method, path, query = {} } = request;
    const body = (request.body ?? {}) as Json;
    const sub = /^(.*\/pods\/[^/]+)\/(eviction|resize)$/.exec(path);
    if (sub !== null) {
      const [, pod = "", resource] = sub;
      return resource === "eviction" ? this.#evict(pod, body) : this.#patch(pod, body, "Pod", true);
    }
    const { kind, name } = this.#parse(path);
    switch (method) {
      case "GET":
        if (name !== undefined) return this.#must(path);
        return { kind: `${kind}List`, metadata: { resourceVersion: String(this.#version) }, items: this.#list(kind, path, query) };
      case "POST": {
        const meta = body["metadata"] as { name: string; namespace?: string };
        const at = `${path}/${meta.name}`;
        if (this.#objects.has(at)) throw failure("KUBE_ALREADY_EXISTS", `${meta.name} already exists`, 409);
        this.#wrote(method, path, body);
        return this.#store(at, kind, body as Json & KubeObject);
      }
      case "PATCH":
        if (request.contentType === "application/apply-patch+yaml") {
          this.#wrote(method, path, body);
          try {
            return this.#apply(path, body, kind, query);
          } catch (error) {
            this.writes.pop();
            throw error;
          }
        }
        return this.#patch(path, body, kind, false);
      case "DELETE": {
        const object = this.#must(path);
        this.#check(object, body["preconditions"] ?? {});
        this.#wrote(method, path, body);
        this.#deleteGracefully(path, kind);
        return object;
      }
      default:
        throw failure("KUBE_REFUSED", method, 405);
    }
  }

  #apply(path: string, config: Json, kind: Kind, query: NonNullable<KubeRequest["query"]>): KubeObject {
    const live = this.#must(path);
    const { uid, resourceVersion } = (config["metadata"] ?? {}) as Partial<KubeObject["metadata"]>;
    this.#check(live, { ...(uid === undefined ? {} : { uid }), ...(resourceVersion === undefined ? {} : { resourceVersion }) });
    const answer = managedApply(live, config, String(query["fieldManager"]), query["force"] === true);
    if ("object" in answer) return this.#store(path, kind, answer.object);
    const causes = answer.conflicts.map((conflict) => ({ reason: "FieldManagerConflict", ...conflict }));
    throw new KubeApiError("KUBE_CONFLICT", `Apply failed with ${causes.length} conflicts`, {
      statusCode: 409,
      status: { reason: "Conflict", details: { causes } },
    });
  }

  #patch(path: string, body: Json, kind: Kind, resize: boolean): KubeObject {
    const object = this.#must(path);
    if (Array.isArray(body)) {
      const patched = jsonPatch(object, body as readonly JsonPatch[]) as Json & KubeObject;
      this.#check(object, { resourceVersion: patched.metadata.resourceVersion });
      this.#wrote("PATCH", path, body);
      return this.#store(path, kind, managedUpdate(object, patched, FIELD_MANAGER));
    }
    const metadata = (body["metadata"] ?? {}) as { resourceVersion?: string };
    this.#check(object, { resourceVersion: metadata.resourceVersion ?? object.metadata.resourceVersion });
    this.#wrote("PATCH", path, body);
    if (!resize) {
      const patched = merge(object, withNamed(object, body)) as Json & KubeObject;
      return this.#store(path, kind, managedUpdate(object, patched, FIELD_MANAGER));
    }
    // The subresource changes resources only, and a kubelet that has room for them carries them out.
    const spec = (withNamed(object, body)["spec"] ?? {}) as Pod["spec"];
    const containers = (object as unknown as Pod).spec.containers.map((c) => spec.containers.find((r) => r.name === c.name) ?? c);
    return this.#store(path, kind, this.resize(merge(object, { spec: { containers } }) as Pod) as unknown as Json & KubeObject);
  }

  /** What the kubelet makes of a pod whose resources were changed. */
  resize: (pod: Pod) => Pod = (pod) => ({
    ...pod,
    status: {
      ...pod.status,
      containerStatuses: (pod.status?.containerStatuses ?? []).map((status) => {
        const resources = pod.spec.containers.find((c) => c.name === status.name)?.resources;
        return { ...status, ...(resources === undefined ? {} : { resources }) };
      }),
    },
  });

  #evict(path: string, body: Json): unknown {
    const pod = this.#must(path) as unknown as Pod;
    this.#check(pod, (body["deleteOptions"] as Json)["preconditions"] ?? {});
    for (const pdb of this.all("PodDisruptionBudget")) {
      if (pdb.metadata.namespace !== pod.metadata.namespace || !selects(pdb.spec?.selector, pod.metadata.labels ?? {})) continue;
      if ((pdb.status?.disruptionsAllowed ?? 0) > 0) continue;
      throw new KubeApiError("KUBE_TOO_MANY_REQUESTS", "Cannot evict pod as it would violate the pod's disruption budget.", {
        statusCode: 429,
        status: {
          reason: "TooManyRequests",
          details: {
            causes: [
              {
                reason: "DisruptionBudget",
                message: `The disruption budget ${pdb.metadata.name} needs 2 healthy pods and has 2 currently`,
              },
            ],
          },
        },
      });
    }
    this.#wrote("POST", `${path}/eviction`, body);
    this.#deleteGracefully(path, "Pod");
    return {};
  }

  #check(object: KubeObject, { uid, resourceVersion }: { uid?: string; resourceVersion?: string }): void {
    const { metadata } = object;
    if ((uid !== undefined && uid !== metadata.uid) || (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion))
      throw failure("KUBE_CONFLICT", `${metadata.name}: the object has been modified`, 409);
  }

  #wrote(method: string, path: string, body: Json): void {
    this.writes.push({ method, path, body });
  }

  #list(kind: Kind, path: string, query: NonNullable<KubeRequest["query"]>): KubeObject[] {
    const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
    const labels = parseSelector(String(query["labelSelector"] ?? ""));
    const fields = parseSelector(String(query["fieldSelector"] ?? "")).matchLabels ?? {};
    return this.all(kind).filter(
      (object) =>
        (namespace === undefined || object.metadata.namespace === namespace) &&
        selects(labels, object.metadata.labels ?? {}) &&
        Object.entries(fields).every(([field, value]) => valueAt(object, field.split(".")) === value),
    );
  }

  // ---- objects -------------------------------------------------------------------------------------------------

  #store(path: string, kind: Kind, draft: Json & KubeObject): KubeObject {
    const before = this.#objects.get(path);
    const metadata = {
      creationTimestamp: new Date(this.#clock.now()).toISOString(),
      ...before?.metadata,
      ...draft.metadata,
      uid: before?.metadata.uid ?? draft.metadata.uid ?? `uid-${++this.#uid}`,
      resourceVersion: before?.metadata.resourceVersion ?? "",
    };
    const next = { ...draft, kind, metadata } as Json & KubeObject;
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(next)) return before;
    const specChanged = before !== undefined && JSON.stringify(before["spec"]) !== JSON.stringify(next["spec"]);
    const generation = (before?.metadata.generation ?? draft.metadata.generation ?? 1) + (specChanged ? 1 : 0);
    const stored = { ...next, metadata: { ...metadata, generation, resourceVersion: String(this.#version + 1) } };
    this.#objects.set(path, stored);
    this.#tell(before === undefined ? "ADDED" : "MODIFIED", kind, stored);
    this.#feed(kind, stored);
    return stored;
  }

  #deleteGracefully(path: string, kind: Kind): void {
    if (kind !== "Pod" || !this.graceful) return this.#delete(path);
    const object = this.#must(path);
    this.#store(path, kind, { ...object, metadata: { ...object.metadata, deletionTimestamp: new Date(this.#clock.now()).toISOString() } });
  }

  #delete(path: string): void {
    const object = this.#objects.get(path);
    this.#objects.delete(path);
    if (object === undefined) return;
    // A deletion has a resourceVersion of its own.
    const resourceVersion = String(this.#version + 1);
    this.#tell("DELETED", object.kind, { ...object, metadata: { ...object.metadata, resourceVersion } });
    if (!this.feeding || !isRecordKind(object.kind ?? "")) return;
    const table = this.tables[object.kind as RecordKind] as MemoryTable<never>;
    table.delete(object.metadata.namespace ?? "", object.metadata.name);
    table.progress(resourceVersion);
  }

  #feed(kind: Kind, object: KubeObject): void {
    if (!this.feeding || !isRecordKind(kind)) return;
    const table = this.tables[kind] as unknown as MemoryTable<Records[RecordKind]>;
    const before = table.get(object.metadata.namespace ?? "", object.metadata.name);
    table.put(RESOURCES[kind].project(object as never, before as never));
    table.progress(object.metadata.resourceVersion);
  }

  /** Lets everything that was held back reach the view. */
  catchUp(): void {
    this.feeding = true;
    for (const object of this.#objects.values()) this.#feed(object.kind as Kind, object);
    for (const kind of RECORD_KINDS)
      for (const record of Array.from<Records[RecordKind]>(this.tables[kind].values()))
        if (!this.#objects.has(this.#path(kind, record.namespace, record.name)))
          (this.tables[kind] as MemoryTable<never>).delete(record.namespace, record.name);
    for (const kind of RECORD_KINDS) (this.tables[kind] as MemoryTable<never>).progress(String(this.#version));
  }

  #must(path: string): Json & KubeObject {
    const object = this.#objects.get(path);
    if (object === undefined) throw failure("KUBE_NOT_FOUND", `${path} not found`, 404);
    return object;
  }

  #path(kind: Kind, namespace: string, name: string): string {
    if (isRecordKind(kind)) return objectPath(kind, namespace, name);
    const path = OTHERS[kind];
    const at = path.lastIndexOf("/");
    return `${path.slice(0, at)}/namespaces/${namespace}${path.slice(at)}/${name}`;
  }

  #parse(path: string): { kind: Kind; name: string | undefined } {
    const plain = path.replace(/\/namespaces\/[^/]+(?=\/)/, "");
    for (const [kind, collection] of [
      ...RECORD_KINDS.map((known) => [known, collectionPath(known)] as const),
      ...(Object.entries(OTHERS) as [Kind, string][]),
    ]) {
      if (plain === collection) return { kind, name: undefined };
      if (plain.startsWith(`${collection}/`)) return { kind, name: plain.slice(collection.length + 1) };
    }
    throw failure("KUBE_NOT_FOUND", `the server could not find the requested resource ${path}`, 404);
  }

  // ---- controllers ---------------------------------------------------------------------------------------------

  /** Lets the controllers do what is to be done. */
  settle(): void {
    for (const set of this.all("ReplicaSet")) this.#reconcile(set);
    for (const service of this.all("Service")) this.#endpoints(service);
  }

  #reconcile(set: Owner): void {
    const { namespace = "", name, uid } = set.metadata;
    const isOwned = (pod: Pod): boolean => pod.metadata.ownerReferences?.some((r) => r.controller === true && r.uid === uid) ?? false;
    for (const pod of this.all("Pod")) {
      if (pod.metadata.namespace !== namespace || pod.metadata.deletionTimestamp !== undefined) continue;
      const selected = selects(set.spec.selector, pod.metadata.labels ?? {});
      const path = this.#path("Pod", namespace, pod.metadata.name);
      if (isOwned(pod) && !selected) this.#store(path, "Pod", { ...pod, metadata: { ...pod.metadata, ownerReferences: [] } });
      else if (selected && (pod.metadata.ownerReferences ?? []).length === 0) {
        const ownerReferences = [{ apiVersion: "apps/v1", kind: "ReplicaSet", name, uid, controller: true }];
        this.#store(path, "Pod", { ...pod, metadata: { ...pod.metadata, ownerReferences } });
      }
    }
    const active = this.all("Pod").filter((pod) => isOwned(pod) && pod.metadata.deletionTimestamp === undefined);
    const surplus = active.length - (set.spec.replicas ?? 1);
    if (surplus > 0) {
      const isReady = (pod: Pod): number =>
        pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") === true ? 1 : 0;
      const isRunning = (pod: Pod): number => (pod.status?.phase === "Running" ? 1 : 0);
      const cost = (pod: Pod): number => Number(pod.metadata.annotations?.[DELETION_COST] ?? 0);
      const ranked = active.toSorted((a, b) => isRunning(a) - isRunning(b) || isReady(a) - isReady(b) || cost(a) - cost(b));
      for (const pod of ranked.slice(0, surplus)) this.#deleteGracefully(this.#path("Pod", namespace, pod.metadata.name), "Pod");
    }
    for (let missing = surplus; missing < 0 && this.startsPods; missing++) this.startPod(set);
  }

  /** Starts a pod of a ReplicaSet. */
  startPod(set: Owner): Pod {
    const { namespace = "", name, uid } = set.metadata;
    const now = new Date(this.#clock.now()).toISOString();
    const path = this.#path("Pod", namespace, `${name}-${++this.#uid}`);
    return this.#store(path, "Pod", {
      metadata: {
        name: `${name}-${this.#uid}`,
        namespace,
        labels: { ...set.spec.template?.metadata?.labels, ...set.spec.selector?.matchLabels },
        ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name, uid, controller: true }],
      },
      spec: { containers: [{ name: "main" }], ...set.spec.template?.spec },
      status: {
        phase: this.podsBecomeReady ? "Running" : "Pending",
        startTime: now,
        conditions: [{ type: "Ready", status: this.podsBecomeReady ? "True" : "False", lastTransitionTime: now }],
      },
    } as never) as unknown as Pod;
  }

  #endpoints(service: Service): void {
    const { namespace = "", name } = service.metadata;
    const pods = this.all("Pod").filter(
      (pod) => pod.metadata.namespace === namespace && serviceSelects(service.spec?.selector, pod.metadata.labels ?? {}),
    );
    const slice: Omit<EndpointSlice, "metadata"> & Draft = {
      metadata: { name: `${name}-slice`, namespace, labels: { [SERVICE_NAME]: name } },
      endpoints: pods.map((pod) => ({
        conditions: {
          ready:
            pod.metadata.deletionTimestamp === undefined &&
            pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") === true,
        },
        targetRef: { kind: "Pod", name: pod.metadata.name, uid: pod.metadata.uid },
      })),
    };
    this.#store(this.#path("EndpointSlice", namespace, `${name}-slice`), "EndpointSlice", slice as never);
  }
}

/** An error as the API server answers with. */
export function failure(code: KubeErrorCode, message: string, statusCode: number | undefined = STATUS[code]): KubeApiError {
  return new KubeApiError(code, message, { statusCode });
}

const STATUS: Readonly<Partial<Record<KubeErrorCode, number>>> = {
  KUBE_FORBIDDEN: 403,
  KUBE_NOT_FOUND: 404,
  KUBE_CONFLICT: 409,
  KUBE_INVALID: 422,
  KUBE_TOO_MANY_REQUESTS: 429,
  KUBE_INTERNAL: 500,
  KUBE_UNAVAILABLE: 503,
};

function isRecordKind(kind: string): kind is RecordKind {
  return (RECORD_KINDS as readonly string[]).includes(kind);
}

interface JsonPatch {
  readonly op: string;
  readonly path: string;
  readonly value: unknown;
}

/** The `add` and `replace` of RFC 6902. */
function jsonPatch(object: unknown, patch: readonly JsonPatch[]): unknown {
  const copy = structuredClone(object) as Json;
  for (const { path, value } of patch) {
    const keys = path.split("/").slice(1);
    const last = keys.pop() ?? "";
    (valueAt(copy, keys) as Json)[last] = value;
  }
  return copy;
}

/** RFC 7386. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const base = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...(target as Json) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete base[key];
    else base[key] = merge(base[key], value);
  }
  return base;
}

/** A strategic merge patch's containers, merged by name, so that the rest is an ordinary merge patch. */
function withNamed(object: unknown, patch: Json): Json {
  const walk = (at: unknown, change: unknown): unknown => {
    if (Array.isArray(change) && Array.isArray(at) && change.every((c) => typeof c === "object" && c !== null && "name" in c))
      return at.map((item: Json) => {
        const own = (change as Json[]).find((c) => c["name"] === item["name"]);
        return own === undefined ? item : merge(item, own);
      });
    if (typeof change !== "object" || change === null || Array.isArray(change)) return change;
    if ((change as Json)["$patch"] === "replace") {
      const { $patch: _patch, ...rest } = change as Json;
      const dropped = Object.fromEntries(Object.keys((at ?? {}) as Json).map((key) => [key, null]));
      return { ...dropped, ...rest };
    }
    return Object.fromEntries(Object.entries(change).map(([key, value]) => [key, walk((at as Json | undefined)?.[key], value)]));
  };
  return walk(object, patch) as Json;
}

function valueAt(object: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (typeof at === "object" && at !== null ? (at as Json)[key] : undefined), object);
}

/** `a=b,c` of a query. */
function parseSelector(text: string): LabelSelector {
  const matchLabels: Record<string, string> = {};
  const matchExpressions: NonNullable<LabelSelector["matchExpressions"]>[number][] = [];
  for (const part of text.split(",").filter((p) => p !== "")) {
    const [key = "", value] = part.split("=");
    if (value === undefined) matchExpressions.push({ key, operator: "Exists" });
    else matchLabels[key] = value;
  }
  return { matchLabels, matchExpressions };
}
