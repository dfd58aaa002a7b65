// Every strategy on a real cluster: it does its work, and takes back what it must. It is done as the account that the chart
// gives to the operator, so that what the chart allows is what the strategies need.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Remediation } from "../../src/api/remediation.ts";
import { FIELD_MANAGER, MARKS } from "../../src/platform/kubernetes/marks.ts";
import type { HorizontalPodAutoscaler, Node, Owner, Pod } from "../../src/platform/kubernetes/objects.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { deployment, FAKE, KubeLoop, OWN, service, SHOP, statefulSet, stepsOf, story } from "./support.ts";

describe("strategies on a real cluster", { skip: lacking({ nodes: true, tools: ["kube", "kwok", "helm"] }) }, () => {
  let cluster: Cluster;
  let loop: KubeLoop;
  before(async () => {
    cluster = await Cluster.start({ node: true, fakeNodes: 3, tools: ["helm"] });
    await cluster.kubectl(["create", "namespace", SHOP]);
    loop = await KubeLoop.start(cluster);
  });
  after(async () => {
    await loop?.stop();
    await cluster?.stop();
  });

  const get = <T>(kind: string, name: string): Promise<T> => cluster.get<T>(kind, name, "-n", SHOP);

  describe("RestartPod", () => {
    it("of a Deployment replaces the pod, with never a replica less in traffic", async () => {
      await cluster.apply([deployment("restart", 3), service("restart")]);
      const target = await loop.one("restart", 3);
      let least = Infinity;
      const stop = loop.platform.onChange(() => {
        least = Math.min(least, loop.workload("restart")?.replicas.filter((r) => r.inTraffic).length ?? 0);
      });
      await loop.policy("restart", { ladder: [{ strategy: "RestartPod" }] });
      loop.firePod(target.ref.name);
      const ended = await loop.episode("restart");
      stop();
      assert.equal(ended.status.outcome, "Remediated", story(ended));
      const workload = await loop.whole("restart", 3);
      assert.ok(workload.replicas.every((r) => r.ref.uid !== target.ref.uid));
      assert.equal(least, 3);
      const replacement = workload.replicas.find((r) => r.replaces === target.ref.uid);
      assert.equal(replacement?.annotations[MARKS.epoch], "7");
      // Nobody but its owner has started it, and it is an ordinary pod of its ReplicaSet.
      assert.ok((await loop.pods("restart")).every((pod) => pod.metadata.labels?.["pod-template-hash"] !== undefined));
    });

    it("puts the pod back into its ReplicaSet where no replacement can be started", async () => {
      await cluster.apply([deployment("stuck", 2), service("stuck")]);
      const target = await loop.one("stuck", 2);
      await cluster.apply([
        { apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "full", namespace: SHOP }, spec: { hard: { pods: "0" } } },
      ]);
      try {
        await loop.policy("stuck", { ladder: [{ runbook: "replace" }] });
        await loop.runbook("replace", [
          { startReplacement: {}, timeout: "5s" },
          { awaitReady: {} },
          { removeFromTraffic: {} },
          { awaitInFlight: {}, timeout: "1s" },
          { stop: {} },
        ]);
        loop.fire({ pod: target.ref.name });
        const ended = await loop.episode("stuck");
        assert.deepEqual(stepsOf(ended).slice(0, 1), ["startReplacement Failed"], story(ended));
        assert.deepEqual(stepsOf(ended).slice(-1), ["removeReplacement Done"], story(ended));
        assert.equal(ended.status.phase, "Escalated");
      } finally {
        loop.fire({ pod: target.ref.name }, "resolved");
        await cluster.kubectl(["delete", "resourcequota", "full", "-n", SHOP]);
      }
      const workload = await loop.whole("stuck", 2);
      const back = workload.replicas.find((r) => r.ref.uid === target.ref.uid);
      assert.deepEqual([back?.detached, back?.inTraffic], [false, true]);
    });

    it("takes the replacement away again that does not become ready", async () => {
      const config = (start: string): object => ({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "unready", namespace: SHOP },
        data: { start },
      });
      // Only a pod that finds `yes` when it starts becomes ready, and then stays so.
      const pods = {
        container: {
          command: [
            "sh",
            "-c",
            "mkdir -p /tmp/w && grep -q yes /config/start && touch /tmp/w/index.html; exec busybox httpd -f -p 8080 -h /tmp/w",
          ],
          volumeMounts: [{ name: "config", mountPath: "/config" }],
        },
        spec: { volumes: [{ name: "config", configMap: { name: "unready" } }] },
      };
      await cluster.apply([config("yes"), deployment("unready", 2, pods), service("unready")]);
      const target = await loop.one("unready", 2);
      await cluster.apply([config("no")]);
      await loop.runbook("replace-soon", [
        { startReplacement: {} },
        { awaitReady: {}, timeout: "20s" },
        { removeFromTraffic: {} },
        { awaitInFlight: {}, timeout: "1s" },
        { stop: {} },
      ]);
      await loop.policy("unready", { ladder: [{ runbook: "replace-soon" }] });
      loop.fire({ pod: target.ref.name });
      const ended = await loop.episode("unready");
      loop.fire({ pod: target.ref.name }, "resolved");
      assert.equal(ended.status.phase, "Escalated", story(ended));
      assert.deepEqual(stepsOf(ended).slice(-1), ["removeReplacement Done"], story(ended));
      const workload = await loop.whole("unready", 2);
      const back = workload.replicas.find((r) => r.ref.uid === target.ref.uid);
      assert.deepEqual([back?.detached, back?.inTraffic], [false, true]);
    });

    it("of a StatefulSet evicts the pod, which comes back under its name", async () => {
      await cluster.apply([statefulSet("db", 2), service("db")]);
      const target = await loop.one("db", 2);
      await loop.policy("db", { ladder: [{ strategy: "RestartPod" }] });
      loop.fire({ pod: target.ref.name });
      const stop = loop.platform.onChange(() => {
        const now = loop.workload("db")?.replicas.find((r) => r.ref.name === target.ref.name);
        if (now !== undefined && now.ref.uid !== target.ref.uid) loop.fire({ pod: target.ref.name }, "resolved");
      });
      const ended = await loop.episode("db");
      stop();
      assert.equal(ended.status.outcome, "Remediated", story(ended));
      assert.deepEqual(stepsOf(ended), ["evict Done"]);
      const names = (await loop.whole("db", 2)).replicas.map((r) => r.ref.name);
      assert.deepEqual(names.toSorted(), ["db-0", "db-1"]);
    });
  });

  it("EvictPod evicts a bare pod, and waits for its PodDisruptionBudget", async () => {
    const pod = (deployment("bare", 1) as { spec: { template: { metadata: object; spec: object } } }).spec.template;
    await cluster.apply([
      { apiVersion: "v1", kind: "Pod", metadata: { name: "bare", namespace: SHOP, ...pod.metadata }, spec: pod.spec },
      {
        apiVersion: "policy/v1",
        kind: "PodDisruptionBudget",
        metadata: { name: "bare", namespace: SHOP },
        spec: { minAvailable: 1, selector: { matchLabels: { app: "bare" } } },
      },
    ]);
    const target = await loop.one("bare");
    await cluster.until("the budget is counted", async () => (loop.workload("bare")?.minAvailable?.count ?? 0) === 1);
    await loop.policy("bare", { targets: [{ kind: "Pod", name: "bare" }], ladder: [{ strategy: "EvictPod" }] });
    loop.firePod(target.ref.name);
    const blocked = await loop.episode("bare", (r) => r.status.phase === "Blocked");
    assert.match(story(blocked), /BudgetExhausted: .*PodDisruptionBudget shop\/bare, minAvailable 1, disruptionsAllowed 0/);
    await cluster.kubectl(["delete", "pdb", "bare", "-n", SHOP]);
    const acted = await loop.episode("bare", (r) => stepsOf(r).includes("evict Done"));
    assert.deepEqual(await loop.pods("bare"), [], story(acted));
    loop.fire({ pod: target.ref.name }, "resolved");
  });

  it("RollingRestart replaces every pod by a rollout of the cluster's own", async () => {
    await cluster.apply([deployment("rolling", 3), service("rolling")]);
    const old = (await loop.whole("rolling", 3)).replicas.map((r) => r.ref.uid);
    await loop.policy("rolling", { ladder: [{ strategy: "RollingRestart" }] });
    loop.fire({ deployment: "rolling" });
    await loop.episode("rolling", (r) => r.status.phase === "Verifying");
    loop.fire({ deployment: "rolling" }, "resolved");
    const ended = await loop.episode("rolling");
    assert.equal(ended.status.outcome, "Remediated", story(ended));
    const now = (await loop.whole("rolling", 3)).replicas.map((r) => r.ref.uid);
    assert.ok(now.every((uid) => !old.includes(uid)));
    assert.equal((await get<Owner>("deployment", "rolling")).metadata.annotations?.[MARKS.epoch], "7");
  });

  describe("ScaleUp", () => {
    it("takes the replicas more back when they did not help", async () => {
      await cluster.apply([deployment("crowd", 2), service("crowd")]);
      await loop.whole("crowd", 2);
      await loop.policy("crowd", {
        ladder: [{ strategy: "ScaleUp", scale: { by: 1, max: 5 } }],
        verify: { stableFor: "1s", timeout: "5s" },
        cooldown: "1h",
      });
      loop.fire({ deployment: "crowd" });
      await loop.whole("crowd", 3);
      // Stated by server-side apply, and nothing beside what the strategy is about.
      const written = (await cluster.get<Owner>("deployment", "crowd", "-n", SHOP, "--show-managed-fields")).metadata.managedFields?.find(
        ({ manager }) => manager === FIELD_MANAGER,
      );
      assert.equal(written?.operation, "Apply");
      assert.deepEqual(written?.fieldsV1?.["f:spec"], { "f:replicas": {} });
      const ended = await loop.episode("crowd");
      loop.fire({ deployment: "crowd" }, "resolved");
      assert.equal(ended.status.outcome, "Ineffective", story(ended));
      assert.deepEqual(stepsOf(ended), ["scale Done", "scaleBack Done"]);
      await loop.whole("crowd", 2);
    });

    it("goes by way of the autoscaler's floor, for a time, and never beyond its bound", async () => {
      await cluster.apply([
        deployment("auto", 2),
        service("auto"),
        {
          apiVersion: "autoscaling/v2",
          kind: "HorizontalPodAutoscaler",
          metadata: { name: "auto", namespace: SHOP },
          spec: {
            scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "auto" },
            minReplicas: 2,
            maxReplicas: 4,
            metrics: [{ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } } }],
          },
        },
      ]);
      await loop.whole("auto", 2);
      await cluster.until("the autoscaler is seen", async () => loop.workload("auto")?.maxReplicas?.count === 4);
      await loop.policy("auto", { ladder: [{ strategy: "ScaleUp", scale: { by: 5, max: 9, for: "5s" }, timeout: "5m" }] });
      loop.fire({ deployment: "auto" });
      const floor = async (): Promise<number | undefined> => (await get<HorizontalPodAutoscaler>("hpa", "auto")).spec.minReplicas;
      await cluster.until("the floor is raised", async () => (await floor()) === 4);
      await loop.episode("auto", (r) => stepsOf(r).includes("scaleBack Done"));
      loop.fire({ deployment: "auto" }, "resolved");
      assert.equal(await floor(), 2);
      assert.equal((await get<Owner>("deployment", "auto")).metadata.annotations?.[MARKS.scaledBy], undefined);
      await loop.episode("auto");
    });

    it("is blocked while the autoscaler is at its bound", async () => {
      await cluster.apply([
        deployment("full", 3),
        {
          apiVersion: "autoscaling/v2",
          kind: "HorizontalPodAutoscaler",
          metadata: { name: "full", namespace: SHOP },
          spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "full" }, minReplicas: 3, maxReplicas: 3 },
        },
      ]);
      await loop.whole("full", 3);
      await cluster.until("the autoscaler is seen", async () => loop.workload("full")?.maxReplicas?.count === 3);
      await loop.policy("full", { ladder: [{ strategy: "ScaleUp", scale: { by: 1, max: 9 } }] });
      loop.fire({ deployment: "full" });
      const blocked = await loop.episode("full", (r) => r.status.phase === "Blocked");
      loop.fire({ deployment: "full" }, "resolved");
      assert.equal(blocked.status.reason, "BudgetExhausted", story(blocked));
      assert.match(
        blocked.status.message ?? "",
        /full has 3 replicas, and HorizontalPodAutoscaler shop\/full \(spec.maxReplicas 3\) allows no more/,
      );
    });
  });

  it("RollbackRollout goes back to the revision whose pods are still well", async () => {
    await cluster.apply([deployment("release", 2), service("release")]);
    await loop.whole("release", 2);
    const good = (await get<Owner>("deployment", "release")).spec.template?.spec?.containers[0]?.image;
    await cluster.kubectl(["set", "image", "deployment/release", "main=nightshift.dev/nothing:1", "-n", SHOP]);
    await cluster.until("the rollout hangs", async () => /rollout of revision 2/.test(loop.workload("release")?.busy?.message ?? ""));
    // A restart waits for the rollout; a rollback is its cure.
    await loop.policy("release", { ladder: [{ strategy: "RollbackRollout" }] });
    loop.fire({ deployment: "release" });
    await loop.episode("release", (r) => r.status.phase === "Verifying");
    loop.fire({ deployment: "release" }, "resolved");
    const ended = await loop.episode("release");
    assert.equal(ended.status.outcome, "Remediated", story(ended));
    const now = await get<Owner>("deployment", "release");
    assert.equal(now.spec.template?.spec?.containers[0]?.image, good);
    assert.match(now.metadata.annotations?.[MARKS.rolledBackFrom] ?? "", /^release-/);
    await loop.whole("release", 2);
  });

  describe("ResizeResources", () => {
    const limit = async (name: string): Promise<unknown> => (await get<Pod>("pod", name)).spec.containers[0]?.resources?.limits?.["memory"];

    it("gives a pod more memory without a restart", async () => {
      await cluster.apply([deployment("grow", 2), service("grow")]);
      const target = await loop.one("grow", 2);
      await loop.policy("grow", { ladder: [{ strategy: "ResizeResources", resize: { memory: { factor: 1.5, max: "128Mi" } } }] });
      loop.fire({ pod: target.ref.name });
      await loop.episode("grow", (r) => r.status.phase === "Verifying");
      loop.fire({ pod: target.ref.name }, "resolved");
      const ended = await loop.episode("grow");
      assert.equal(ended.status.outcome, "Remediated", story(ended));
      const pod = await get<Pod>("pod", target.ref.name);
      assert.equal(pod.metadata.uid, target.ref.uid);
      assert.deepEqual(
        [pod.spec.containers[0]?.resources?.limits?.["memory"], pod.status?.containerStatuses?.[0]?.resources?.limits?.["memory"]],
        ["96Mi", "96Mi"],
      );
      assert.equal(pod.status?.containerStatuses?.[0]?.restartCount, 0);
      assert.equal(loop.workload("grow")?.replicas.find((r) => r.ref.uid === target.ref.uid)?.memory?.limitBytes, 96 * 2 ** 20);
    });

    it("takes it back when it did not help", async () => {
      await cluster.apply([deployment("shrink", 1), service("shrink")]);
      const target = await loop.one("shrink", 1);
      await loop.policy("shrink", {
        ladder: [{ strategy: "ResizeResources", resize: { memory: { by: "32Mi", max: "1Gi" } } }],
        verify: { stableFor: "1s", timeout: "3s" },
        cooldown: "1h",
      });
      loop.fire({ pod: target.ref.name });
      const ended = await loop.episode("shrink");
      loop.fire({ pod: target.ref.name }, "resolved");
      assert.deepEqual(stepsOf(ended), ["resize Done", "resizeBack Done"], story(ended));
      assert.equal(await limit(target.ref.name), "64Mi");
    });

    it("leaves nothing changed where the node has no room, and tells a person", async () => {
      await cluster.apply([deployment("huge", 1), service("huge")]);
      const target = await loop.one("huge", 1);
      // A guaranteed pod asks for what it may have, and no node has that much.
      await cluster.apply([
        deployment("huge", 1, {
          container: { resources: { requests: { cpu: "5m", memory: "64Mi" }, limits: { cpu: "5m", memory: "64Mi" } } },
        }),
      ]);
      const guaranteed = await cluster.until("it is guaranteed", async () => {
        const workload = await loop.whole("huge", 1);
        const [replica] = workload.replicas;
        return replica !== undefined && replica.ref.uid !== target.ref.uid && replica;
      });
      await loop.policy("huge", { ladder: [{ strategy: "ResizeResources", resize: { memory: { by: "8Ti", max: "9Ti" } } }] });
      loop.fire({ pod: guaranteed.ref.name });
      const ended = await loop.episode("huge");
      loop.fire({ pod: guaranteed.ref.name }, "resolved");
      assert.equal(ended.status.phase, "Escalated", story(ended));
      assert.match(ended.status.message ?? "", /cannot be resized/);
      assert.equal(await limit(guaranteed.ref.name), "64Mi");
      assert.ok(loop.pages.some((page) => /huge/.test(page.summary)));
    });
  });

  describe("CordonAndDrainNode", () => {
    const node = (name: string): Promise<Node> => cluster.get<Node>("node", name);
    const on = async (name: string): Promise<string[]> =>
      (await loop.pods("spread")).filter((pod) => pod.spec.nodeName === name).map((pod) => pod.metadata.name);
    const policy = (name: string): Record<string, unknown> => ({
      targets: [{ kind: "Node", name }],
      ladder: [{ strategy: "CordonAndDrainNode" }],
    });

    it("moves everything away, and uses the node again once it is well", async () => {
      await cluster.apply([
        deployment("spread", 6, {
          spec: {
            ...FAKE.spec,
            topologySpreadConstraints: [
              {
                maxSkew: 1,
                topologyKey: "kubernetes.io/hostname",
                whenUnsatisfiable: "ScheduleAnyway",
                labelSelector: { matchLabels: { app: "spread" } },
              },
            ],
          },
        }),
      ]);
      await loop.whole("spread", 6);
      const moved = await on("fake-1");
      assert.ok(moved.length > 0);
      let least = Infinity;
      const stop = loop.platform.onChange(() => {
        least = Math.min(least, loop.workload("spread")?.replicas.filter((r) => r.ready && r.phase === "Running").length ?? 0);
      });
      await loop.policy("drain", policy("fake-1"), OWN);
      loop.fire({ node: "fake-1" });
      await loop.episode("drain", (r) => r.status.phase === "Verifying");
      loop.fire({ node: "fake-1" }, "resolved");
      const ended = await loop.episode("drain");
      stop();
      assert.equal(ended.status.outcome, "Remediated", story(ended));
      assert.deepEqual(stepsOf(ended), ["cordon Done", "drain Done", "awaitHealed Done", "uncordon Done"]);
      assert.ok(least >= 5, `${least} were ready at the least`);
      const now = await node("fake-1");
      assert.deepEqual([now.spec?.unschedulable, now.metadata.annotations?.[MARKS.cordonedBy]], [undefined, undefined]);
      const left = new Set(await on("fake-1"));
      assert.ok(moved.every((name) => !left.has(name)));
    });

    it("evicts no more once somebody has opened the node again", async () => {
      await loop.whole("spread", 6);
      const budget = (minAvailable: number): object => ({
        apiVersion: "policy/v1",
        kind: "PodDisruptionBudget",
        metadata: { name: "spread", namespace: SHOP },
        spec: { minAvailable, selector: { matchLabels: { app: "spread" } } },
      });
      await cluster.apply([budget(6)]);
      const there = await on("fake-2");
      assert.ok(there.length > 0);
      await loop.policy("drain-opened", policy("fake-2"), OWN);
      loop.fire({ node: "fake-2" });
      const isDraining = (r: Remediation): boolean =>
        r.status.attempts[0]?.steps.some(({ type, state }) => type === "drain" && state === "Intended") ?? false;
      await loop.episode("drain-opened", isDraining);
      await cluster.kubectl(["uncordon", "fake-2"]);
      const ended = await loop.episode("drain-opened");
      loop.fire({ node: "fake-2" }, "resolved");
      assert.equal(ended.status.phase, "Escalated", story(ended));
      assert.match(ended.status.message ?? "", /fake-2 was uncordoned by somebody since: what is on it stays/);
      assert.deepEqual(stepsOf(ended).slice(-1), ["uncordon Done"]);
      assert.deepEqual((await on("fake-2")).toSorted(), there.toSorted());
      const now = await node("fake-2");
      assert.deepEqual([now.spec?.unschedulable, now.metadata.annotations?.[MARKS.cordonedBy]], [undefined, undefined]);
      await cluster.kubectl(["delete", "poddisruptionbudget", "spread", "-n", SHOP]);
      await loop.store.delete("RemediationPolicy", OWN, "drain-opened");
    });

    it("opens the node again where it cannot be emptied", async () => {
      await loop.whole("spread", 6);
      await cluster.apply([
        {
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: "alone", namespace: SHOP },
          spec: { ...FAKE.spec, nodeName: "fake-2", containers: [{ name: "main", image: "none" }] },
        },
      ]);
      await cluster.until("it is seen", async () => loop.workload("alone") !== undefined);
      await loop.policy("drain-2", policy("fake-2"), OWN);
      loop.fire({ node: "fake-2" });
      const ended = await loop.episode("drain-2");
      loop.fire({ node: "fake-2" }, "resolved");
      assert.equal(ended.status.phase, "Escalated", story(ended));
      assert.match(ended.status.message ?? "", /Pod shop\/alone has no owner that would start it elsewhere/);
      assert.deepEqual(stepsOf(ended).slice(-1), ["uncordon Done"]);
      assert.equal((await node("fake-2")).spec?.unschedulable, undefined);
      await cluster.kubectl(["delete", "pod", "alone", "-n", SHOP]);
    });

    it("is blocked where somebody else has cordoned the node, and where what is on it is marked", async () => {
      await cluster.kubectl(["cordon", "fake-0"]);
      await cluster.until("it is seen", async () => loop.workload("nodes")?.replicas.some((r) => r.busy !== undefined) ?? false);
      await loop.policy("drain-3", policy("fake-0"), OWN);
      loop.fire({ node: "fake-0" });
      const blocked = await loop.episode("drain-3", (r) => r.status.phase === "Blocked");
      assert.match(story(blocked), /InProgress: Node fake-0 was cordoned by somebody else \(spec.unschedulable: true\)/);
      await cluster.kubectl(["annotate", "deployment", "spread", "-n", SHOP, "nightshift.dev/do-not-remediate=true"]);
      await cluster.kubectl(["uncordon", "fake-0"]);
      const marked = await loop.episode("drain-3", (r) => r.status.reason === "Unmanaged");
      loop.fire({ node: "fake-0" }, "resolved");
      assert.match(marked.status.message ?? "", /Deployment\/shop\/spread carries the annotation nightshift.dev\/do-not-remediate/);
    });
  });

  it("RunJob runs the command in the workload's image, and its failure is told", async () => {
    await cluster.apply([deployment("jobs", 1, { spec: { securityContext: { runAsUser: 65_532 } } }), service("jobs")]);
    await loop.whole("jobs", 1);
    await loop.policy("jobs", { ladder: [{ strategy: "RunJob", command: ["sh", "-c", "id -u"] }] });
    loop.fire({ deployment: "jobs" });
    await loop.episode("jobs", (r) => r.status.phase === "Verifying");
    loop.fire({ deployment: "jobs" }, "resolved");
    const ended = await loop.episode("jobs");
    assert.equal(ended.status.outcome, "Remediated", story(ended));
    const jobs = await cluster.get<{ items: { metadata: { name: string } }[] }>("jobs", "-n", SHOP);
    assert.equal(jobs.items.length, 1);
    assert.equal((await cluster.kubectl(["logs", `job/${jobs.items[0]?.metadata.name}`, "-n", SHOP])).trim(), "65532");

    await cluster.apply([deployment("jobs-bad", 1, { spec: { securityContext: { runAsUser: 65_532 } } }), service("jobs-bad")]);
    await loop.whole("jobs-bad", 1);
    await loop.policy("jobs-bad", { ladder: [{ strategy: "RunJob", command: ["sh", "-c", "exit 3"] }] });
    loop.fire({ deployment: "jobs-bad" });
    const failed = await loop.episode("jobs-bad");
    loop.fire({ deployment: "jobs-bad" }, "resolved");
    assert.equal(failed.status.phase, "Escalated", story(failed));
    assert.match(failed.status.message ?? "", /the job was run/);
  });

  it("Notify tells the receivers, and writes nothing", async () => {
    await cluster.apply([deployment("tell", 1)]);
    const old = await loop.one("tell", 1);
    await loop.policy("tell", { ladder: [{ strategy: "Notify", message: "look at tell" }] });
    loop.fire({ deployment: "tell" });
    await cluster.until("it is told", async () => loop.pages.some((page) => /look at tell/.test(page.summary)));
    loop.fire({ deployment: "tell" }, "resolved");
    await loop.episode("tell");
    assert.equal((await loop.one("tell", 1)).ref.uid, old.ref.uid);
  });

  describe("others at work", () => {
    it("a rollout during the episode ends it, and is not fought", async () => {
      const slow = {
        container: { readinessProbe: { httpGet: { path: "/index.html", port: 8080 }, initialDelaySeconds: 15, periodSeconds: 1 } },
      };
      await cluster.apply([deployment("touched", 2, slow), service("touched")]);
      const target = await loop.one("touched", 2);
      await loop.policy("touched", { ladder: [{ strategy: "RestartPod" }] });
      loop.fire({ pod: target.ref.name });
      await loop.episode("touched", (r) => stepsOf(r).includes("awaitReady Intended"));
      await cluster.kubectl(["rollout", "restart", "deployment/touched", "-n", SHOP]);
      const ended = await loop.episode("touched");
      loop.fire({ pod: target.ref.name }, "resolved");
      assert.equal(ended.status.phase, "Cancelled", story(ended));
      assert.match(ended.status.message ?? "", /somebody else has rolled out Deployment touched/);
      const workload = await loop.whole("touched", 2);
      assert.ok(workload.replicas.every((r) => r.detached === false));
    });

    it("a person who deletes the pod first has healed it", async () => {
      await cluster.apply([deployment("deleted", 2), service("deleted")]);
      const target = await loop.one("deleted", 2);
      await loop.policy("deleted", { ladder: [{ strategy: "RestartPod" }], paused: { reason: "wait" } });
      loop.firePod(target.ref.name);
      await loop.episode("deleted", (r) => r.status.reason === "Paused");
      await cluster.kubectl(["delete", "pod", target.ref.name, "-n", SHOP]);
      const ended = await loop.episode("deleted");
      assert.deepEqual([ended.status.phase, ended.status.outcome], ["Succeeded", "SelfRecovered"], story(ended));
    });

    it("what Flux owns is left to Git, and the person is told who owns what", async () => {
      await cluster.kubectl(["apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-"], {
        input: JSON.stringify(
          deployment(
            "owned",
            2,
            {},
            {
              labels: { app: "owned", "kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" },
            },
          ),
        ),
      });
      await loop.whole("owned", 2);
      await loop.policy("owned", { ladder: [{ strategy: "ScaleUp", scale: { max: 5 } }] });
      loop.fire({ deployment: "owned" });
      const ended = await loop.episode("owned");
      loop.fire({ deployment: "owned" }, "resolved");
      assert.deepEqual([ended.status.phase, ended.status.reason], ["Escalated", "GitOpsOwned"], story(ended));
      assert.match(ended.status.message ?? "", /spec.replicas of Deployment owned is owned by Flux Kustomization flux-system\/shop/);
      assert.equal((await get<Owner>("deployment", "owned")).spec.replicas, 2);
    });
  });

  describe("server-side apply", () => {
    it("leaves what somebody else states, and tells a person which field is whose", async () => {
      await cluster.kubectl(["apply", "--server-side", "--field-manager=helm", "-f", "-"], {
        input: JSON.stringify(deployment("stated", 2)),
      });
      await loop.whole("stated", 2);
      await loop.policy("stated", { ladder: [{ strategy: "ScaleUp", scale: { by: 1, max: 5 } }] });
      loop.fire({ deployment: "stated" });
      const ended = await loop.episode("stated");
      loop.fire({ deployment: "stated" }, "resolved");
      assert.equal(ended.status.phase, "Escalated", story(ended));
      assert.match(
        ended.status.message ?? "",
        /spec.replicas of Deployment shop\/stated is stated by the field manager helm \(server-side apply\)/,
      );
      assert.equal((await get<Owner>("deployment", "stated")).spec.replicas, 2);
    });

    it("does not take back what somebody has set away and back since", async () => {
      await cluster.apply([deployment("regained", 2), service("regained")]);
      await loop.whole("regained", 2);
      await loop.policy("regained", {
        ladder: [{ strategy: "ScaleUp", scale: { by: 1, max: 5 } }],
        verify: { stableFor: "1s", timeout: "20s" },
        cooldown: "1h",
      });
      loop.fire({ deployment: "regained" });
      await loop.whole("regained", 3);
      for (const replicas of [4, 3]) await cluster.kubectl(["scale", "deployment/regained", `--replicas=${replicas}`, "-n", SHOP]);
      const ended = await loop.episode("regained");
      loop.fire({ deployment: "regained" }, "resolved");
      assert.deepEqual(stepsOf(ended), ["scale Done", "scaleBack Done"], story(ended));
      assert.equal((await get<Owner>("deployment", "regained")).spec.replicas, 3);
    });
  });

  describe("gates, by the objects' real fields", () => {
    it("a rollout under way", async () => {
      await cluster.apply([deployment("moving", 2), service("moving")]);
      const target = await loop.one("moving", 2);
      await cluster.kubectl(["set", "image", "deployment/moving", "main=nightshift.dev/nothing:1", "-n", SHOP]);
      await cluster.until("the rollout is seen", async () => loop.workload("moving")?.busy !== undefined);
      await loop.policy("moving", { ladder: [{ strategy: "RestartPod" }] });
      loop.fire({ pod: target.ref.name });
      const blocked = await loop.episode("moving", (r) => r.status.phase === "Blocked");
      loop.fire({ pod: target.ref.name }, "resolved");
      assert.equal(blocked.status.reason, "InProgress", story(blocked));
      assert.match(blocked.status.message ?? "", /Deployment shop\/moving: /);
    });

    it("a cordoned node", async () => {
      await cluster.apply([deployment("closed", 1), service("closed")]);
      const target = await loop.one("closed", 1);
      const node = (await get<Pod>("pod", target.ref.name)).spec.nodeName ?? "";
      await cluster.kubectl(["cordon", node]);
      try {
        await cluster.until("it is seen", async () => loop.workload("closed")?.replicas[0]?.busy !== undefined);
        await loop.policy("closed", { ladder: [{ strategy: "RestartPod" }] });
        loop.fire({ pod: target.ref.name });
        const blocked = await loop.episode("closed", (r) => r.status.phase === "Blocked");
        assert.equal(blocked.status.reason, "InProgress", story(blocked));
        assert.equal(blocked.status.message, `Node ${node} is cordoned (spec.unschedulable: true): its pods are being moved`);
      } finally {
        loop.fire({ pod: target.ref.name }, "resolved");
        await cluster.kubectl(["uncordon", node]);
      }
    });

    it("a PodDisruptionBudget that is exhausted", async () => {
      await cluster.apply([
        deployment("budgeted", 2),
        service("budgeted"),
        {
          apiVersion: "policy/v1",
          kind: "PodDisruptionBudget",
          metadata: { name: "budgeted", namespace: SHOP },
          spec: { maxUnavailable: 0, selector: { matchLabels: { app: "budgeted" } } },
        },
      ]);
      const target = await loop.one("budgeted", 2);
      await cluster.until("the budget is counted", async () =>
        /currentHealthy 2/.test(loop.workload("budgeted")?.minAvailable?.source ?? ""),
      );
      await loop.policy("budgeted", { ladder: [{ strategy: "RestartPod" }] });
      loop.fire({ pod: target.ref.name });
      const blocked = await loop.episode("budgeted", (r) => r.status.phase === "Blocked");
      loop.fire({ pod: target.ref.name }, "resolved");
      assert.equal(blocked.status.reason, "BudgetExhausted", story(blocked));
      assert.match(
        blocked.status.message ?? "",
        /PodDisruptionBudget shop\/budgeted, maxUnavailable 0, disruptionsAllowed 0 \(currentHealthy 2, desiredHealthy 2\)/,
      );
    });

    for (const [level, kind, name] of [
      ["pod", "pod", undefined],
      ["Deployment", "deployment", "marked"],
      ["ReplicaSet", "replicaset", undefined],
      ["node", "node", undefined],
      ["namespace", "namespace", SHOP],
    ] as const)
      it(`do-not-remediate on the ${level}`, async () => {
        await cluster.apply([deployment("marked", 1), service("marked")]);
        const target = await loop.one("marked", 1);
        const pod = await get<Pod>("pod", target.ref.name);
        const which =
          name ??
          { pod: pod.metadata.name, replicaset: pod.metadata.ownerReferences?.[0]?.name ?? "", node: pod.spec.nodeName ?? "" }[
            kind as "pod"
          ];
        const annotate = (value: string): Promise<string> =>
          cluster.kubectl(["annotate", kind, which, "-n", SHOP, "--overwrite", `nightshift.dev/do-not-remediate${value}`]);
        await annotate("=on purpose");
        const policy = `marked-${kind}`;
        try {
          await cluster.until("the mark is seen", async () =>
            JSON.stringify([loop.workload("marked"), loop.platform.workloads().find((w) => w.ref.kind === "NodePool")]).includes(
              "on purpose",
            ),
          );
          await loop.policy(policy, { targets: [{ name: "marked" }], ladder: [{ strategy: "RestartPod" }] });
          loop.fire({ pod: target.ref.name });
          const blocked = await loop.episode(policy, (r) => r.status.phase === "Blocked");
          assert.equal(blocked.status.reason, "Unmanaged", story(blocked));
          assert.match(blocked.status.message ?? "", /carries the annotation nightshift.dev\/do-not-remediate: "on purpose"/);
          assert.ok((blocked.status.message ?? "").includes(which), blocked.status.message);
        } finally {
          loop.fire({ pod: target.ref.name }, "resolved");
          await loop.store.delete("RemediationPolicy", SHOP, policy);
          await annotate("-");
        }
      });
  });
});
