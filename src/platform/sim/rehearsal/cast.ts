import type { Cluster, DescribedWorkload } from "../../../api/cluster.ts";
import type { ServiceDependency } from "../../../api/dependency.ts";
import { NightshiftError } from "../../../api/errors.ts";
import type { RemediationBudget } from "../../../api/budget.ts";
import type { Mode, RemediationPolicy } from "../../../api/policy.ts";
import type { Runbook } from "../../../api/runbook.ts";
import { covers, type Matchable } from "../../../api/targets.ts";
import { timeMs } from "../../../api/time.ts";
import { durationMs, quantityBytes } from "../../../api/units.ts";
import { type Fault, type FaultKind, type Scenario, workloadKey, type WorkloadSpec } from "../scenario.ts";
import type { FileFault, ScenarioFile } from "./scenario-file.ts";
import { monitoringOf, type Naming, namingsOf } from "./symptoms.ts";

/** What users rehearse, all from their files. */
export interface Resources {
  readonly policies: readonly RemediationPolicy[];
  readonly budgets: readonly RemediationBudget[];
  readonly runbooks: readonly Runbook[];
  readonly dependencies: readonly ServiceDependency[];
}

/** How often operators ask Alertmanager what fires, where they do (ms). */
const ASKED_MS = 30_000;
/** Kinds that befall a workload, or something of it. */
const OF_WORKLOADS: ReadonlySet<FaultKind> = new Set([
  "PodHang",
  "PodErrors",
  "PodLeak",
  "PodCrash",
  "CrashLoop",
  "SlowStart",
  "ServiceErrors",
  "DeletePod",
  "ScaleByPerson",
  "ResizeByPerson",
  "Rollout",
  "BadRollout",
  "Mark",
  "GitOpsReverts",
  "AlertFlapping",
  "DiskFull",
  "PoolExhausted",
  "Overload",
  "PodCondition",
  "WorkloadCondition",
]);
const OF_NODES: ReadonlySet<FaultKind> = new Set(["NodeDown", "NodeIll", "NodeGone", "ZoneDown", "ResizeRefused"]);
const OF_POLICIES: ReadonlySet<FaultKind> = new Set(["PausePolicy", "EditMode", "EditPolicy", "DeletePolicy"]);
/** What happens at a moment and does not last. */
const AT_ONCE: ReadonlySet<FaultKind> = new Set([
  "PodCrash",
  "DeletePod",
  "ScaleByPerson",
  "ResizeByPerson",
  "Rollout",
  "WatchGone",
  "Crash",
  "Stop",
  "LeaseDeleted",
  "AlertReplay",
]);

/** A fault of a file in a run. */
export interface CastFault {
  readonly file: FileFault;
  readonly at: number;
  /** When it ends by itself (ms since the beginning). */
  readonly until: number;
  /** Workloads that it befalls, by key. */
  readonly befallen: readonly string[];
  /** Those that it reaches by what they call. */
  readonly through: readonly string[];
}

/** A scenario as it is played: on a cluster, with resources, and about one workload. */
export interface Cast {
  readonly scenario: Scenario;
  readonly target: string;
  readonly faults: readonly CastFault[];
}

/** Key of a described workload. */
export function keyOf({ namespace, name }: Pick<DescribedWorkload, "namespace" | "name">): string {
  return workloadKey({ namespace, name });
}

/** A described workload as policies are matched with it, and one of its pods. */
function matchables({ kind, namespace, name, labels, podLabels }: DescribedWorkload): { workload: Matchable; replica: Matchable } {
  return {
    workload: { ref: { kind, namespace, name }, labels },
    replica: { ref: { kind: "Pod", namespace, name: `${name}-0` }, labels: podLabels },
  };
}

/** The policies that cover a workload, or its pods. */
export function policiesOf(workload: DescribedWorkload, policies: readonly RemediationPolicy[]): RemediationPolicy[] {
  const { workload: whole, replica } = matchables(workload);
  return policies.filter((policy) => covers(policy, whole) || covers(policy, whole, replica));
}

/** Name of the one pool that the nodes of a described cluster are in. */
const POOL = "nodes";

/** The namespace that nodes are targets in: that of the policies that are for nodes. */
function nodesIn(policies: readonly RemediationPolicy[]): string | undefined {
  return policies.find(({ spec }) => spec.targets.some(({ kind }) => kind === "Node"))?.metadata.namespace;
}

