import { remediationStatusSchema, type Remediation, type RemediationStatus } from "../../src/api/remediation.ts";
import type { RemediationPolicy } from "../../src/api/policy.ts";
import { ApiServer, type Change } from "../../src/platform/sim/api-server.ts";
import type { Mutation } from "../../src/platform/sim/effect.ts";
import { streamOf } from "../../src/platform/sim/random.ts";
import type { Checks, Rule, Truth } from "../../src/platform/sim/rules/rule.ts";
import type { Scenario, WorkloadSpec } from "../../src/platform/sim/scenario.ts";
import { Simulation } from "../../src/platform/sim/simulation.ts";
import { Traffic } from "../../src/platform/sim/traffic.ts";
import { type Pod, type SimNode, SimWorld, type SimWorkload } from "../../src/platform/sim/world.ts";
import type { Page } from "../../src/record/paging.ts";
import { policy } from "./harness.ts";
import { remediation as example } from "./remediation.ts";

const WORKLOADS: readonly WorkloadSpec[] = [
  { kind: "Deployment", name: "payments", replicas: 4, startMs: 1_000, graceMs: 1_000, rps: 10, calls: ["orders"] },
  { kind: "Deployment", name: "orders", replicas: 2, startMs: 1_000, graceMs: 1_000, rps: 10, calls: [] },
];

/** A true state of things that a test makes, and one rule that watches it. */
export class SimTruth implements Truth {
  readonly simulation = new Simulation(streamOf(1, "ties"));
  readonly world = new SimWorld({ simulation: this.simulation, random: streamOf(1, "world"), workloads: WORKLOADS, nodes: 2 });
  readonly api = new ApiServer(this.simulation, streamOf(1, "api"));
  readonly traffic = new Traffic(this.simulation, this.world, streamOf(1, "traffic"));
  readonly firing = new Map<string, number>();
  readonly monitoring = { firing: (): ReadonlyMap<string, number> => this.firing };
  readonly mutations: Mutation[] = [];
  readonly records: Truth["records"][number][] = [];
  readonly pages: Truth["pages"][number][] = [];
  readonly resolved: Truth["resolved"][number][] = [];
  readonly writes: Truth["writes"][number][] = [];
  readonly scenario: Scenario;
  leaderEpoch: number | undefined = 1;
  telemetryGapSince: number | undefined;
  outageEndedAt: number | undefined;
  faultsEndedAt: number | undefined;
  /** What broke the rule, oldest first. */
  readonly broken: string[] = [];
  readonly #checks: Checks;
  #stored = 0;

