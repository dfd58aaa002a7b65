/** The name under which the API server notes what Nightshift wrote. */
export const FIELD_MANAGER = "nightshift";

/**
 * Annotations and labels that Nightshift puts on what it touches. Each effect's id stays on the object that it changed,
 * so that the world itself says what has been done, also to the next leader.
 */
export const MARKS = {
  /** Epoch of the leader that wrote the object last. An admission policy compares it with the Lease. */
  epoch: "nightshift.dev/epoch",
  /** Id of the effect that wrote the object last, for people. */
  effect: "nightshift.dev/effect",

  /** On a pod that its ReplicaSet has let go: `<ReplicaSet>/<pod-template-hash>`, which puts it back. */
  detachedFrom: "nightshift.dev/detached-from",
  /** Effect that detached it. */
  detachedBy: "nightshift.dev/detached-by",
  /** Effect that put it back. */
  reattachedBy: "nightshift.dev/reattached-by",
  /**
   * Newest creation time among the pods of its ReplicaSet when it was detached, and which had it (`<time> <uid> ...`): by
   * the API server's clock, so that its replacement can be told from them.
   */
  detachedAfter: "nightshift.dev/detached-after",

  /** On a replacement: the effect that it was started by. */
  startedBy: "nightshift.dev/started-by",
  /** On a replacement: uid of the pod whose place it takes. */
  replaces: "nightshift.dev/replaces",
  /** On a replacement: name of that pod. */
  replacesPod: "nightshift.dev/replaces-pod",

  /** On a pod out of traffic: the labels that were taken off, as JSON. */
  removedLabels: "nightshift.dev/removed-labels",
  /** Effect that took it out of traffic. */
  removedBy: "nightshift.dev/removed-by",
  /** Effect that put it back into traffic. */
  restoredBy: "nightshift.dev/restored-by",

  /** On a pod that is about to be stopped or evicted: the effect that does it. */
  stoppedBy: "nightshift.dev/stopped-by",

  /** On a pod, by its owner: the port on which it serves actions. */
  actionsPort: "nightshift.dev/actions-port",
  /** On a pod: the effect that asked it for an action last. */
  invokedBy: "nightshift.dev/invoked-by",

  /** On a workload or a HorizontalPodAutoscaler: the effect that raised its replicas or its floor. */
  scaledBy: "nightshift.dev/scaled-by",
  /** What that effect set. */
  scaledTo: "nightshift.dev/scaled-to",
  /** What there was before it. */
  scaledFrom: "nightshift.dev/scaled-from",
  /** Effect that took it back. */
  scaledBackBy: "nightshift.dev/scaled-back-by",

  /** On a workload: the effect that restarted it by a rollout. */
  restartedBy: "nightshift.dev/restarted-by",
  /** On a workload: names of the revisions that it was rolled back from, separated by commas. */
  rolledBackFrom: "nightshift.dev/rolled-back-from",
  /** On a workload: the effect that rolled it back. */
  rolledBackBy: "nightshift.dev/rolled-back-by",
  /** On a ReplicaSet or ControllerRevision: since when it was wholly available, as an RFC 3339 time. */
  healthySince: "nightshift.dev/healthy-since",

  /** On a pod, or on a workload where its template was changed: the effect that raised the memory. */
  resizedBy: "nightshift.dev/resized-by",
  /** The container's resources before it, as JSON (`{container, resources}`). */
  resizedFrom: "nightshift.dev/resized-from",
  /** Its memory limit after it (bytes). */
  resizedTo: "nightshift.dev/resized-to",
  /** Effect that took it back. */
  resizedBackBy: "nightshift.dev/resized-back-by",

  /** On a node: the effect that cordoned it. */
  cordonedBy: "nightshift.dev/cordoned-by",
  /** On a node: the effect that had cordoned it, and was taken back. */
  uncordoned: "nightshift.dev/uncordoned",
} as const;

/** The port on which a pod with these annotations serves actions; undefined where it serves none. */
export function actionsPort(annotations: Readonly<Record<string, string>>): number | undefined {
  const text = annotations[MARKS.actionsPort] ?? "";
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}

/** Prefix of everything that is Nightshift's. */
export const PREFIX = "nightshift.dev/";

/** Label by which a Deployment tells its ReplicaSets' pods apart. */
export const POD_TEMPLATE_HASH = "pod-template-hash";
/** Label of an EndpointSlice that names its Service. */
export const SERVICE_NAME = "kubernetes.io/service-name";
/** Annotation of a pod: the ReplicaSet lets the lowest go first. */
export const DELETION_COST = "controller.kubernetes.io/pod-deletion-cost";
/** Annotation of the pods that a kubelet runs from files: the API server cannot stop them. */
export const MIRROR = "kubernetes.io/config.mirror";
/** Annotation of a Deployment and of its ReplicaSets. */
export const DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision";
/** Annotation of a pod: the container that it is about. */
export const DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container";
/** Annotation of a pod template, as `kubectl rollout restart` sets it. */
export const RESTARTED_AT = "kubectl.kubernetes.io/restartedAt";