/** Key of the pool of nodes, as workloads have keys; undefined where no policy is for nodes. */
export function poolKeyOf(policies: readonly RemediationPolicy[]): string | undefined {
  const namespace = nodesIn(policies);
  return namespace === undefined ? undefined : workloadKey({ namespace, name: POOL });
}

/** The policies that cover what a key names: a workload or its pods, or the pool or its nodes. */
export function coveringOf(cluster: Cluster, key: string, policies: readonly RemediationPolicy[]): RemediationPolicy[] {
  const namespace = nodesIn(policies);
  if (namespace === undefined || key !== poolKeyOf(policies)) return policiesOf(describedOf(cluster, key), policies);
  const pool = { ref: { kind: "NodePool", namespace, name: POOL }, labels: {} };
  return policies.filter((policy) =>
    cluster.nodes.some(({ name, labels = {} }) =>
      covers(policy, pool, { ref: { kind: "Node", namespace, name }, labels: { "kubernetes.io/os": "linux", ...labels } }),
    ),
  );
}

/** One workload for each group that the same policies cover: those of a group fare alike. And the pool of nodes, where one is for them. */
export function targetsOf(cluster: Cluster, policies: readonly RemediationPolicy[]): string[] {
  const groups = new Map<string, string>();
  for (const workload of cluster.workloads) {
    const covering = policiesOf(workload, policies);
    const group = covering.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).join(" ");
    if (covering.length > 0 && !groups.has(group)) groups.set(group, keyOf(workload));
  }
  const pool = poolKeyOf(policies);
  return [...groups.values(), ...(pool !== undefined && coveringOf(cluster, pool, policies).length > 0 ? [pool] : [])];
}

/** Workloads besides those that policies name, in each of their namespaces: without neighbours nothing can be told from a storm. */
const NEIGHBOURS = 3;

/** A cluster with what the policies name: six nodes in three zones, and three replicas of each workload. */
export function clusterFor({ policies, dependencies }: Resources): Cluster {
  const workloads = new Map<string, DescribedWorkload>();
  const put = (more: Partial<DescribedWorkload> & Pick<DescribedWorkload, "namespace" | "name">): void => {
    const key = keyOf(more);
    const known = workloads.get(key) ?? { ...MADE_UP, namespace: more.namespace, name: more.name };
    workloads.set(key, {
      ...known,
      ...more,
      labels: { ...known.labels, ...more.labels },
      podLabels: { ...known.podLabels, ...more.podLabels },
    });
  };
  for (const { metadata, spec } of policies)
    for (const { kind, name, selector } of spec.targets) {
      const { namespace } = metadata;
      const labels = selector?.matchLabels ?? {};
      const called = name ?? labels["app.kubernetes.io/name"] ?? labels["app"] ?? metadata.name;
      if (kind === "Node" || kind === "DaemonSet" || (kind === "Pod" && name !== undefined)) continue;
      if (kind === "Pod") put({ namespace, name: called, podLabels: labels });
      else put({ namespace, name: called, labels, ...(kind === "StatefulSet" ? { kind } : {}) });
    }
  for (const { metadata, spec } of dependencies) {
    put({ namespace: spec.from.namespace ?? metadata.namespace, name: spec.from.name });
    put({ namespace: spec.to.namespace ?? metadata.namespace, name: spec.to.name });
  }
  for (const namespace of new Set(policies.map(({ metadata }) => metadata.namespace)))
    for (let i = 1; i <= NEIGHBOURS; i++) put({ namespace, name: `neighbour-${i}` });
  const wanted = policies.flatMap(({ spec }) =>
    spec.targets.flatMap(({ kind, selector }) => (kind === "Node" ? [selector?.matchLabels] : [])),
  );
  const labels = Object.assign({}, ...wanted) as Record<string, string>;
  const nodes = Array.from({ length: 6 }, (_, i) => ({ name: `node-${i + 1}`, zone: `zone-${"abc"[i % 3] ?? ""}`, labels }));
  return { nodes, workloads: [...workloads.values()] };
}

const MADE_UP: Omit<DescribedWorkload, "namespace" | "name"> = {
  kind: "Deployment",
  labels: {},
  podLabels: {},
  replicas: 3,
  nodes: [],
  startup: "10s",
  grace: "5s",
  requestsPerSecond: 20,
  calls: [],
  servesActions: false,
  doNotRemediate: false,
};

/** Which scenario is put on which cluster, and how. */
export interface CastRequest {
  readonly file: ScenarioFile;
  readonly cluster: Cluster;
  readonly resources: Resources;
  readonly target: string;
  readonly seed: number;
  readonly namings: readonly Naming[];
  /** In the place of every policy's mode. */
  readonly mode?: Mode;
}

