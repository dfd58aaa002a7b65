import { type Cluster, type DescribedWorkload, MAX_WORKLOADS } from "../../api/cluster.ts";
import { NightshiftError } from "../../api/errors.ts";
import { AUTHORED_KINDS, type AuthoredKind } from "../../api/parse.ts";
import { CLUSTER_SCOPED } from "../../api/meta.ts";
import type { ResourceOf } from "../../api/resources.ts";
import { timestamp } from "../../api/time.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Store } from "../../ports/store.ts";
import { minAvailableOf } from "./budgets.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { actionsPort } from "./marks.ts";
import { isMarked, zoneOf } from "./nodes.ts";
import { collectionPath, type OwnerRecord, type PodRecord, RESOURCES, type RecordKind, type Records, recordKey } from "./records.ts";
import { selects } from "./selector.ts";
import { storeError } from "./store-errors.ts";
import { listPath } from "./store-objects.ts";

/** What was captured of a cluster. */
export interface Snapshot {
  readonly cluster: Cluster;
  /** Policies, budgets, runbooks and dependencies, as they would be written in a file. */
  readonly resources: readonly ResourceOf[AuthoredKind][];
  /** What there is besides, and was not captured, one thing a line. */
  readonly leftOut: readonly string[];
}

/** Labels of pods that their owners give them, and that tell nothing of the workload. */
const OWNERS_LABELS: ReadonlySet<string> = new Set([
  "pod-template-hash",
  "controller-revision-hash",
  "pod-template-generation",
  "statefulset.kubernetes.io/pod-name",
  "apps.kubernetes.io/pod-index",
]);
/** The annotation in which kubectl keeps the whole object once more. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";
/** How long pods take to become ready (ms): what is told apart from a pod that was unready later, and the shortest that counts. */
const LONGEST_START_MS = 600_000;
const SHORTEST_START_MS = 1_000;

/**
 * Reads what rehearsals are played on from a cluster: lists of nodes, namespaces, Deployments, StatefulSets, ReplicaSets, pods,
 * PodDisruptionBudgets, HorizontalPodAutoscalers and Nightshift's own kinds. Nothing is written, no Secret or ConfigMap is read,
 * and of pods no more is kept than where they run, their labels, their memory limit and how long they took to start.
 *
 * Rejects with `STORE_UNAVAILABLE` where the API server cannot be reached or refuses, and with `NOTHING_TO_CAPTURE` or
 * `TOO_MUCH_TO_CAPTURE`.
 *
 * @param options.namespaces those whose workloads and resources are captured. Default: all.
 */
export async function takeSnapshot(options: {
  readonly client: Pick<KubeClient, "request">;
  readonly store: Pick<Store, "list">;
  readonly clock: Clock;
  readonly namespaces?: readonly string[];
  readonly progress?: (what: string) => void;
}): Promise<Snapshot> {
  const { client, store, clock, namespaces, progress } = options;
  const ask = async <T>(page: KubeRequest): Promise<T> => {
    try {
      return await client.request<T>(page);
    } catch (error) {
      throw storeError(error, page.path);
    }
  };
  const list = async <K extends RecordKind>(kind: K): Promise<Records[K][]> => {
    progress?.(kind);
    const project = RESOURCES[kind].project as (object: unknown, before: undefined) => Records[K];
    const within = namespaces === undefined || !RESOURCES[kind].namespaced ? [undefined] : namespaces;
    const all: Records[K][] = [];
    for (const namespace of within)
      for (const object of await listPath<unknown>(ask, collectionPath(kind, namespace))) all.push(project(object, undefined));
    return all;
  };
  const capturedAt = timestamp(clock.now());
  const nodes = await list("Node");
  const marked = new Set((await list("Namespace")).filter(isMarked).map(({ name }) => name));
  const owners = [...(await list("Deployment")), ...(await list("StatefulSet"))];
  const sets = new Map((await list("ReplicaSet")).map((set) => [set.uid, set.controller?.uid]));
  const pods = Map.groupBy(await list("Pod"), ({ controller }) => sets.get(controller?.uid ?? "") ?? controller?.uid);
  const pdbs = Map.groupBy(await list("PodDisruptionBudget"), ({ namespace }) => namespace);
  const hpas = await list("HorizontalPodAutoscaler");
  const leftOut: string[] = [];
  const workloads = owners.flatMap((owner): DescribedWorkload[] => {
    if (owner.desired === 0) {
      leftOut.push(`${owner.kind} ${recordKey(owner.namespace, owner.name)}: it has no replicas`);
      return [];
    }
    const hpa = hpas.find(
      ({ namespace, target }) => namespace === owner.namespace && target.kind === owner.kind && target.name === owner.name,
    );
    const its = (pods.get(owner.uid) ?? []).filter(
      ({ phase, deletedAt }) => phase !== "Succeeded" && phase !== "Failed" && deletedAt === undefined,
    );
    const budgets = (pdbs.get(owner.namespace) ?? []).filter(({ selector }) => selects(selector, owner.templateLabels));
    const { minAvailable } = minAvailableOf(budgets, owner.desired, owner.available);
    return [
      described(owner, its, {
        ...(hpa === undefined ? {} : { hpa }),
        minAvailable: minAvailable?.count,
        marked: marked.has(owner.namespace),
      }),
    ];
  });
  const known = new Set(owners.map(({ uid }) => uid));
  const others = Map.groupBy(
    [...pods].flatMap(([uid, its]) => (uid !== undefined && known.has(uid) ? [] : its)),
    ({ controller }) => controller?.kind ?? "none",
  );
  for (const [kind, its] of others)
    leftOut.push(`${its.length} ${its.length === 1 ? "pod" : "pods"} ${kind === "none" ? "without an owner" : `of ${kind}s`}: not played`);
  if (workloads.length === 0 || nodes.length === 0)
    throw new NightshiftError(
      "NOTHING_TO_CAPTURE",
      workloads.length === 0 ? "there is no Deployment or StatefulSet with replicas" : "there is no node",
      {
        where: namespaces === undefined ? "all namespaces" : namespaces.join(", "),
        fix: "Name other namespaces, or look whether this is the cluster that you mean.",
      },
    );
  if (workloads.length > MAX_WORKLOADS)
    throw new NightshiftError(
      "TOO_MUCH_TO_CAPTURE",
      `there are ${workloads.length} workloads; at most ${MAX_WORKLOADS} are rehearsed at once`,
      {
        fix: "Name the namespaces that you mean with -n.",
      },
    );
  const resources: ResourceOf[AuthoredKind][] = [];
  for (const kind of AUTHORED_KINDS) {
    progress?.(kind);
    resources.push(...(await authored(store, kind, namespaces)));
  }
  return {
    cluster: {
      capturedAt,
      nodes: nodes.map((node) => {
        const zone = zoneOf(node);
        return { name: node.name, ...(zone === undefined ? {} : { zone }) };
      }),
      workloads,
    },
    resources,
    leftOut,
  };
}

