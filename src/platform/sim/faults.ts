import { remediationBudgetSpecSchema } from "../../api/budget.ts";
import { API_VERSION } from "../../api/meta.ts";
import { type Pause, policySpecSchema, type RemediationPolicy } from "../../api/policy.ts";
import { timestamp } from "../../api/time.ts";
import { KubeApiError } from "../kubernetes/errors.ts";
import type { ApiServer } from "./api-server.ts";
import type { Interference, Request } from "./network.ts";
import type { SimRandom } from "./random.ts";
import { streamOf } from "./random.ts";
import type { Fault, FaultKind, Scenario } from "./scenario.ts";
import type { Simulation } from "./simulation.ts";
import type { Delivery } from "./watch-stream.ts";
import { type Illness, NAMESPACE, type Pod, type SimNode, type SimWorkload, type SimWorld } from "./world.ts";

/** What faults may do to the rest of the simulation. */
export interface FaultTargets {
  readonly simulation: Simulation;
  readonly world: SimWorld;
  readonly api: ApiServer;
  /** Does something to one operator, or to all. */
  operators(index: number | undefined, act: (operator: FaultedOperator) => void): void;
  deleteLease(): void;
  replayAlerts(back: number): void;
}

/** What faults may do to an operator. */
export interface FaultedOperator {
  kill(): void;
  stopFor(ms: number): void;
  skew(ms: number): void;
  /** Everything that it watches is listed anew. */
  relist(): void;
}

/** Every write that could be told from the others, for faults that wait for the n-th. */
const LEASE = /Lease/;

/** The faults of a run: those that happen at a moment are set off, those that last are asked for. */
export class Faults {
  readonly #scenario: Scenario;
  readonly #active = new Map<FaultKind, Fault[]>();
  readonly #streams = new Map<number, SimRandom>();
  /** Writes that crashes still wait for, by fault. */
  readonly #countdown = new Map<number, number>();
  readonly #targets: FaultTargets;
  /** How often each kind has happened. */
  readonly counts = new Map<FaultKind, number>();

