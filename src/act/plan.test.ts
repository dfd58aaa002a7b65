import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { processRef, replicaOf, WORKLOAD, workloadOf } from "../../test/support/gate-context.ts";
import { NightshiftError } from "../api/errors.ts";
import { API_VERSION, type TargetRef } from "../api/meta.ts";
import { policySpecSchema, type RemediationPolicy } from "../api/policy.ts";
import { runbookSchema, type Runbook } from "../api/runbook.ts";
import type { EffectType, Replica, Workload } from "../ports/platform.ts";
import { effectsOf, plan, unsupported } from "./plan.ts";

const MIB = 2 ** 20;
const NODES: TargetRef & { uid: string } = { kind: "NodePool", namespace: "nightshift-system", name: "nodes", uid: "pool" };
const nodeRef = { kind: "Node", namespace: "nightshift-system", name: "n1", uid: "n1" };

function runbook(...steps: object[]): Runbook {
  return runbookSchema.parse({ apiVersion: API_VERSION, kind: "Runbook", metadata: { name: "r" }, spec: { steps } });
}

interface Case {
  readonly rung: Record<string, unknown>;
  readonly workload?: Partial<Workload>;
  readonly target?: TargetRef;
  readonly runbook?: Runbook;
}

function planned({ rung, workload = {}, target = processRef(0), runbook: book }: Case) {
  const spec = policySpecSchema.parse({
    targets: [{ name: "a", ...(workload.ref?.kind === "NodePool" ? { kind: "Node" } : {}) }],
    signals: [{ name: "s", probe: {} }],
    ladder: [rung],
  });
  return plan({
    rung: spec.ladder[0]!,
    idPrefix: "ns/r/0",
    target,
    episodeTarget: target,
    workload: workloadOf(2, workload),
    namespace: "default",
    runbooks: () => book,
  });
}

const types = (c: Case): string[] => planned(c).map((step) => step.type);
const onKubernetes = { renewedBy: "Replacement", rollsOut: true } as const;
const evicted = { renewedBy: "Eviction", rollsOut: true } as const;
const limited = (i: number): Replica => replicaOf(i, { memory: { limitBytes: 256 * MIB } });
const refused =
  (message: RegExp, code = "PLAN_IMPOSSIBLE") =>
  (error: unknown): boolean =>
    error instanceof NightshiftError && error.code === code && message.test(error.message);
const captures = [{ type: "HeapSnapshot" }];

describe("ResetConnectionPool and FlushCache", () => {
  const serving = (i: number): Replica => replicaOf(i, { servesActions: true });
  const steps = (c: Case) => planned(c).map(({ type, params, target }) => [type, params, target?.name]);

  it("ask the target for the action, and nothing else", () => {
    const workload = { replicas: [serving(0), serving(1)] };
    assert.deepEqual(steps({ rung: { strategy: "ResetConnectionPool" }, workload }), [["invoke", { action: "pool-reset" }, undefined]]);
    assert.deepEqual(steps({ rung: { strategy: "FlushCache" }, workload }), [["invoke", { action: "cache-flush" }, undefined]]);
  });

  it("ask each replica that serves actions where the target is the workload, and leave it to the step where none does", () => {
    const rung = { strategy: "FlushCache" };
    const asked = (...replicas: Replica[]) => steps({ rung, workload: { replicas }, target: WORKLOAD }).map(([, , name]) => name);
    assert.deepEqual(asked(serving(0), replicaOf(1), serving(2)), ["payments-0", "payments-2"]);
    assert.deepEqual(asked(replicaOf(0), replicaOf(1)), ["payments-0", "payments-1"]);
    assert.throws(() => asked(replicaOf(0, { phase: "Exited" })), refused(/no replica that runs/));
  });

  it("are refused where the platform cannot ask for actions", () => {
    const policy = {
      metadata: { namespace: "default", name: "p" },
      spec: {
        signals: [],
        ladder: [
          { strategy: "FlushCache", captures: [] },
          { runbook: "r", captures: [] },
        ],
      },
    } as unknown as RemediationPolicy;
    const book = runbook({ invoke: { action: "reload" } });
    const codes = (...effects: EffectType[]): string[] =>
      unsupported(policy, () => book, { name: "host", effects: new Set(effects) }).map((error) => error.code);
    assert.deepEqual(codes(), ["STRATEGY_NOT_SUPPORTED", "STEP_NOT_SUPPORTED"]);
    assert.deepEqual(codes("InvokeAction"), []);
  });
});

