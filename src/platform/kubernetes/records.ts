import { createHash } from "node:crypto";
import { DO_NOT_REMEDIATE } from "../../api/meta.ts";
import { timeMs } from "../../api/time.ts";
import type { NodeCondition } from "../../ports/platform.ts";
import { configMapsOf } from "./template-refs.ts";
import { ownedFields, type OwnedField } from "./gitops.ts";
import { DEFAULT_CONTAINER, DELETION_COST, DEPLOYMENT_REVISION, MIRROR, POD_TEMPLATE_HASH, PREFIX, SERVICE_NAME } from "./marks.ts";
import type {
  Condition,
  ControllerRevision,
  EndpointSlice,
  HorizontalPodAutoscaler,
  KubeObject,
  LabelSelector,
  Namespace,
  Node,
  ObjectMeta,
  Owner,
  OwnerReference,
  Pod,
  PodDisruptionBudget,
  Service,
} from "./objects.ts";
import { podStates, type PodStateRecord } from "./pod-states.ts";
import { quantityNumber } from "./quantity.ts";

// The few fields of each object that the loop reads. Times are milliseconds since the epoch, by the API server's clock.

type Texts = Readonly<Record<string, string>>;

/** What every record has. */
export interface BaseRecord {
  /** Empty for what belongs to no namespace. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
}

/** Who controls an object. */
export interface ControllerRef {
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
}

export interface PodRecord extends BaseRecord {
  readonly labels: Texts;
  /** Those that the loop reads only. */
  readonly annotations: Texts;
  readonly controller?: ControllerRef;
  readonly node?: string;
  readonly phase: "Pending" | "Running" | "Succeeded" | "Failed" | "Unknown";
  readonly ready: boolean;
  /** Since when its readiness is as it is. */
  readonly readyChangedAt: number;
  readonly everReady: boolean;
  /** When its main container was started last; its creation before that. */
  readonly startedAt: number;
  readonly createdAt: number;
  readonly deletedAt?: number;
  readonly restarts: number;
  /** Memory limit of its main container (bytes), as the kubelet has carried it out. */
  readonly limitBytes?: number;
  readonly container: string;
  /** What is wrong with it; absent where nothing is, which is most of the time. */
  readonly states?: readonly PodStateRecord[];
  /** Run by a kubelet from a file. */
  readonly mirror: boolean;
}

export const OWNER_KINDS = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] as const;
export type OwnerKind = (typeof OWNER_KINDS)[number];

export interface OwnerRecord extends BaseRecord {
  readonly kind: OwnerKind;
  readonly labels: Texts;
  readonly annotations: Texts;
  readonly controller?: ControllerRef;
  readonly createdAt: number;
  readonly generation: number;
  readonly observedGeneration: number;
  /** How many it should have. */
  readonly desired: number;
  /** How many it has made. */
  readonly replicas: number;
  readonly available: number;
  readonly updated: number;
  readonly paused: boolean;
  /** Message of the condition that says that its rollout makes no progress. */
  readonly stalled?: string;
  /** Its template has no ReplicaSet, as none could be made: its newest revision is the one before. */
  readonly unmade?: true;
  /** Since when that condition says so. */
  readonly stalledAt?: number;
  /** Of a StatefulSet or DaemonSet: when its status last said that its rollout got further. */
  readonly progressAt?: number;
  /**
   * Of a StatefulSet or DaemonSet: its present template has not been everywhere where it is to be (on every node, down to the
   * partition), with all replicas available, yet. Absent where that is not known.
   */
  readonly unfinished?: true;
  /** Labels of the pods that it makes. */
  readonly templateLabels: Texts;
  /** The same for the same pod template. */
  readonly templateHash: string;
  /** A ReplicaSet's `pod-template-hash`. */
  readonly podTemplateHash?: string;
  /** Revision number of a Deployment or ReplicaSet. */
  readonly revision: number;
  /** Revisions of a StatefulSet, by name of their ControllerRevision. */
  readonly currentRevision?: string;
  readonly updateRevision?: string;
  /** Whether a change of the template replaces its pods; a StatefulSet's partition is left alone. */
  readonly rolls: boolean;
  readonly partition: number;
  readonly gitOps: readonly OwnedField[];
  /** ConfigMaps that its template names; absent where it names none. */
  readonly configMaps?: readonly string[];
}