  constructor(scenario: Scenario, targets: FaultTargets) {
    this.#scenario = scenario;
    this.#targets = targets;
    for (const fault of scenario.faults) targets.simulation.schedule(fault.at, () => this.#begin(fault));
  }

  /** Faults of a kind that last now. */
  active(kind: FaultKind): readonly Fault[] {
    return this.#active.get(kind) ?? [];
  }

  /** Whether an operator has no way to the API server. */
  isCut(operator: number): boolean {
    return this.active("ApiOutage").some((fault) => concerns(fault, operator));
  }

  /** What befalls a request. See `Network.interfere`. */
  interfere(request: Request): Interference {
    const { operator, write, what } = request;
    if (this.isCut(operator)) return this.#happened("ApiOutage", { unreachable: true });
    const isLease = LEASE.test(what);
    if (isLease && this.active("LeaseCut").some((fault) => concerns(fault, operator)))
      return this.#happened("LeaseCut", { unreachable: true });
    for (const fault of this.active("ApiErrors"))
      if (concerns(fault, operator) && this.#chance(fault))
        return this.#happened("ApiErrors", {
          refused: new KubeApiError("KUBE_INTERNAL", "etcdserver: request timed out", { statusCode: 500 }),
        });
    let slowMs = 0;
    for (const fault of this.active("ApiSlow"))
      if (concerns(fault, operator)) slowMs = Math.max(slowMs, this.#stream(fault).next() * (fault.ms ?? 1_000));
    if (slowMs > 0) this.#happened("ApiSlow", {});
    const slow = slowMs > 0 ? { slowMs } : {};
    if (!write) return slow;
    if (!isLease)
      for (const kind of ["CrashBeforeWrite", "CrashAfterWrite"] as const)
        for (const fault of this.active(kind)) {
          const left = (this.#countdown.get(fault.id) ?? fault.count ?? 1) - 1;
          this.#countdown.set(fault.id, left);
          if (left > 0) continue;
          this.#end(fault);
          return this.#happened(kind, { ...slow, crash: kind === "CrashBeforeWrite" ? "Before" : "After" });
        }
    for (const fault of this.active("ApiLostReplies"))
      if (concerns(fault, operator) && this.#chance(fault)) return this.#happened("ApiLostReplies", { ...slow, replyLost: true });
    for (const fault of this.active("ApiConflicts"))
      if (concerns(fault, operator) && this.#chance(fault))
        return this.#happened("ApiConflicts", {
          refused: new KubeApiError("KUBE_CONFLICT", "the object has been modified", { statusCode: 409 }),
        });
    return slow;
  }

  /** How news travel to an operator. */
  delivery(operator: number, random: SimRandom): Delivery {
    return {
      delays: (kind) => {
        let delay = 1 + random.next() * 20;
        if (this.isCut(operator)) return [];
        for (const fault of this.active("WatchDrops"))
          if (concerns(fault, operator) && (fault.what ?? kind) === kind && this.#chance(fault)) return this.#happened("WatchDrops", []);
        for (const fault of this.active("WatchLag"))
          if (concerns(fault, operator) && (fault.what ?? kind) === kind) {
            delay += this.#stream(fault).next() * (fault.ms ?? 1_000);
            this.#happened("WatchLag", undefined);
          }
        for (const fault of this.active("WatchReorders"))
          if (concerns(fault, operator)) {
            delay += this.#stream(fault).next() * 500;
            this.#happened("WatchReorders", undefined);
          }
        for (const fault of this.active("WatchDuplicates"))
          if (concerns(fault, operator) && this.#chance(fault))
            return this.#happened("WatchDuplicates", [delay, delay + this.#stream(fault).next() * 3_000]);
        return [delay];
      },
      mayReorder: () => this.active("WatchReorders").some((fault) => concerns(fault, operator)),
    };
  }

  /** Whether a fault that strikes now and then strikes at this occasion. */
  strikes(kind: FaultKind, workload?: string): boolean {
    for (const fault of this.active(kind))
      if ((fault.workload === undefined || workload === undefined || fault.workload === workload) && this.#chance(fault))
        return this.#happened(kind, true);
    return false;
  }

  /** How much a fault that lasts now is (ms), at random up to what it says; 0 where there is none. */
  delayOf(kind: FaultKind): number {
    let delay = 0;
    for (const fault of this.active(kind)) delay = Math.max(delay, this.#stream(fault).next() * (fault.ms ?? 0));
    return delay > 0 ? this.#happened(kind, delay) : 0;
  }

  /** Every fault that is left ends. */
  endAll(): void {
    for (const faults of this.#active.values()) for (const fault of faults.slice()) this.#end(fault);
  }

  #happened<T>(kind: FaultKind, result: T): T {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    return result;
  }

  #stream(fault: Fault): SimRandom {
    let stream = this.#streams.get(fault.id);
    if (stream === undefined) this.#streams.set(fault.id, (stream = streamOf(this.#scenario.seed, `fault/${fault.id}`)));
    return stream;
  }

  #chance(fault: Fault): boolean {
    return this.#stream(fault).chance(fault.rate ?? 1);
  }

  #begin(fault: Fault): void {
    const { simulation } = this.#targets;
    if (fault.for > 0) {
      const faults = this.#active.get(fault.kind) ?? [];
      faults.push(fault);
      this.#active.set(fault.kind, faults);
      simulation.schedule(fault.for, () => this.#end(fault));
    }
    this.#act(fault, true);
  }

  #end(fault: Fault): void {
    const faults = this.#active.get(fault.kind);
    const at = faults?.indexOf(fault) ?? -1;
    if (at < 0) return;
    faults?.splice(at, 1);
    this.#act(fault, false);
  }

  /** What happens when it begins, and when it ends. */
  #act(fault: Fault, begins: boolean): void {
    const { world } = this.#targets;
    const workload = world.workload(fault.workload);
    const pod = workload === undefined ? undefined : podOf(workload, fault.index ?? 0);
    const done = (): void => this.#happened(fault.kind, undefined);
    switch (fault.kind) {
      case "PodHang":
        return this.#ill(fault, begins, workload, pod, "Hang");
      case "PodErrors":
        return this.#ill(fault, begins, workload, pod, "Errors");
      case "PodLeak":
        return this.#ill(fault, begins, workload, pod, "Leak");
      case "CrashLoop":
        return this.#ill(fault, begins, workload, pod, "CrashLoop");
      case "DiskFull":
      case "PoolExhausted":
        return this.#ill(fault, begins, workload, pod, fault.kind);
      case "PodCondition":
        return this.#ill(fault, begins, workload, pod, "PodCondition");
      case "WorkloadCondition": {
        if (!begins) return world.cure(fault.id);
        if (workload === undefined) return;
        done();
        const { id, what = "", rate = 0, endedBy = [] } = fault;
        return world.fallIllAsWhole(workload, { fault: id, what, since: this.#targets.simulation.now, rate, endedBy });
      }
      case "PodCrash":
        if (begins && pod !== undefined) {
          done();
          world.restartContainer(pod);
        }
        return;
      case "SlowStart":
        if (workload !== undefined) {
          if (begins) done();
          workload.slowStartMs = begins ? (fault.ms ?? 60_000) : 0;
        }
        return;
      case "NodeDown":
      case "ZoneDown": {
        if (begins) done();
        for (const node of this.#nodesOf(fault)) if (begins || !node.gone) world.setNode(node, !begins);
        return;
      }
      case "NodeIll":
      case "CordonByPerson": {
        if (begins) done();
        for (const node of this.#nodesOf(fault)) {
          if (node.gone) continue;
          if (fault.kind === "NodeIll") world.setNodeIll(node, begins);
          else {
            node.cordonedByOthers = begins;
            // `kubectl uncordon` opens it, whoever has closed it.
            if (!begins) {
              if (node.cordonedBy !== undefined) node.opened = { of: node.cordonedBy, at: this.#targets.simulation.now };
              node.cordonedBy = undefined;
            }
            world.nodeChanged(node);
          }
        }
        return;
      }
      case "ResizeRefused": {
        if (begins) done();
        for (const node of this.#nodesOf(fault))
          node.resizes = !begins ? "CarriedOut" : fault.what === "Deferred" ? "Deferred" : "Infeasible";
        return;
      }
      case "ResizeByPerson":
        if (begins && pod !== undefined) {
          done();
          world.askLimit(pod, Math.round(pod.askedBytes * (fault.rate ?? 1.5)));
        }
        return;
      case "NodeGone": {
        if (begins) done();
        for (const node of this.#nodesOf(fault))
          if (begins) world.removeNode(node);
          else world.addNode(node);
        return;
      }
      case "Overload":
        if (workload !== undefined) {
          if (begins) done();
          workload.surge = begins ? (fault.rate ?? 1.5) : 1;
        }
        return;
      case "ServiceErrors":
        if (workload !== undefined) {
          if (begins) done();
          workload.errors = begins ? (fault.rate ?? 0.5) : 0;
        }
        return;
      case "DeletePod":
        if (begins && pod !== undefined) {
          done();
          world.deletePod(pod);
        }
        return;
      case "ScaleByPerson":
        if (begins && workload !== undefined) {
          done();
          world.scale(workload, Math.max(1, workload.desired + (fault.count ?? 1)));
        }
        return;
      case "Rollout":
      case "BadRollout":
        if (workload === undefined) return;
        if (begins) {
          done();
          if (fault.what === "Errors") world.rollOut(workload, false, this.#illness(fault, "Errors"));
          else world.rollOut(workload, fault.kind === "BadRollout");
        } else if (workload.illRevisions.has(workload.revision)) world.rollOut(workload);
        else if (fault.kind === "BadRollout" && workload.bad.has(workload.revision)) world.rollOut(workload, false);
        return;
      case "Mark":
        if (begins) done();
        return this.#mark(fault, begins, workload, pod);
      case "GitOpsReverts":
        if (workload !== undefined) {
          if (begins) done();
          workload.gitOps = begins ? "argocd-controller" : undefined;
          world.changed(workload);
        }
        return;
      case "PausePolicy":
      case "EditMode":
      case "EditPolicy":
      case "DeletePolicy":
        return this.#editPolicy(fault, begins);
      case "PauseAll":
      case "FreezeBudget":
        return this.#addBudget(fault, begins);
      case "EditBudget":
        return this.#editBudget(fault, begins);
      case "ApiOutage":
        this.#targets.operators(fault.index, (operator) => operator.relist());
        return;
      case "WatchDrops":
        if (!begins) this.#targets.operators(fault.index, (operator) => operator.relist());
        return;
      case "WatchGone":
        if (begins) {
          done();
          this.#targets.operators(fault.index, (operator) => operator.relist());
        }
        return;
      case "Crash":
        if (begins) {
          done();
          this.#targets.operators(fault.index, (operator) => operator.kill());
        }
        return;
      case "Stop":
        if (begins) {
          done();
          this.#targets.operators(fault.index, (operator) => operator.stopFor(fault.ms ?? 20_000));
        }
        return;
      case "ClockJump":
        if (begins) done();
        this.#targets.operators(fault.index, (operator) => operator.skew(begins ? (fault.ms ?? 0) : 0));
        return;
      case "LeaseDeleted":
        if (begins) {
          done();
          this.#targets.deleteLease();
        }
        return;
      case "AlertReplay":
        if (begins) {
          done();
          this.#targets.replayAlerts(fault.count ?? 1);
        }
        return;
      default:
      // What only lasts is asked for when it matters.
    }
  }

  /** The nodes that a fault is about: by name, by zone, or by index. */
  #nodesOf({ node, zone, index = 0 }: Fault): readonly SimNode[] {
    const { nodes } = this.#targets.world;
    if (node !== undefined) return nodes.filter(({ name }) => name === node);
    if (zone !== undefined) return nodes.filter((each) => each.zone === zone);
    return [nodes[index % nodes.length]].filter((each) => each !== undefined);
  }

  #illness({ id, ms, rate, what, endedBy }: Fault, kind: Illness["kind"]): Illness {
    const own = { ...(endedBy === undefined ? {} : { endedBy }), ...(kind === "PodCondition" && what !== undefined ? { what } : {}) };
    const failing = rate ?? (kind === "PodCondition" ? 0 : 1);
    return { fault: id, kind, since: this.#targets.simulation.now, ms: ms ?? 600_000, rate: failing, ...own };
  }

  #ill(fault: Fault, begins: boolean, workload: SimWorkload | undefined, pod: Pod | undefined, kind: Illness["kind"]): void {
    const { world } = this.#targets;
    if (!begins) return world.cure(fault.id);
    if (workload === undefined || pod === undefined) return;
    this.#happened(fault.kind, undefined);
    const illness = this.#illness(fault, kind);
    if (fault.sticky === true) workload.sticky.push(illness);
    for (let i = 0; i < (fault.count ?? 1); i++) {
      const each = podOf(workload, (fault.index ?? 0) + i);
      if (each?.illness === undefined && each !== undefined) world.fallIll(each, illness);
    }
  }

  #mark(fault: Fault, begins: boolean, workload: SimWorkload | undefined, pod: Pod | undefined): void {
    const { world } = this.#targets;
    switch (fault.what) {
      case "Namespace":
        world.namespaceMarked = begins;
        world.poolsChanged();
        return world.allChanged();
      case "Node": {
        const node = world.nodes[(fault.index ?? 0) % world.nodes.length];
        if (node !== undefined) {
          node.marked = begins;
          world.nodeChanged(node);
        }
        return world.allChanged();
      }
      case "Workload":
        if (workload === undefined) return;
        workload.marked = begins;
        world.poolsChanged();
        return world.changed(workload);
      default: {
        if (workload === undefined) return;
        if (!begins) for (const each of workload.pods) each.marked = false;
        else if (pod !== undefined) pod.marked = true;
        world.poolsChanged();
        return world.changed(workload, pod);
      }
    }
  }

  /** Somebody edits the policy of a workload, and takes it back in the end. */
  #editPolicy(fault: Fault, begins: boolean): void {
    const { api } = this.#targets;
    const policies = api.list("RemediationPolicy");
    const original = this.#scenario.policies[(fault.index ?? 0) % Math.max(1, this.#scenario.policies.length)];
    if (original === undefined) return;
    const policy = policies.find(({ metadata }) => metadata.name === original.metadata.name);
    if (fault.kind === "DeletePolicy") {
      if (!begins) {
        if (policy === undefined) api.create<"RemediationPolicy">(original);
        return;
      }
      if (policy === undefined) return;
      this.#happened(fault.kind, undefined);
      return api.delete("RemediationPolicy", original.metadata.namespace, original.metadata.name);
    }
    if (policy === undefined) return;
    if (begins) this.#happened(fault.kind, undefined);
    const { paused: _paused, ...spec } = policy.spec;
    switch (fault.kind) {
      case "PausePolicy":
        return void api.update<"RemediationPolicy">({ ...policy, spec: begins ? { ...spec, paused: this.#pause(fault) } : { ...spec } });
      case "EditMode":
        return void api.update<"RemediationPolicy">({
          ...policy,
          spec: { ...policy.spec, mode: begins ? (fault.what === "Approve" ? "Approve" : "Observe") : original.spec.mode },
        });
      default: {
        const { windows, ...rest } = policy.spec;
        const edited = begins ? this.#edited(fault, original) : fieldsOf(original, fault.what);
        const kept = windows === undefined || fault.what === "Windows" ? {} : { windows };
        return void api.update<"RemediationPolicy">({ ...policy, spec: policySpecSchema.parse({ ...rest, ...kept, ...edited }) });
      }
    }
  }

  /** A pause as a fault has it: without an end (`Open`), until it is lifted, or until some time before that. */
  #pause({ at, for: lasts, ms = lasts, what }: Fault): Pause {
    const reason = "a person said so";
    return what === "Open" ? { reason } : { reason, until: timestamp(this.#targets.simulation.epoch + at + ms) };
  }

  /** What a policy says after somebody has edited a part of it. */
  #edited(fault: Fault, { spec }: RemediationPolicy): Record<string, unknown> {
    const random = this.#stream(fault);
    switch (fault.what) {
      case "Budgets":
        return {
          budgets: random.pick([[{ maxUnavailable: 0 }], [{ maxUnavailable: 1 }], [{ maxUnavailable: 3 }], [{ maxUnavailable: "50%" }]]),
        };
      case "Windows":
        return { windows: [{ schedule: random.pick(["*/4 * * * *", "0 4 * * *", "*/10 * * * *"]), duration: "2m" }] };
      case "Cooldown":
        return { cooldown: random.pick(["0s", "1m", "10m"]) };
      case "Attempts":
        return { attempts: { max: random.int(1, 3), window: random.pick(["5m", "1h"]) } };
      default:
        // Nodes have one strategy.
        if (spec.targets.some(({ kind }) => kind === "Node")) return { ladder: spec.ladder.map((rung) => ({ ...rung, timeout: "3m" })) };
        return { ladder: [{ strategy: random.pick(["RestartPod", "EvictPod", "RollingRestart", "Notify"]) }] };
    }
  }

  /** The platform team adds a budget, and takes it away again: a freeze, or a pause of a namespace or of all. */
  #addBudget(fault: Fault, begins: boolean): void {
    const { api } = this.#targets;
    const name = `${fault.kind === "PauseAll" ? "pause" : "freeze"}-${fault.id}`;
    if (!begins) {
      if (api.get("RemediationBudget", NAMESPACE, name) !== undefined) api.delete("RemediationBudget", NAMESPACE, name);
      return;
    }
    this.#happened(fault.kind, undefined);
    const namespaces =
      fault.workload === undefined ? {} : { namespaces: [this.#targets.world.workload(fault.workload)?.ref.namespace ?? NAMESPACE] };
    api.create<"RemediationBudget">({
      apiVersion: API_VERSION,
      kind: "RemediationBudget",
      metadata: { name, namespace: NAMESPACE },
      spec:
        fault.kind === "PauseAll"
          ? { paused: this.#pause(fault), budgets: [], ...namespaces }
          : { budgets: [{ maxUnavailable: 0, timeZone: "UTC", whenRoundsToZero: "Block" }] },
    });
  }

  /** The platform team edits its budget, or makes one, and takes that back in the end. */
  #editBudget(fault: Fault, begins: boolean): void {
    const { api } = this.#targets;
    const original = this.#scenario.budgets[0];
    const name = original?.metadata.name ?? "platform";
    const current = api.get("RemediationBudget", NAMESPACE, name);
    if (!begins) {
      if (current === undefined) return;
      if (original === undefined) api.delete("RemediationBudget", NAMESPACE, name);
      else api.update<"RemediationBudget">({ ...current, spec: original.spec });
      return;
    }
    this.#happened(fault.kind, undefined);
    const random = this.#stream(fault);
    const spec = remediationBudgetSpecSchema.parse({
      budgets: [{ maxUnavailable: random.pick([0, 1, 2, "10%", "50%"]) }],
      ...(random.chance(0.4) ? { maxConcurrent: random.int(0, 2) } : {}),
    });
    if (current === undefined)
      api.create<"RemediationBudget">({
        apiVersion: API_VERSION,
        kind: "RemediationBudget",
        metadata: { name, namespace: NAMESPACE },
        spec,
      });
    else api.update<"RemediationBudget">({ ...current, spec });
  }
}

/** What a policy said of a part that is edited. */
function fieldsOf(
  { spec: { budgets, windows, cooldown, attempts, ladder } }: RemediationPolicy,
  what: string | undefined,
): Record<string, unknown> {
  switch (what) {
    case "Budgets":
      return { budgets };
    case "Windows":
      return windows === undefined ? {} : { windows };
    case "Cooldown":
      return { cooldown };
    case "Attempts":
      return { attempts };
    default:
      return { ladder };
  }
}

/** Whether a fault is about an operator: about all of them where it names none. */
function concerns(fault: Fault, operator: number): boolean {
  return fault.index === undefined || fault.index === operator;
}

/** A pod by its index among those that run. */
function podOf(workload: SimWorkload, index: number): Pod | undefined {
  const running = workload.pods.filter((pod) => pod.phase === "Running");
  return running[index % Math.max(1, running.length)];
}