describe("RestartPod and EvictPod", () => {
  it("bring the replacement first where the owner may have two, and give it time on a cluster", () => {
    const replace = ["startReplacement", "awaitReady", "removeFromTraffic", "awaitInFlight", "capture", "stop"];
    assert.deepEqual(types({ rung: { strategy: "RestartPod", captures } }), replace);
    assert.deepEqual(types({ rung: { strategy: "RestartPod", captures }, workload: onKubernetes }), replace);
    const timeout = (workload: Partial<Workload>) => planned({ rung: { strategy: "RestartPod" }, workload })[1]?.timeoutMs;
    assert.deepEqual([timeout({}), timeout(onKubernetes)], [60_000, 600_000]);
  });

  it("evict where it may not", () => {
    assert.deepEqual(types({ rung: { strategy: "RestartPod", captures }, workload: evicted }), ["capture", "evict"]);
    assert.deepEqual(types({ rung: { strategy: "EvictPod" }, workload: onKubernetes }), ["evict"]);
    assert.deepEqual(types({ rung: { strategy: "EvictPod" } }), ["removeFromTraffic", "awaitInFlight", "stop"]);
  });

  it("in a runbook, a replacement is refused to an owner that may not have two", () => {
    const book = runbook({ startReplacement: {} }, { awaitReady: {} });
    assert.throws(() => planned({ rung: { runbook: "r" }, runbook: book, workload: evicted }), refused(/may not have one twice/));
    assert.equal(planned({ rung: { runbook: "r" }, runbook: book, workload: onKubernetes }).length, 2);
  });
});

describe("RollingRestart", () => {
  it("is the platform's own rollout where it has one and nothing is to be captured", () => {
    assert.deepEqual(types({ rung: { strategy: "RollingRestart" }, workload: onKubernetes }), ["rolloutRestart", "awaitAvailable"]);
  });

  it("goes one after the other where something is to be captured, and waits for each where no replacement comes first", () => {
    const steps = planned({ rung: { strategy: "RollingRestart", captures }, workload: evicted });
    assert.deepEqual(
      steps.map((s) => [s.type, s.target?.name]),
      [0, 1].flatMap((i) => [
        ["capture", `payments-${i}`],
        ["evict", `payments-${i}`],
        ["awaitAvailable", undefined],
      ]),
    );
    assert.equal(types({ rung: { strategy: "RollingRestart", captures }, workload: onKubernetes }).filter((t) => t === "stop").length, 2);
  });
});