/**
 * Puts a scenario on a cluster. Throws `NOT_PLAYABLE` where the target has not what the scenario is about, such as a
 * dependency, and `UNKNOWN_WORKLOAD` where a file names a workload that is not there.
 */
export function cast(options: CastRequest): Cast {
  const { file, cluster, resources, target, seed, mode } = options;
  const policies = resources.policies.map((policy) => (mode === undefined ? policy : { ...policy, spec: { ...policy.spec, mode } }));
  const workloads = specsOf(cluster, resources.dependencies);
  const known = new Map(workloads.map((spec) => [workloadKey(spec), spec]));
  const of = known.get(target);
  const pool = poolKeyOf(policies);
  if (of === undefined && target !== pool) throw notPlayable(`the cluster has no workload ${target}`);
  const lasts = durationMs(file.lasts);
  const zones = new Map(cluster.nodes.map(({ name, zone }) => [name, zone]));
  const faults: Fault[] = [];
  const ofFile = file.faults.map((fault): CastFault => {
    const at = durationMs(fault.at);
    const until = AT_ONCE.has(fault.kind) ? lasts : Math.min(lasts, fault.for === undefined ? lasts : at + durationMs(fault.for));
    const common = {
      kind: fault.kind,
      at,
      for: AT_ONCE.has(fault.kind) ? 0 : until - at,
      ...(fault.share === undefined ? {} : { rate: fault.share }),
      ...(fault.takes === undefined ? {} : { ms: durationMs(fault.takes) }),
      ...(fault.count === undefined ? {} : { count: fault.count }),
      ...(fault.what === undefined ? {} : { what: fault.what }),
      ...(fault.recurs ? { sticky: true } : {}),
      ...(fault.endedBy === undefined ? {} : { endedBy: fault.endedBy }),
    };
    const add = (more: Partial<Fault>): void => void faults.push({ id: faults.length, ...common, ...more });
    const befallen = befallenBy(fault, target, known, workloads);
    if (OF_NODES.has(fault.kind)) {
      const node = (known.get(befallen[0] ?? target) ?? of)?.on?.[0] ?? cluster.nodes[0]?.name ?? "";
      const zone = zones.get(node);
      if (fault.kind === "ZoneDown" && zone === undefined) throw notPlayable(`no zone of node ${node} is known`);
      const isHit = (name: string): boolean => (fault.kind === "ZoneDown" ? zones.get(name) === zone : name === node);
      add(fault.kind === "ZoneDown" && zone !== undefined ? { zone } : { node });
      // An ill node is closed to what is new, and one without memory gives none: what is on it runs on.
      const hit =
        fault.kind === "NodeIll" || fault.kind === "ResizeRefused"
          ? []
          : workloads.filter(({ on = [] }) => on.some(isHit)).map(workloadKey);
      return { file: fault, at, until, befallen: [...(pool === undefined ? [] : [pool]), ...hit], through: [] };
    }
    if (OF_WORKLOADS.has(fault.kind)) {
      if (befallen[0] === pool && pool !== undefined && fault.what !== "Node")
        throw notPlayable(`${fault.kind} befalls workloads, and ${pool} is a pool of nodes`);
      for (const key of befallen) {
        const spec = known.get(key);
        add({
          workload: key,
          index: 0,
          ...(fault.count === undefined ? { count: fault.replicas === "all" ? (spec?.replicas ?? 1) : fault.replicas } : {}),
        });
      }
      const through = fault.on === "Dependency" ? [target] : [];
      return { file: fault, at, until, befallen, through };
    }
    const covering = policies.findIndex((policy) => coveringOf(cluster, target, policies).includes(policy));
    add(OF_POLICIES.has(fault.kind) ? { index: Math.max(0, covering) } : {});
    return { file: fault, at, until, befallen: [], through: [] };
  });
  const { scrape, evaluate, for: holds, groupWait, groupInterval, repeat, asked } = file.monitoring;
  const { rules, metrics } = monitoringOf(policies, namingsOf(file, options.namings), durationMs(holds));
  const { answer, after } = file.approver;
  return {
    target,
    faults: ofFile,
    scenario: {
      seed,
      startsAt: timeMs(file.time),
      faultsUntil: lasts,
      operators: file.operators,
      nodes: cluster.nodes.map(({ name, zone, labels = {} }) => ({ name, labels, ...(zone === undefined ? {} : { zone }) })),
      ...(pool === undefined ? {} : { nodesIn: nodesIn(policies) ?? "" }),
      workloads,
      policies,
      budgets: resources.budgets,
      dependencies: resources.dependencies,
      runbooks: resources.runbooks,
      metrics,
      autoscaleByLoad: true,
      jobFailures: 0,
      monitoring: {
        scrapeMs: durationMs(scrape),
        evaluateMs: durationMs(evaluate),
        rules,
        groupWaitMs: durationMs(groupWait),
        groupIntervalMs: durationMs(groupInterval),
        repeatMs: durationMs(repeat),
        ...(asked ? { askedMs: ASKED_MS } : {}),
      },
      approver: { afterMs: durationMs(after), approves: answer === "Approve" ? 1 : 0, denies: answer === "Deny" ? 1 : 0 },
      faults,
    },
  };
}