/** A ControllerRevision. */
export interface RevisionRecord extends BaseRecord {
  readonly controller?: ControllerRef;
  readonly revision: number;
  readonly createdAt: number;
  readonly annotations: Texts;
}

export interface ServiceRecord extends BaseRecord {
  readonly selector?: Texts;
}

export interface SliceRecord extends BaseRecord {
  readonly service: string;
  readonly endpoints: readonly { readonly pod: string; readonly uid: string; readonly ready: boolean }[];
}

export interface PdbRecord extends BaseRecord {
  readonly selector?: LabelSelector;
  readonly minAvailable?: number | string;
  readonly maxUnavailable?: number | string;
  readonly disruptionsAllowed: number;
  readonly currentHealthy: number;
  readonly desiredHealthy: number;
  readonly expectedPods: number;
}

export interface HpaRecord extends BaseRecord {
  readonly target: { readonly kind: string; readonly name: string };
  readonly min: number;
  readonly max: number;
  readonly annotations: Texts;
  readonly gitOps: readonly OwnedField[];
}

export interface NodeRecord extends BaseRecord {
  readonly labels: Texts;
  readonly annotations: Texts;
  readonly unschedulable: boolean;
  /** Its `Ready` condition; `Unknown` where its kubelet is not heard of. */
  readonly ready: "True" | "False" | "Unknown";
  readonly readyChangedAt: number;
  readonly readyMessage: string;
  /** Its other conditions, `Ready` among them. Heartbeats are left out. */
  readonly conditions: readonly NodeCondition[];
  readonly createdAt: number;
}

export interface NamespaceRecord extends BaseRecord {
  readonly labels: Texts;
  readonly annotations: Texts;
}

/** The record of each kind. */
export interface Records {
  Pod: PodRecord;
  Deployment: OwnerRecord;
  ReplicaSet: OwnerRecord;
  StatefulSet: OwnerRecord;
  DaemonSet: OwnerRecord;
  ControllerRevision: RevisionRecord;
  Service: ServiceRecord;
  EndpointSlice: SliceRecord;
  PodDisruptionBudget: PdbRecord;
  HorizontalPodAutoscaler: HpaRecord;
  Node: NodeRecord;
  Namespace: NamespaceRecord;
}
export type RecordKind = keyof Records;

/** Where the objects of each kind are, and what is kept of them. */
export const RESOURCES: {
  readonly [K in RecordKind]: {
    /** Of the whole cluster. */
    readonly path: string;
    readonly namespaced: boolean;
    readonly project: (object: never, before: Records[K] | undefined) => Records[K];
  };
} = {
  Pod: { path: "/api/v1/pods", namespaced: true, project: projectPod },
  Deployment: { path: "/apis/apps/v1/deployments", namespaced: true, project: owner("Deployment") },
  ReplicaSet: { path: "/apis/apps/v1/replicasets", namespaced: true, project: owner("ReplicaSet") },
  StatefulSet: { path: "/apis/apps/v1/statefulsets", namespaced: true, project: owner("StatefulSet") },
  DaemonSet: { path: "/apis/apps/v1/daemonsets", namespaced: true, project: owner("DaemonSet") },
  ControllerRevision: { path: "/apis/apps/v1/controllerrevisions", namespaced: true, project: projectRevision },
  Service: { path: "/api/v1/services", namespaced: true, project: projectService },
  EndpointSlice: { path: "/apis/discovery.k8s.io/v1/endpointslices", namespaced: true, project: projectSlice },
  PodDisruptionBudget: { path: "/apis/policy/v1/poddisruptionbudgets", namespaced: true, project: projectPdb },
  HorizontalPodAutoscaler: { path: "/apis/autoscaling/v2/horizontalpodautoscalers", namespaced: true, project: projectHpa },
  Node: { path: "/api/v1/nodes", namespaced: false, project: projectNode },
  Namespace: { path: "/api/v1/namespaces", namespaced: false, project: projectNamespace },
};
export const RECORD_KINDS = Object.keys(RESOURCES) as RecordKind[];

