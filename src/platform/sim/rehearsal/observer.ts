import { targetKey } from "../../../api/meta.ts";
import type { Mutation } from "../effect.ts";
import { takesDown } from "../rules/facts.ts";
import type { Checks, Rule, Truth } from "../rules/rule.ts";
import { workloadKey } from "../scenario.ts";
import type { SimWorkload } from "../world.ts";

/** How many replicas of a workload were unavailable at the worst moment. */
export interface Unavailability {
  /** How many it should have had then. */
  desired: number;
  /** At once, for whatever reason. */
  most: number;
  /** When that was (ms since the epoch). */
  at: number;
  /** Most at once that Nightshift took down. */
  throughUs: number;
}

/** Looks on, and keeps what rules do not: it breaks none. */
export class Observer implements Rule {
  readonly name = "Rehearsal";
  readonly doc = "Looks on.";
  readonly unavailable = new Map<string, Unavailability>();
  /** The workload of each pod that there was, by `targetKey`. */
  readonly workloadOf = new Map<string, string>();
  /** What Nightshift wrote to the cluster. */
  readonly effects: { readonly at: number; readonly workload: string; readonly type: string; readonly verb: string }[] = [];
  readonly #down = new Map<string, Set<string>>();
  readonly #versions = new Map<string, number>();
  #truth: Truth | undefined;

  get truth(): Truth {
    if (this.#truth === undefined) throw new RangeError("nothing was played yet");
    return this.#truth;
  }

  watch(truth: Truth): Checks {
    this.#truth = truth;
    const { nodesIn: namespace } = truth.scenario;
    if (namespace !== undefined)
      for (const { name, pool } of truth.world.nodes) {
        const key = workloadKey({ namespace, name: pool });
        this.workloadOf.set(targetKey({ kind: "NodePool", namespace, name: pool }), key);
        this.workloadOf.set(targetKey({ kind: "Node", namespace, name }), key);
      }
    return {
      mutated: (mutation) => this.#mutated(mutation),
      checked: () => {
        for (const workload of truth.world.workloads) {
          if (this.#versions.get(workload.uid) === workload.version) continue;
          this.#versions.set(workload.uid, workload.version);
          this.#look(workload);
        }
        return undefined;
      },
    };
  }

  #mutated(mutation: Mutation): undefined {
    const { workload, pod, at, effect, verb } = mutation;
    const { nodesIn: namespace = "" } = this.truth.scenario;
    const key = workload === undefined ? workloadKey({ namespace, name: mutation.node?.pool ?? "" }) : workloadKey(workload.spec);
    this.effects.push({ at, workload: key, type: effect.type, verb });
    if (workload === undefined) return;
    if (pod === undefined || !takesDown(mutation) || pod.serving || pod.servingChangedAt !== this.truth.now) return;
    const down = this.#down.get(workload.uid) ?? new Set();
    this.#down.set(workload.uid, down.add(pod.uid));
    this.#look(workload);
  }

  #look(workload: SimWorkload): void {
    const { spec, ref, desired, pods, uid } = workload;
    const key = workloadKey(spec);
    this.workloadOf.set(targetKey(ref), key);
    for (const pod of pods) this.workloadOf.set(targetKey({ kind: "Pod", namespace: ref.namespace, name: pod.name }), key);
    const missing = Math.max(0, desired - pods.filter((pod) => pod.serving).length);
    const down = this.#down.get(uid);
    for (const pod of pods) if (pod.serving) down?.delete(pod.uid);
    if (missing === 0) down?.clear();
    const known = this.unavailable.get(key) ?? { desired, most: 0, at: this.truth.now, throughUs: 0 };
    this.unavailable.set(key, known);
    known.throughUs = Math.max(known.throughUs, Math.min(missing, down?.size ?? 0));
    if (missing <= known.most) return;
    known.desired = desired;
    known.most = missing;
    known.at = this.truth.now;
  }
}