describe("ScaleUp", () => {
  const rung = { strategy: "ScaleUp", scale: { by: 3, max: 8 } };
  const hpa = { maxReplicas: { count: 4, source: "HorizontalPodAutoscaler shop/a (spec.maxReplicas 4)" } };

  it("goes as far as the rung and the autoscaler allow", () => {
    assert.deepEqual(planned({ rung })[0]?.params["replicas"], 5);
    assert.deepEqual(planned({ rung, workload: hpa })[0]?.params["replicas"], 4);
    assert.throws(
      () => planned({ rung, workload: { ...hpa, desired: 4 } }),
      refused(/4 is the most that is allowed \(HorizontalPodAutoscaler/),
    );
    assert.throws(() => planned({ rung, workload: { desired: 8 } }), refused(/has 8 replicas, and 8 is the most/));
  });

  it("takes them back after a time, where the rung says so", () => {
    assert.deepEqual(types({ rung: { ...rung, scale: { ...rung.scale, for: "1m" }, timeout: "5m" } }), ["scale", "wait", "scaleBack"]);
  });

  it("leaves to Git what a GitOps tool owns, naming the field and the owner", () => {
    const gitOps = [{ field: "replicas", path: "spec.replicas", owner: "Argo CD application shop" }] as const;
    assert.throws(
      () => planned({ rung, workload: { gitOps } }),
      refused(/spec.replicas of Workload payments is owned by Argo CD application shop/, "GITOPS_OWNED"),
    );
    assert.equal(types({ rung, workload: { gitOps: [{ ...gitOps[0], field: "template" }] } }).length, 1);
  });
});

describe("RollbackRollout", () => {
  const rung = { strategy: "RollbackRollout" };
  const lastHealthy = { revision: "payments-a1", why: "revision 1: 2 of its replicas are available now" };

  it("goes back to the newest revision that was healthy, and says how that is known", () => {
    const [step] = planned({ rung, workload: { ...onKubernetes, lastHealthy } });
    assert.deepEqual([step?.type, step?.params["revision"], step?.params["why"]], ["rollback", lastHealthy.revision, lastHealthy.why]);
    assert.throws(() => planned({ rung, workload: onKubernetes }), refused(/no earlier revision .* is known to have been healthy/));
  });

  it("leaves to Git what a GitOps tool owns", () => {
    const gitOps = [{ field: "template", path: "spec.template", owner: "Flux HelmRelease a/b" }] as const;
    assert.throws(
      () => planned({ rung, workload: { lastHealthy, gitOps } }),
      refused(/spec.template .* Flux HelmRelease a\/b/, "GITOPS_OWNED"),
    );
  });
});

describe("ResizeResources", () => {
  const replicas = [limited(0), limited(1)];
  const rung = (memory: object) => ({ strategy: "ResizeResources", resize: { memory } });

  it("raises by a factor or an amount, in whole MiB, up to the bound", () => {
    const bytes = (memory: object) => planned({ rung: rung(memory), workload: { replicas } })[0]?.params["memoryBytes"];
    assert.equal(bytes({ factor: 1.5, max: "1Gi" }), 384 * MIB);
    assert.equal(bytes({ by: "100M", max: "1Gi" }), 352 * MIB);
    assert.equal(bytes({ factor: 10, max: "300Mi" }), 300 * MIB);
    assert.throws(() => bytes({ factor: 2, max: "256Mi" }), refused(/256Mi is the most that is allowed/));
  });

  it("acts on the target, or on every replica that runs", () => {
    const all = planned({
      rung: rung({ factor: 2, max: "1Gi" }),
      workload: { replicas: [...replicas, replicaOf(2, { phase: "Exited" })] },
      target: WORKLOAD,
    });
    assert.deepEqual(
      all.map((s) => s.target?.name),
      ["payments-0", "payments-1"],
    );
    assert.equal(planned({ rung: rung({ factor: 2, max: "1Gi" }), workload: { replicas } }).length, 1);
  });

  it("has nothing to raise where there is no limit", () => {
    assert.throws(() => planned({ rung: rung({ factor: 2, max: "1Gi" }) }), refused(/no memory limit to raise/));
  });
});

describe("CordonAndDrainNode", () => {
  const pool = { ref: NODES, replicas: [replicaOf(0, { ref: nodeRef, workload: NODES })] };
  const rung = { strategy: "CordonAndDrainNode", drain: { healWithin: "1m" } };

  it("closes, empties, waits, and opens again", () => {
    const steps = planned({ rung, workload: pool, target: nodeRef });
    assert.deepEqual(
      steps.map((s) => s.type),
      ["cordon", "drain", "awaitHealed", "uncordon"],
    );
    assert.equal(steps[2]?.timeoutMs, 60_000);
  });

  it("is for nodes, and nothing else is", () => {
    const cordon = runbook({ cordon: {} }, { drain: {} });
    assert.throws(() => planned({ rung: { runbook: "r" }, runbook: cordon }), refused(/acts on nodes, and Workload payments is none/));
    const evict = runbook({ evict: {} });
    assert.throws(
      () => planned({ rung: { runbook: "r" }, runbook: evict, workload: pool, target: nodeRef }),
      refused(/does not act on nodes/),
    );
    assert.equal(
      planned({ rung: { runbook: "r" }, runbook: runbook({ notify: { message: "m" } }), workload: pool, target: nodeRef }).length,
      1,
    );
  });
});

describe("what a platform cannot do is refused when a policy is loaded", () => {
  const policy = (rung: object, targets: object[] = [{ name: "a" }]): RemediationPolicy => ({
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name: "p", namespace: "default" },
    spec: policySpecSchema.parse({ targets, signals: [{ name: "s", probe: {} }], ladder: [rung] }),
  });
  const host = { name: "host", effects: new Set<EffectType>(["Scale", "Stop", "RemoveFromTraffic", "RestoreTraffic"]) };

  for (const [what, rung, targets] of [
    ["a rollback", { strategy: "RollbackRollout" }, undefined],
    ["a resize", { strategy: "ResizeResources", resize: { memory: { factor: 2, max: "1Gi" } } }, undefined],
    ["a drain", { strategy: "CordonAndDrainNode" }, [{ kind: "Node", name: "n" }]],
    ["replicas for a time", { strategy: "ScaleUp", scale: { max: 3, for: "1m" } }, undefined],
  ] as const)
    it(what, () => {
      const [error] = unsupported(policy(rung, targets === undefined ? undefined : [...targets]), () => undefined, host);
      assert.equal(error?.code, "STRATEGY_NOT_SUPPORTED");
    });

  it("conditions of objects, where the platform does not report them", () => {
    const of = (condition: object): RemediationPolicy => {
      const base = policy({ strategy: "ScaleUp", scale: { max: 3 } });
      return { ...base, spec: { ...base.spec, signals: policySpecSchema.shape.signals.parse([{ name: "s", ...condition }]) } };
    };
    for (const condition of [{ podState: { state: "OOMKilled" } }, { rollout: {} }]) {
      const [error, ...more] = unsupported(of(condition), () => undefined, host);
      assert.deepEqual([error?.code, more.length], ["SIGNAL_NOT_SUPPORTED", 0]);
      assert.match(error?.fix ?? "", /Use one of trend, .*alert\.$/);
      const there = { ...host, reports: new Set(["podState", "rollout"] as const) };
      assert.deepEqual(
        unsupported(of(condition), () => undefined, there),
        [],
      );
    }
  });

  it("an expression that is not right, and says where in it", () => {
    const base = policy({ strategy: "ScaleUp", scale: { max: 3 } });
    const of = (when: string): RemediationPolicy => ({
      ...base,
      spec: { ...base.spec, signals: policySpecSchema.shape.signals.parse([{ name: "s", probe: {}, when }]) },
    });
    const [error] = unsupported(of("true &&\n  target.restart > 3"), () => undefined, host);
    assert.equal(error?.code, "INVALID_EXPRESSION");
    assert.match(String(error), /spec.signals\[0\].when: at 2:9 of the expression: target has no field restart; did you mean restarts\?/);
    assert.deepEqual(
      unsupported(of("target.restarts > 3"), () => undefined, host),
      [],
    );
  });

  it("replicas for good are not", () => {
    assert.deepEqual(
      unsupported(policy({ strategy: "ScaleUp", scale: { max: 3 } }), () => undefined, host),
      [],
    );
  });

  it("says which effects a rung may have", () => {
    const spec = policy({ strategy: "RollbackRollout" }).spec;
    assert.deepEqual([...effectsOf(spec.ladder[0]!, "default", () => undefined)], ["Rollback"]);
    assert.deepEqual(
      [...effectsOf(policy({ runbook: "r" }).spec.ladder[0]!, "default", () => runbook({ cordon: {} }, { drain: {} }))],
      ["Cordon", "Uncordon", "Drain"],
    );
  });
});