/** A file names what is not there: nothing is played until it is mended. */
const unknownWorkload = (name: string, where: string): NightshiftError =>
  new NightshiftError("UNKNOWN_WORKLOAD", `the cluster has no workload ${name}`, {
    where,
    fix: "Name one as the cluster does, such as shop/payments.",
  });

const notPlayable = (message: string): NightshiftError => new NightshiftError("NOT_PLAYABLE", message);

/** The described workload of a key. */
export function describedOf(cluster: Cluster, key: string): DescribedWorkload {
  const found = cluster.workloads.find((each) => keyOf(each) === key);
  if (found === undefined) throw notPlayable(`the cluster has no workload ${key}`);
  return found;
}

/** The workloads of a cluster, each of its replicas on a node. Throws `UNKNOWN_WORKLOAD` where one calls what is not there. */
function specsOf(cluster: Cluster, dependencies: readonly ServiceDependency[]): WorkloadSpec[] {
  const keys = new Set(cluster.workloads.map(keyOf));
  return cluster.workloads.map((described, index) => {
    const { namespace, name, replicas, minAvailable, autoscaler, memoryLimit, gitOps } = described;
    const key = keyOf(described);
    const calls = new Set(described.calls.map((call) => (call.includes("/") ? call : `${namespace}/${call}`)));
    const unknown = [...calls].find((call) => !keys.has(call));
    if (unknown !== undefined) throw unknownWorkload(unknown, `calls of ${key}`);
    for (const { metadata, spec } of dependencies) {
      const from = workloadKey({ namespace: spec.from.namespace ?? metadata.namespace, name: spec.from.name });
      const to = workloadKey({ namespace: spec.to.namespace ?? metadata.namespace, name: spec.to.name });
      if (from === key && keys.has(to)) calls.add(to);
    }
    const on = Array.from(
      { length: replicas },
      (_, i) => described.nodes[i] ?? cluster.nodes[(index + i) % cluster.nodes.length]?.name ?? "",
    );
    return {
      kind: described.kind,
      namespace,
      name,
      labels: described.labels,
      podLabels: described.podLabels,
      replicas,
      on,
      startMs: durationMs(described.startup),
      graceMs: durationMs(described.grace),
      ...(memoryLimit === undefined ? {} : { limitBytes: quantityBytes(memoryLimit) }),
      ...(minAvailable === undefined ? {} : { minAvailable }),
      ...(autoscaler === undefined ? {} : { autoscaler }),
      ...(described.servesActions ? { servesActions: true } : {}),
      ...(described.doNotRemediate ? { marked: true } : {}),
      ...(gitOps === undefined ? {} : { gitOps }),
      rps: described.requestsPerSecond,
      calls: [...calls],
    };
  });
}

/** The workloads that a fault is about. */
function befallenBy(
  { on }: FileFault,
  target: string,
  known: ReadonlyMap<string, WorkloadSpec>,
  workloads: readonly WorkloadSpec[],
): string[] {
  const keys = workloads.map(workloadKey);
  switch (on) {
    case "Target":
      return [target];
    case "All":
      return keys;
    case "Others": {
      const others = keys.filter((key) => key !== target);
      if (others.length === 0) throw notPlayable(`there is no workload but ${target}`);
      return others;
    }
    case "Dependency": {
      const [first] = known.get(target)?.calls ?? [];
      if (first === undefined)
        throw notPlayable(`${target} calls nothing: declare what it depends on (a ServiceDependency), or describe what it calls`);
      return [first];
    }
    default: {
      const named = known.has(on) ? on : keys.find((key) => key.endsWith(`/${on}`));
      if (named === undefined) throw unknownWorkload(on, "on of a fault");
      return [named];
    }
  }
}