/** Path of the objects of a kind, in one namespace or everywhere. */
export function collectionPath(kind: RecordKind, namespace?: string): string {
  const { path, namespaced } = RESOURCES[kind];
  if (namespace === undefined || !namespaced) return path;
  const at = path.lastIndexOf("/");
  return `${path.slice(0, at)}/namespaces/${namespace}${path.slice(at)}`;
}

/** Group and version of a kind, such as `apps/v1`. */
export function apiVersionOf(kind: RecordKind): string {
  const [, api, ...rest] = RESOURCES[kind].path.split("/");
  return api === "api" ? (rest[0] ?? "") : rest.slice(0, 2).join("/");
}

/** Path of one object. */
export function objectPath(kind: RecordKind, namespace: string, name: string): string {
  return `${collectionPath(kind, namespace)}/${name}`;
}

/** Key of an object among those of its kind. */
export function recordKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

const EMPTY: Texts = Object.freeze({});
/** Annotations that the loop reads, beside Nightshift's own. */
const KEPT = new Set([DELETION_COST, DEPLOYMENT_REVISION]);

function base({ namespace = "", name, uid, resourceVersion }: ObjectMeta): BaseRecord {
  return { namespace, name, uid, resourceVersion };
}

function kept(annotations: Texts | undefined): Texts {
  if (annotations === undefined) return EMPTY;
  const entries = Object.entries(annotations).filter(([key]) => key.startsWith(PREFIX) || KEPT.has(key));
  return entries.length === 0 ? EMPTY : Object.fromEntries(entries);
}

function controllerOf(references: readonly OwnerReference[] | undefined): { controller?: ControllerRef } {
  const found = references?.find((reference) => reference.controller === true);
  return found === undefined ? {} : { controller: { kind: found.kind, name: found.name, uid: found.uid } };
}

/** The API server says null of a time that nobody knows. */
const time = (text: string | null | undefined): number | undefined => (text === undefined || text === null ? undefined : timeMs(text));

