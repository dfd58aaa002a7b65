// Every block reason on a real API server: the gate holds the episode back, nothing is touched; and with what it blocks on
// taken away, and nothing else, the same episode acts.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { API_VERSION } from "../../src/api/meta.ts";
import type { BlockReason } from "../../src/api/remediation.ts";
import { GATES } from "../../src/decide/gates.ts";
import type { Replica } from "../../src/ports/platform.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { deployment, FAKE, KubeLoop, OWN, service, SHOP, stepsOf, story } from "./support.ts";

/** What a case works on: a Deployment of three pods with a policy of the same name. */
interface Stage {
  readonly cluster: Cluster;
  readonly loop: KubeLoop;
  readonly name: string;
  readonly target: Replica;
  readonly others: readonly Replica[];
}

interface Case {
  readonly reason: BlockReason;
  readonly policy?: Record<string, unknown>;
  /** Before the policy is there. */
  readonly arrange?: (stage: Stage) => Promise<void>;
  /** The fault, as it is told of. */
  readonly fault?: (stage: Stage) => void | Promise<void>;
  /** What the verdict says. */
  readonly says: RegExp;
  /** Takes away what the gate blocks on. */
  readonly lift: (stage: Stage) => void | Promise<void>;
}

const annotate = ({ cluster, name }: Stage, value: string): Promise<string> =>
  cluster.kubectl(["annotate", "deployment", name, "-n", SHOP, `nightshift.dev/do-not-remediate${value}`]);

/** What the kubelet would write of a pod's readiness probe. */
const setReady = ({ cluster }: Stage, pod: string, ready: boolean): Promise<unknown> =>
  cluster.request(
    "PATCH",
    `/api/v1/namespaces/${SHOP}/pods/${pod}/status`,
    { status: { conditions: ["Ready", "ContainersReady"].map((type) => ({ type, status: ready ? "True" : "False" })) } },
    "application/strategic-merge-patch+json",
  );

const isUnready = ({ cluster, loop, name }: Stage, pod: string): Promise<unknown> =>
  cluster.until(`${pod} is seen to be unready`, async () => loop.workload(name)?.replicas.some((r) => r.ref.name === pod && !r.ready));

/** The alert, of which there are several here. */
const ill = (which: string): object[] => [{ name: "ill", alert: { alertname: "Ill", matchLabels: { which } } }];

/** A record that says what was decided. */
const DECIDED = /no action: |waiting for a person's yes/;