  constructor(rule: Rule, scenario: Partial<Scenario> = {}) {
    this.scenario = {
      seed: 1,
      faultsUntil: 0,
      operators: 1,
      nodes: 2,
      workloads: WORKLOADS,
      policies: [policy()],
      budgets: [],
      dependencies: [],
      monitoring: {
        scrapeMs: 5_000,
        evaluateMs: 5_000,
        rules: [{ alertname: "Ill", condition: "NotReady", for: 0 }],
        groupWaitMs: 1_000,
        groupIntervalMs: 10_000,
        repeatMs: 60_000,
      },
      approver: { afterMs: 0, approves: 0, denies: 0 },
      faults: [],
      ...scenario,
    };
    this.#checks = rule.watch(this);
    this.api.onChange((change: Change) => this.#note(this.#checks.stored?.(change)));
    this.check();
  }

  get now(): number {
    return this.simulation.now;
  }

  get payments(): SimWorkload {
    return this.world.workloads[0]!;
  }

  node(index = 0): SimNode {
    return this.world.nodes[index]!;
  }

  pod(index = 0): Pod {
    return this.payments.pods[index]!;
  }

  /** Lets time pass; the rule looks after every event. */
  async pass(ms: number): Promise<void> {
    await this.simulation.runUntil(this.simulation.elapsed + ms, () => this.check());
    this.check();
  }

  check(): void {
    this.#note(this.#checks.checked?.());
  }

  end(): void {
    for (const message of this.#checks.ended?.() ?? []) this.#note(message);
  }

  policy(spec: Record<string, unknown> = {}): RemediationPolicy {
    return this.api.create<"RemediationPolicy">(policy(spec));
  }

  /** An episode on a pod of payments, as it is stored. */
  episode(status: Partial<RemediationStatus> = {}, spec: Record<string, unknown> = {}): Remediation {
    const target = { kind: "Pod", namespace: "default", name: this.pod().name, uid: this.pod().uid };
    const name = `payments-${this.#stored++}`;
    const base = example(name);
    const object = {
      ...base,
      spec: {
        ...base.spec,
        policy: { name: "payments", uid: "p", generation: 1 },
        signal: { ...(base.spec["signal"] as object), name: "ill", condition: "alert", fingerprint: `f-${name}` },
        signalTarget: target,
        remediationTarget: target,
        workload: this.payments.ref,
        ...spec,
      },
      status: remediationStatusSchema.parse({ phase: "Executing", revision: 1, epoch: 1, ...status }),
    };
    return this.api.create<"Remediation">(object as unknown as Remediation);
  }

  /** An episode on a node, as it is stored. */
  nodeEpisode(status: Partial<RemediationStatus> = {}): Remediation {
    const { name, uid } = this.node();
    const namespace = "default";
    const target = { kind: "Node", namespace, name, uid };
    return this.episode(status, {
      signalTarget: target,
      remediationTarget: target,
      workload: { kind: "NodePool", namespace, name: "nodes", uid: "nodepool/nodes" },
    });
  }

  /** The episode with another status. */
  change(episode: Remediation, status: Partial<RemediationStatus>): Remediation {
    const now = this.api.get("Remediation", episode.metadata.namespace, episode.metadata.name)!;
    return this.api.update<"Remediation">({ ...now, status: { ...now.status, revision: now.status.revision + 1, ...status } });
  }

  /** An attempt with these steps, all `Intended` where nothing else is said. */
  attempt(
    episode: { readonly name: string; readonly attempt?: number },
    ...steps: readonly Record<string, unknown>[]
  ): RemediationStatus["attempts"][number] {
    const at = new Date(this.now).toISOString();
    return {
      rung: 0,
      what: "RestartPod",
      startedAt: at,
      deadline: at,
      undo: [],
      steps: steps.map((step, i) => ({
        name: (step["type"] as string | undefined) ?? "stop",
        type: "stop" as const,
        params: {},
        timeoutMs: 60_000,
        state: "Intended" as const,
        effectId: `default/${episode.name}/${episode.attempt ?? 0}/${i}`,
        intendedAt: at,
        ...step,
      })),
    };
  }

  /** An operator writes to the cluster, and does `change`. */
  mutate(effectId: string, verb: string, { pod, change, ...more }: Partial<Mutation> & { readonly change?: () => void } = {}): void {
    change?.();
    const onNode = more.node !== undefined;
    const mutation: Mutation = {
      at: this.now,
      operator: 0,
      epoch: 1,
      effect: { id: effectId, type: "Stop", replica: this.pod().workload.ref, gracePeriodMs: 0 },
      verb,
      workload: onNode ? undefined : this.payments,
      pod,
      node: undefined,
      viewAgeMs: 0,
      wallMs: this.now,
      ...more,
    };
    this.mutations.push(mutation);
    this.#note(this.#checks.mutated?.(mutation));
  }

  record(record: Truth["records"][number]["record"]): void {
    this.records.push({ at: this.now, record });
  }

  page(page: Partial<Page> = {}, sentAt = this.now): void {
    const delivered = {
      sentAt,
      at: this.now,
      page: {
        dedupKey: "default/payments/Deployment/default/payments/Alert",
        severity: "Page" as const,
        summary: "ill",
        remediation: "default/payments-0",
        policy: "default/payments",
        target: "",
        details: [],
        at: this.now,
        ...page,
      },
    };
    this.pages.push(delivered);
    this.#note(this.#checks.paged?.(delivered));
  }

  #note(message: string | undefined): void {
    if (message !== undefined) this.broken.push(message);
  }
}