function conditionOf(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/**
 * A kubelet sets the first `Ready: False` within this time of `startTime` (ms): both are whole seconds of its clock. A
 * later change to it means that the pod was ready before.
 */
const FIRST_CONDITION_MS = 2_000;

/** What is kept of a pod. `before` is the record of the same name that it takes the place of, where there was one. */
export function projectPod(pod: Pod, before?: PodRecord): PodRecord {
  const { metadata, spec, status } = pod;
  const createdAt = time(metadata.creationTimestamp) ?? 0;
  const began = time(status?.startTime) ?? createdAt;
  const condition = conditionOf(status?.conditions, "Ready");
  const ready = condition?.status === "True";
  const readyChangedAt = time(condition?.lastTransitionTime) ?? began;
  const container = mainContainer(pod);
  const state = status?.containerStatuses?.find((c) => c.name === container);
  const resources = state?.resources ?? spec.containers.find((c) => c.name === container)?.resources;
  const limitBytes = quantityNumber(resources?.limits?.["memory"]);
  const deletedAt = time(metadata.deletionTimestamp);
  const states = podStates(pod, before?.uid === metadata.uid ? before.states : undefined);
  return {
    ...base(metadata),
    labels: metadata.labels ?? EMPTY,
    annotations: kept(metadata.annotations),
    ...controllerOf(metadata.ownerReferences),
    ...(spec.nodeName === undefined ? {} : { node: spec.nodeName }),
    phase: (status?.phase ?? "Pending") as PodRecord["phase"],
    ready,
    readyChangedAt,
    everReady: ready || (before?.uid === metadata.uid && before.everReady) || readyChangedAt > began + FIRST_CONDITION_MS,
    startedAt: time(state?.state?.running?.startedAt) ?? began,
    createdAt,
    ...(deletedAt === undefined ? {} : { deletedAt }),
    restarts: (status?.containerStatuses ?? []).reduce((sum, c) => sum + (c.restartCount ?? 0), 0),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    container,
    ...(states.length === 0 ? {} : { states }),
    mirror: metadata.annotations?.[MIRROR] !== undefined,
  };
}

/** The container that a pod is about: the one that its annotation names, else the first. */
export function mainContainer(pod: Pick<Pod, "spec"> & { readonly metadata?: Pick<ObjectMeta, "annotations"> }): string {
  const named = pod.metadata?.annotations?.[DEFAULT_CONTAINER];
  const { containers } = pod.spec;
  return containers.find((c) => c.name === named)?.name ?? containers[0]?.name ?? "";
}

function owner(kind: OwnerKind): (object: Owner, before: OwnerRecord | undefined) => OwnerRecord {
  return (object, before) => projectOwner(kind, object, before);
}

/**
 * When a StatefulSet or DaemonSet got further: as long as no more pods are updated or available than before, it stays. There
 * is no condition that says it; before the first change that was seen, the last change of the status is the latest that it can be.
 */
function progressOf(record: OwnerRecord, object: Owner, before: OwnerRecord | undefined): number {
  const isSame =
    before !== undefined &&
    before.generation === record.generation &&
    before.updateRevision === record.updateRevision &&
    record.updated <= before.updated &&
    record.available <= before.available;
  if (isSame && before?.progressAt !== undefined) return before.progressAt;
  const times = (object.metadata.managedFields ?? []).filter((f) => f.subresource === "status").map((f) => time(f.time) ?? 0);
  return Math.max(record.createdAt, ...times);
}

/** Why a Deployment makes no progress whose ReplicaSet the API server would not take, be it for a moment (`FailedRSCreateReason`). */
const NOT_MADE = "ReplicaSetCreateError";

/** What is kept of a Deployment, ReplicaSet, StatefulSet or DaemonSet. `before`: what was kept of it. */
export function projectOwner(kind: OwnerKind, object: Owner, before?: OwnerRecord): OwnerRecord {
  const { metadata, spec, status = {} } = object;
  const progressing = conditionOf(status.conditions, "Progressing");
  const podTemplateHash = kind === "ReplicaSet" ? spec.selector?.matchLabels?.[POD_TEMPLATE_HASH] : undefined;
  const daemon = kind === "DaemonSet";
  const configMaps = kind === "ReplicaSet" ? [] : configMapsOf(spec.template?.spec);
  const record: OwnerRecord = {
    ...base(metadata),
    kind,
    labels: metadata.labels ?? EMPTY,
    annotations: kept(metadata.annotations),
    ...controllerOf(metadata.ownerReferences),
    createdAt: time(metadata.creationTimestamp) ?? 0,
    generation: metadata.generation ?? 0,
    observedGeneration: status.observedGeneration ?? 0,
    desired: daemon ? (status.desiredNumberScheduled ?? 0) : (spec.replicas ?? 1),
    replicas: status.replicas ?? 0,
    available: (daemon ? status.numberAvailable : status.availableReplicas) ?? 0,
    updated: (daemon ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0,
    paused: spec.paused ?? false,
    ...(progressing?.status === "False"
      ? {
          stalled: progressing.message ?? progressing.reason ?? "no progress",
          ...(progressing.reason === NOT_MADE ? { unmade: true as const } : {}),
          stalledAt: time(progressing.lastTransitionTime) ?? time(metadata.creationTimestamp) ?? 0,
        }
      : {}),
    templateLabels: spec.template?.metadata?.labels ?? EMPTY,
    // A ReplicaSet's is its Deployment's: not asked for, and there are many.
    templateHash: kind === "ReplicaSet" ? "" : templateHash(spec.template),
    ...(podTemplateHash === undefined ? {} : { podTemplateHash }),
    revision: Number(metadata.annotations?.[DEPLOYMENT_REVISION] ?? 0),
    ...(status.currentRevision === undefined ? {} : { currentRevision: status.currentRevision }),
    ...(status.updateRevision === undefined ? {} : { updateRevision: status.updateRevision }),
    rolls: spec.updateStrategy?.type !== "OnDelete",
    partition: spec.updateStrategy?.rollingUpdate?.partition ?? 0,
    gitOps: ownedFields(object),
    ...(configMaps.length === 0 ? {} : { configMaps }),
  };
  if (kind !== "StatefulSet" && !daemon) return record;
  const known = before?.uid === record.uid ? before : undefined;
  const wanted = daemon ? record.desired : Math.max(0, record.desired - record.partition);
  const begun = record.updated < wanted || known?.unfinished === true;
  const changed = known !== undefined && known.templateHash !== record.templateHash;
  const done = record.updated >= wanted && record.available >= record.desired && !changed;
  return {
    ...record,
    progressAt: progressOf(record, object, known),
    ...((begun || changed) && !done ? { unfinished: true as const } : {}),
  };
}

/** Identity of a pod template: the same for the same content, whatever the order of its fields. */
export function templateHash(template: unknown): string {
  return createHash("sha256")
    .update(JSON.stringify(sortedKeys(template)) ?? "")
    .digest("hex")
    .slice(0, 16);
}

function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, child]) => [key, sortedKeys(child)]),
  );
}