const CASES: readonly Case[] = [
  {
    reason: "Paused",
    policy: { paused: { reason: "audit week" } },
    says: /policy paused is paused: audit week/,
    lift: ({ loop, name }) => loop.change(name, { paused: undefined }),
  },
  {
    reason: "Unmanaged",
    arrange: async (stage) => {
      await annotate(stage, "=mine");
      await stage.cluster.until("the mark is seen", async () => JSON.stringify(stage.loop.workload(stage.name)).includes("mine"));
    },
    says: /carries the annotation nightshift.dev\/do-not-remediate: "mine"/,
    // The Deployment's controller has copied the mark to the ReplicaSet, and does not take it back with its own.
    lift: async (stage) => {
      await annotate(stage, "-");
      await stage.cluster.kubectl(["annotate", "replicaset", "-l", `app=${stage.name}`, "-n", SHOP, "nightshift.dev/do-not-remediate-"]);
    },
  },
  {
    reason: "StaleSignal",
    policy: { maxSignalAge: "30s" },
    fault: async ({ cluster, loop, target }) => {
      // An alert from before its pod was made is about another of that name.
      await cluster.until("the pod to be old enough", async () => Date.now() - (target.createdAt ?? Infinity) > 42_000);
      loop.fire({ pod: target.ref.name }, "firing", 40_000);
    },
    says: /the signal was last seen \d+ s ago; maxSignalAge is 30s/,
    lift: ({ loop, target }) => loop.firePod(target.ref.name),
  },
  {
    reason: "NoData",
    // It names the workload only, and nothing says which of its pods is ill.
    fault: ({ loop, name }) => loop.fire({ deployment: name }),
    says: /which replica of nodata is ill is not known/,
    lift: async (stage) => {
      await setReady(stage, stage.target.ref.name, false);
      await isUnready(stage, stage.target.ref.name);
      const stop = stage.loop.platform.onChange(() => {
        if (stage.loop.workload(stage.name)?.replicas.some((r) => r.ref.uid === stage.target.ref.uid && r.phase !== "Exited")) return;
        stage.loop.fire({ deployment: stage.name }, "resolved");
        stop();
      });
    },
  },
  {
    reason: "DependencyUnhealthy",
    arrange: async ({ cluster, loop, name }) => {
      await cluster.apply([deployment("ledger", 1, FAKE)]);
      await cluster.until("ledger is seen", async () => loop.workload("ledger") !== undefined);
      const ledger = loop.workload("ledger")?.ref ?? assert.fail();
      for (let i = 10; i >= 0; i--)
        loop.telemetry.recordRequests(ledger, "Otlp", { t: Date.now() - i * 1_000, total: 100, failed: i === 10 ? 0 : 80 });
      await loop.store.create({
        apiVersion: API_VERSION,
        kind: "ServiceDependency",
        metadata: { name: "to-ledger", namespace: SHOP },
        spec: { from: { name }, to: { name: "ledger" }, unhealthyAbove: "10%", window: "30s" },
      });
    },
    says: /ledger/,
    lift: ({ loop }) => loop.store.delete("ServiceDependency", SHOP, "to-ledger"),
  },
  {
    reason: "StormBrake",
    // All three at once: that is nothing of their own.
    fault: ({ loop, target, others }) => {
      for (const replica of others) loop.fire({ pod: replica.ref.name });
      loop.firePod(target.ref.name);
    },
    says: /3 of 3 .* are ill at once, more than 2/,
    lift: ({ loop, others }) => {
      for (const replica of others) loop.fire({ pod: replica.ref.name }, "resolved");
    },
  },
  {
    reason: "InProgress",
    policy: { signals: ill("this") },
    fault: ({ loop, target }) => loop.firePod(target.ref.name, { which: "this" }),
    arrange: async ({ cluster, loop, name, others }) => {
      await loop.runbook("long", [{ wait: { for: "10s" } }, { evict: {} }]);
      await loop.policy("elsewhere", { targets: [{ name }], ladder: [{ runbook: "long" }], signals: ill("other") });
      loop.firePod(others[0]?.ref.name ?? "", { which: "other" });
      await cluster.until("the other episode acts", async () => (await loop.remediations("elsewhere"))[0]?.status.phase === "Executing");
    },
    says: /is Executing on the same/,
    lift: async ({ loop }) => void (await loop.episode("elsewhere")),
  },
  {
    reason: "RecentlyRemediated",
    policy: { cooldown: "1h" },
    arrange: async ({ loop, name, others }) => {
      await loop.policy(name, { ladder: [{ runbook: "quick" }], cooldown: "1h" });
      loop.firePod(others[0]?.ref.name ?? "");
      await loop.episode(name);
      await loop.whole(name, 3);
    },
    says: /ended less than 1h ago; rest until/,
    lift: ({ loop, name }) => loop.change(name, { cooldown: "1s" }),
  },
  {
    reason: "BudgetExhausted",
    arrange: async (stage) => {
      const other = stage.others[0]?.ref.name ?? "";
      await setReady(stage, other, false);
      await isUnready(stage, other);
    },
    says: /2 of 3 replicas would be unavailable; .* allows 1/,
    lift: (stage) => setReady(stage, stage.others[0]?.ref.name ?? "", true).then(() => undefined),
  },
  {
    reason: "OutsideWindow",
    policy: { windows: [{ schedule: "0 4 29 2 *", timeZone: "UTC", duration: "1m" }] },
    says: /outside the policy's windows; the next opens at 20\d\d-02-29T04:00/,
    lift: ({ loop, name }) => loop.change(name, { windows: undefined }),
  },
  {
    reason: "AwaitingApproval",
    policy: { mode: "Approve" },
    says: /quick on awaitingapproval-/,
    lift: async ({ loop, name, target }) => {
      const [remediation] = await loop.remediations(name);
      await loop.store.create({
        apiVersion: API_VERSION,
        kind: "RemediationApproval",
        metadata: { name: "yes", namespace: SHOP },
        spec: {
          remediation: remediation?.metadata.name ?? "",
          targetUid: target.ref.uid,
          decision: "Approved",
          by: "jane",
          at: new Date().toISOString(),
        },
      });
    },
  },
];

