import type { TargetRef } from "../../src/api/meta.ts";
import type { ActionCaller } from "../../src/platform/actions.ts";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import { Effects } from "../../src/platform/kubernetes/effects/index.ts";
import { PROTECTED_NAMESPACES } from "../../src/platform/kubernetes/protected.ts";
import type { Effect, EffectResult } from "../../src/ports/platform.ts";
import type { Workload } from "../../src/ports/platform.ts";
import { type Draft, FakeKube } from "./fake-kube.ts";
import { ManualClock } from "./manual-clock.ts";
import { seededRandom } from "./seeded-random.ts";

/** When the worlds of these tests begin. */
export const START = Date.UTC(2026, 0, 1);
export const at = (ms: number): string => new Date(START + ms).toISOString();

/** An API server with the namespace `shop` on the nodes `n1` and `n2`, and effects over it. */
export class KubeWorld {
  readonly clock = new ManualClock(START);
  readonly kube = new FakeKube(this.clock);
  epoch: number | Error = 7;
  /** What effects that are made from now on ask for actions with. */
  actions: ActionCaller | undefined;
  readonly effects = this.restarted();

  constructor() {
    this.kube.put("Namespace", { metadata: { name: "shop" } });
    for (const name of ["n1", "n2"]) this.node(name);
  }

  /** Effects as a Nightshift that has just started has them. */
  restarted(): Effects {
    const epoch = (): number => {
      if (this.epoch instanceof Error) throw this.epoch;
      return this.epoch;
    };
    const protectedNamespaces = new Set(PROTECTED_NAMESPACES);
    const { kube, clock, actions } = this;
    return new Effects({ client: kube, view: kube.view, clock, epoch, protectedNamespaces, actions }, seededRandom());
  }

  node(name: string, extra: Partial<Draft> = {}): void {
    this.kube.put("Node", {
      metadata: { name, creationTimestamp: at(-86_400_000) },
      spec: {},
      status: { conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(-86_000_000) }] },
      ...extra,
    });
  }

  /** A Deployment with its ReplicaSet, its pods and its Service. */
  deployment(name = "payments", replicas = 3): void {
    const labels = { app: name };
    const template = {
      metadata: { labels },
      spec: {
        containers: [{ name: "main", image: `${name}:1`, resources: { limits: { memory: "256Mi" }, requests: { memory: "128Mi" } } }],
      },
    };
    this.kube.put("Service", { metadata: { name, namespace: "shop" }, spec: { selector: labels } });
    const deployment = this.kube.put("Deployment", {
      metadata: { name, namespace: "shop", labels, annotations: { "deployment.kubernetes.io/revision": "1" } },
      spec: { replicas, selector: { matchLabels: labels }, template },
      status: { observedGeneration: 1, replicas, updatedReplicas: replicas, availableReplicas: replicas },
    });
    this.replicaSet(name, "a1", deployment.metadata.uid, 1, replicas, template);
  }

  /** One revision of a Deployment. */
  replicaSet(name: string, hash: string, owner: string, revision: number, replicas: number, template: Pod | object): void {
    const base = template as { metadata: { labels: Record<string, string> }; spec: object };
    const labels = { ...base.metadata.labels, "pod-template-hash": hash };
    this.kube.put("ReplicaSet", {
      metadata: {
        name: `${name}-${hash}`,
        namespace: "shop",
        labels,
        annotations: { "deployment.kubernetes.io/revision": String(revision) },
        ownerReferences: [{ apiVersion: "apps/v1", kind: "Deployment", name, uid: owner, controller: true }],
      },
      spec: { replicas, selector: { matchLabels: labels }, template: { ...base, metadata: { labels } } },
      status: { observedGeneration: 1, replicas, availableReplicas: replicas },
    });
  }

  /** A StatefulSet or DaemonSet with its pods. */
  owned(kind: "StatefulSet" | "DaemonSet", name: string, replicas = 2): void {
    const labels = { app: name };
    const spec = { containers: [{ name: "main", image: `${name}:1`, resources: { limits: { memory: "256Mi" } } }] };
    const owner = this.kube.put(kind, {
      metadata: { name, namespace: "shop", labels },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec },
        updateStrategy: { type: "RollingUpdate" },
      },
      status: {
        observedGeneration: 1,
        replicas,
        availableReplicas: replicas,
        updatedReplicas: replicas,
        currentRevision: `${name}-1`,
        updateRevision: `${name}-1`,
        desiredNumberScheduled: replicas,
        updatedNumberScheduled: replicas,
        numberAvailable: replicas,
      },
    });
    for (let i = 0; i < replicas; i++)
      this.pod(`${name}-${i}`, {
        labels,
        ownerReferences: [{ apiVersion: "apps/v1", kind, name, uid: owner.metadata.uid, controller: true }],
      });
  }

  pod(name: string, metadata: Partial<Draft["metadata"]> = {}, spec: object = {}, status: object = {}): Pod {
    return this.kube.put("Pod", {
      metadata: { name, namespace: "shop", ...metadata },
      spec: { nodeName: "n1", containers: [{ name: "main", resources: { limits: { memory: "256Mi" } } }], ...spec },
      status: {
        phase: "Running",
        startTime: at(0),
        conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(1_000) }],
        containerStatuses: [
          { name: "main", restartCount: 0, state: { running: { startedAt: at(0) } }, resources: { limits: { memory: "256Mi" } } },
        ],
        ...status,
      },
    }) as Pod;
  }

  pdb(name: string, app: string, spec: object, disruptionsAllowed = 0): void {
    this.kube.put("PodDisruptionBudget", {
      metadata: { name, namespace: "shop" },
      spec: { selector: { matchLabels: { app } }, ...spec },
      status: { disruptionsAllowed, currentHealthy: 3, desiredHealthy: 3, expectedPods: 3 },
    });
  }

  pods(): Pod[] {
    return this.kube.all("Pod");
  }

  /** The first pod of a workload, as a target. */
  target(index = 0): TargetRef & { uid: string } {
    const pod = this.pods()[index];
    if (pod === undefined) throw new Error(`no pod ${index}`);
    return { kind: "Pod", namespace: "shop", name: pod.metadata.name, uid: pod.metadata.uid };
  }

  workload(name: string): Workload {
    const found = this.kube.view.workloads().find((w) => w.ref.name === name);
    if (found === undefined) throw new Error(`no workload ${name}`);
    return found;
  }

  /** Applies an effect, moving time on until it is done or has failed, at most `ms`. */
  async apply(effect: Effect, ms = 60_000, effects: Effects = this.effects): Promise<EffectResult> {
    const limit = new AbortController();
    this.clock.after(ms, () => limit.abort());
    const state = { ended: false };
    const run = effects.apply(effect, limit.signal).finally(() => (state.ended = true));
    run.catch(() => undefined);
    for (let waited = 0; waited <= ms + 60_000 && !state.ended; waited += 100) await this.clock.advance(100);
    if (!state.ended) throw new Error(`${effect.type} neither ended nor failed`);
    return run;
  }
}