function projectRevision(object: ControllerRevision): RevisionRecord {
  const { metadata, revision } = object;
  return {
    ...base(metadata),
    ...controllerOf(metadata.ownerReferences),
    revision,
    createdAt: time(metadata.creationTimestamp) ?? 0,
    annotations: kept(metadata.annotations),
  };
}

function projectService({ metadata, spec }: Service): ServiceRecord {
  return { ...base(metadata), ...(spec?.selector === undefined ? {} : { selector: spec.selector }) };
}

/** What is kept of an EndpointSlice: its pods. */
export function projectSlice({ metadata, endpoints }: EndpointSlice): SliceRecord {
  return {
    ...base(metadata),
    service: metadata.labels?.[SERVICE_NAME] ?? "",
    // The API server says null where there are none.
    endpoints: (endpoints ?? []).flatMap(({ targetRef, conditions }) =>
      targetRef?.kind === "Pod"
        ? // Absent means ready, by the API's documentation.
          [{ pod: targetRef.name ?? "", uid: targetRef.uid ?? "", ready: conditions?.ready ?? true }]
        : [],
    ),
  };
}

function projectPdb({ metadata, spec = {}, status = {} }: PodDisruptionBudget): PdbRecord {
  const { selector, minAvailable, maxUnavailable } = spec;
  return {
    ...base(metadata),
    ...(selector === undefined ? {} : { selector }),
    ...(minAvailable === undefined ? {} : { minAvailable }),
    ...(maxUnavailable === undefined ? {} : { maxUnavailable }),
    disruptionsAllowed: status.disruptionsAllowed ?? 0,
    currentHealthy: status.currentHealthy ?? 0,
    desiredHealthy: status.desiredHealthy ?? 0,
    expectedPods: status.expectedPods ?? 0,
  };
}

function projectHpa(object: HorizontalPodAutoscaler): HpaRecord {
  const { metadata, spec } = object;
  return {
    ...base(metadata),
    target: { kind: spec.scaleTargetRef.kind, name: spec.scaleTargetRef.name },
    min: spec.minReplicas ?? 1,
    max: spec.maxReplicas,
    annotations: kept(metadata.annotations),
    gitOps: ownedFields(object),
  };
}

function projectNode({ metadata, spec, status }: Node): NodeRecord {
  const condition = conditionOf(status?.conditions, "Ready");
  const createdAt = time(metadata.creationTimestamp) ?? 0;
  return {
    ...base(metadata),
    labels: metadata.labels ?? EMPTY,
    annotations: kept(metadata.annotations),
    unschedulable: spec?.unschedulable ?? false,
    ready: condition?.status ?? "Unknown",
    readyChangedAt: time(condition?.lastTransitionTime) ?? createdAt,
    readyMessage: condition?.message ?? condition?.reason ?? "it has no Ready condition",
    conditions: (status?.conditions ?? []).flatMap(({ type, status: value, lastTransitionTime, message, reason }) => {
      const since = time(lastTransitionTime);
      // That it lasts since the node was made is nothing that anybody has said.
      return since === undefined ? [] : [{ type, status: value, since, message: message ?? reason ?? "" }];
    }),
    createdAt,
  };
}

function projectNamespace({ metadata }: Namespace): NamespaceRecord {
  const { labels } = metadata;
  // Its labels are read for do-not-remediate only.
  const mark = labels?.[DO_NOT_REMEDIATE];
  return {
    ...base(metadata),
    labels: mark === undefined ? EMPTY : { [DO_NOT_REMEDIATE]: mark },
    annotations: kept(metadata.annotations),
  };
}

/** Whether a resourceVersion is the same as another or newer. They can be compared since Kubernetes 1.35 (KEP 5504). */
export function isAtLeast(resourceVersion: string, other: string): boolean {
  return resourceVersion.length === other.length ? resourceVersion >= other : resourceVersion.length > other.length;
}

export type { KubeObject };