describe("every gate on a real API server", { skip: lacking({ nodes: false, tools: ["kube", "kwok", "helm"] }) }, () => {
  let cluster: Cluster;
  let loop: KubeLoop;
  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3, tools: ["helm"] });
    await cluster.kubectl(["create", "namespace", SHOP]);
    loop = await KubeLoop.start(cluster);
    await loop.runbook("quick", [
      { startReplacement: {} },
      { awaitReady: {} },
      { removeFromTraffic: {} },
      { awaitInFlight: {}, timeout: "1s" },
      { stop: { gracePeriod: "1s" } },
    ]);
  });
  after(async () => {
    await loop?.stop();
    await cluster?.stop();
  });

  const stageOf = async (name: string): Promise<Stage> => {
    await cluster.apply([deployment(name, 3, FAKE), service(name)]);
    const [target, ...others] = (await loop.whole(name, 3)).replicas;
    return { cluster, loop, name, target: target ?? assert.fail(), others };
  };

  for (const { reason, policy = {}, arrange, fault, says, lift } of CASES)
    it(`${reason} blocks, and without it the same case acts`, async () => {
      const name = reason.toLowerCase();
      const stage = await stageOf(name);
      await arrange?.(stage);
      if ((await loop.store.get("RemediationPolicy", SHOP, name)) === undefined)
        await loop.policy(name, { ladder: [{ runbook: "quick" }], ...policy });
      await (fault ?? (({ target }: Stage) => loop.firePod(target.ref.name)))(stage);
      // What passes by itself, or is not ours, makes no episode: the decision is on record all the same.
      const decision = await cluster.until(`a decision of ${name}`, async () =>
        loop.records.findLast((record) => record.startsWith(`${SHOP}/${name} `) && DECIDED.test(record)),
      );
      assert.match(decision, says);
      assert.match(decision, reason === "AwaitingApproval" ? /waiting for a person's yes/ : new RegExp(`no action: ${reason}: `));
      const about = (await loop.remediations(name)).filter((r) => r.spec.signalTarget.name !== stage.others[0]?.ref.name);
      for (const blocked of about) assert.deepEqual([blocked.status.reason, stepsOf(blocked)], [reason, []], story(blocked));
      // Nothing of it is touched, not even marked.
      const still = loop.workload(name)?.replicas.find((r) => r.ref.uid === stage.target.ref.uid);
      assert.deepEqual([still?.phase, still?.inTraffic, still?.detached], ["Running", still?.ready, false]);
      await lift(stage);
      const acted = await loop.episode(
        name,
        (r) => r.status.outcome === "Remediated" && r.spec.signalTarget.name !== stage.others[0]?.ref.name,
      );
      assert.ok(stepsOf(acted).includes("stop Done"), story(acted));
      await cluster.until("the target is gone", async () => loop.workload(name)?.replicas.every((r) => r.ref.uid !== stage.target.ref.uid));
    });

  it("CircuitOpen: an episode that did not help opens it, a person is told once, and after its rest the same case acts", async () => {
    const name = "circuitopen";
    await stageOf(name);
    await loop.policy(name, {
      ladder: [{ strategy: "RollingRestart" }],
      attempts: { max: 1, window: "1h" },
      verify: { stableFor: "1s", timeout: "3s" },
    });
    loop.fire({ deployment: name });
    const failed = await loop.episode(name);
    assert.deepEqual([failed.status.phase, failed.status.reason], ["Escalated", "CircuitOpen"], story(failed));
    const renewed = (await loop.whole(name, 3)).replicas.map((replica) => replica.ref.uid);
    assert.equal(loop.pages.filter((page) => page.summary.includes(name)).length, 1);
    // It still fires, and nothing is done.
    await cluster.until("a decision", async () =>
      loop.records.some((record) => record.startsWith(`${SHOP}/${name} no action: CircuitOpen: `)),
    );
    assert.deepEqual(
      loop.workload(name)?.replicas.map((replica) => replica.ref.uid),
      renewed,
    );
    await loop.change(name, { attempts: { max: 1, window: "1h", reset: "1s" } });
    const again = await loop.episode(name, (r) => r.metadata.uid !== failed.metadata.uid && r.status.phase === "Verifying");
    loop.fire({ deployment: name }, "resolved");
    const acted = await loop.episode(name, (r) => r.metadata.uid === again.metadata.uid && r.status.outcome === "Remediated");
    assert.ok(stepsOf(acted).length > 0, story(acted));
  });

  it("in Observe every gate passes, and the API server is written nothing (S7)", async () => {
    const name = "observed";
    const { target } = await stageOf(name);
    await loop.policy(name, { mode: "Observe", ladder: [{ runbook: "quick" }] });
    loop.fire({ pod: target.ref.name });
    const observed = await loop.episode(name);
    loop.fire({ pod: target.ref.name }, "resolved");
    assert.deepEqual([observed.status.outcome, observed.status.attempts], ["Observed", []], story(observed));
    assert.ok(observed.status.gates.every(({ verdict }) => verdict === "Pass"));
    // What it says is written last: the audit log has whatever came before.
    await cluster.kubectl(["label", "namespace", SHOP, "nightshift.test/observed=true"]);
    await cluster.until(
      "the audit log to be up to date",
      async () =>
        cluster.audit(({ verb, objectRef }) => verb === "patch" && objectRef?.resource === "namespaces" && objectRef.name === SHOP).length >
        0,
    );
    const writesOn = (prefix: string): unknown[] =>
      cluster.audit(
        ({ verb, user, objectRef }) =>
          user.username === `system:serviceaccount:${OWN}:nightshift` &&
          !["get", "list", "watch"].includes(verb) &&
          objectRef?.name?.startsWith(`${prefix}-`) === true,
      );
    assert.deepEqual(writesOn(name), []);
    assert.ok(writesOn("paused").length > 0, "what acts is there");
  });

  it("a required capture that failed: the pod is not stopped, and back in traffic (S8)", async () => {
    const name = "uncaptured";
    const { target } = await stageOf(name);
    // There is no agent that would answer.
    await loop.runbook("capturing", [
      { startReplacement: {} },
      { awaitReady: {} },
      { removeFromTraffic: {} },
      { awaitInFlight: {}, timeout: "1s" },
      { capture: { type: "HeapSnapshot" }, timeout: "2s" },
      { stop: { gracePeriod: "1s" } },
    ]);
    await loop.policy(name, { ladder: [{ runbook: "capturing" }] });
    loop.fire({ pod: target.ref.name });
    const ended = await loop.episode(name);
    loop.fire({ pod: target.ref.name }, "resolved");
    const steps = stepsOf(ended);
    assert.ok(steps.includes("capture Failed") && !steps.includes("stop Done"), story(ended));
    assert.equal(ended.status.phase, "Escalated", story(ended));
    const workload = await loop.whole(name, 3);
    const back = workload.replicas.find(({ ref }) => ref.uid === target.ref.uid);
    assert.deepEqual([back?.phase, back?.inTraffic, back?.detached], ["Running", true, false]);
  });

  it("there is a case for each gate", () => {
    const covered = new Set([...CASES.map(({ reason }) => reason), "CircuitOpen"]);
    assert.deepEqual(
      GATES.map(({ name }) => name).filter((name) => !covered.has(name)),
      [],
    );
  });
});