function described(
  owner: OwnerRecord,
  pods: readonly PodRecord[],
  {
    hpa,
    minAvailable,
    marked,
  }: { readonly hpa?: Records["HorizontalPodAutoscaler"]; readonly minAvailable: number | undefined; readonly marked: boolean },
): DescribedWorkload {
  const limit = pods.find(({ limitBytes }) => limitBytes !== undefined)?.limitBytes;
  const [owned] = owner.gitOps;
  return {
    kind: owner.kind === "StatefulSet" ? "StatefulSet" : "Deployment",
    namespace: owner.namespace,
    name: owner.name,
    labels: { ...owner.labels },
    podLabels: Object.fromEntries(Object.entries(owner.templateLabels).filter(([key]) => !OWNERS_LABELS.has(key))),
    replicas: owner.desired,
    nodes: pods.flatMap(({ node }) => node ?? []).slice(0, owner.desired),
    startup: `${Math.round(startOf(pods) / 1000)}s`,
    grace: "5s",
    ...(limit === undefined ? {} : { memoryLimit: String(limit) }),
    ...(minAvailable === undefined ? {} : { minAvailable }),
    ...(hpa === undefined ? {} : { autoscaler: { min: Math.min(hpa.min, hpa.max), max: hpa.max } }),
    requestsPerSecond: 20,
    calls: [],
    servesActions: pods.some(({ annotations }) => actionsPort(annotations) !== undefined),
    doNotRemediate: marked || isMarked(owner),
    ...(owned === undefined ? {} : { gitOps: owned.owner }),
  };
}

/** How long a pod takes from its creation to its readiness (ms): the median of those that have been ready ever since; ten seconds where none tells. */
function startOf(pods: readonly PodRecord[]): number {
  const took = pods
    .filter(({ ready, restarts }) => ready && restarts === 0)
    .map(({ readyChangedAt, createdAt }) => readyChangedAt - createdAt)
    .filter((ms) => ms <= LONGEST_START_MS)
    .toSorted((a, b) => a - b);
  const median = took[Math.floor(took.length / 2)];
  return median === undefined ? 10_000 : Math.max(SHORTEST_START_MS, median);
}

/** Nightshift's resources of a kind; none where the cluster does not know the kind. */
async function authored<K extends AuthoredKind>(
  store: Pick<Store, "list">,
  kind: K,
  namespaces: readonly string[] | undefined,
): Promise<ResourceOf[K][]> {
  let found: readonly ResourceOf[K][];
  try {
    found = await store.list(kind);
  } catch (error) {
    if (error instanceof NightshiftError && error.code === "NOT_FOUND") return [];
    throw error;
  }
  return found
    .filter(({ metadata }) => namespaces === undefined || CLUSTER_SCOPED.has(kind) || namespaces.includes(metadata.namespace))
    .map((resource) => {
      const { name, namespace, labels, annotations = {} } = resource.metadata;
      const { [LAST_APPLIED]: _, ...kept } = annotations;
      const metadata = {
        name,
        ...(CLUSTER_SCOPED.has(kind) ? {} : { namespace }),
        ...(labels === undefined ? {} : { labels }),
        ...(Object.keys(kept).length === 0 ? {} : { annotations: kept }),
      };
      return { apiVersion: resource.apiVersion, kind, metadata, spec: resource.spec } as unknown as ResourceOf[K];
    });
}
