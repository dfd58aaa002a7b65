// Signals from what a real Kubernetes says of its objects: pods that really crash, run out of memory, wait for an image, a
// ConfigMap or a node, a rollout that is really stuck; and nothing is done where the state is over, or is not known.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Remediation } from "../../src/api/remediation.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { CHART, deployment, KubeLoop, OWN, type PodTemplate, service, SHOP, story } from "./support.ts";

const config = (name: string, data: Record<string, string>): object => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: SHOP },
  data,
});

/** Lets the operator read more, as the chart does it. */
async function letRead(cluster: Cluster, resources: readonly { readonly group: string; readonly resource: string }[]): Promise<void> {
  await cluster.exec([
    "helm",
    "upgrade",
    "nightshift",
    CHART,
    "-n",
    OWN,
    "--reuse-values",
    "--set-json",
    `watchResources=${JSON.stringify(resources)}`,
  ]);
  await cluster.kubectl(["scale", "deployment", "nightshift", "--replicas=0", "-n", OWN]);
}

/** A pod that serves only where its ConfigMap says `yes`, and else ends at once. */
const conditional = (name: string): PodTemplate => ({
  container: {
    command: [
      "sh",
      "-c",
      "grep -q yes /config/start || exit 3; mkdir -p /tmp/w && touch /tmp/w/index.html; exec busybox httpd -f -p 8080 -h /tmp/w",
    ],
    volumeMounts: [{ name: "config", mountPath: "/config" }],
  },
  spec: { volumes: [{ name: "config", configMap: { name } }] },
});

/** What is wrong with a pod, the signal that hears it, and what is said of it. */
const ILL: readonly (readonly [name: string, pods: PodTemplate, podState: object, cause: string, says: RegExp])[] = [
  [
    "crashes",
    { container: { command: ["sh", "-c", "exit 3"] } },
    { state: "CrashLoopBackOff", for: "0s", minRestarts: 1 },
    "CrashLoop",
    /CrashLoopBackOff for .*exit code 3/,
  ],
  [
    "greedy",
    // Reading a device without a newline, tail keeps all of it.
    { container: { command: ["tail", "/dev/zero"], resources: { limits: { memory: "24Mi" } } } },
    { state: "OOMKilled" },
    "OutOfMemory",
    /OOMKilled .* ago/,
  ],
  [
    "unpulled",
    { container: { image: "127.0.0.1:1/absent:1", imagePullPolicy: "IfNotPresent" } },
    { state: "ImagePullBackOff", for: "0s" },
    "ImagePull",
    /ImagePullBackOff.*absent/,
  ],
  [
    "unpullable",
    { container: { image: "absent:1", imagePullPolicy: "Never" } },
    { state: "ImagePullBackOff", for: "0s" },
    "ImagePull",
    /ErrImageNeverPull/,
  ],
  [
    "unconfigured",
    { container: { envFrom: [{ configMapRef: { name: "nowhere" } }] } },
    { state: "CreateContainerConfigError", for: "0s" },
    "ContainerConfig",
    /configmap "nowhere" not found/,
  ],
  [
    "homeless",
    { spec: { nodeSelector: { planet: "mars" } } },
    { state: "Pending", reason: "Unschedulable", for: "1s" },
    "Pending",
    /Unschedulable.*nodes are available/,
  ],
];

describe("signals from the objects of a real cluster", { skip: lacking({ nodes: true }) }, () => {
  let cluster: Cluster;
  let loop: KubeLoop;
  before(async () => {
    cluster = await Cluster.start({ node: true, dns: false, tools: ["helm"] });
    await cluster.kubectl(["create", "namespace", SHOP]);
    loop = await KubeLoop.start(cluster);
  });
  after(async () => {
    await loop?.stop();
    await cluster?.stop();
  });

  const isDecided = ({ status }: Remediation): boolean => status.gates.length > 0;

  for (const [name, pods, podState, cause, says] of ILL)
    it(`podState: ${name}`, async () => {
      await cluster.apply([deployment(name, 1, pods)]);
      await loop.policy(name, { mode: "Observe", signals: [{ name: "seen", podState }], ladder: [{ strategy: "RollingRestart" }] });
      const { spec } = await loop.episode(name, isDecided);
      assert.deepEqual([spec.signal.condition, spec.signal.source, spec.diagnosis.cause], ["podState", "Kubernetes", cause]);
      assert.match(spec.diagnosis.summary, says);
      const [evidence] = spec.diagnosis.evidence;
      assert.equal(evidence?.kind, "PodState");
      assert.ok(Date.parse(spec.signal.startsAt) <= Date.parse(spec.signal.receivedAt));
      await cluster.kubectl(["delete", "deployment", name, "-n", SHOP]);
    });

  it("podState: a pod that does not go away", async () => {
    await cluster.apply([deployment("clinging", 1)]);
    const target = await loop.one("clinging", 1);
    const finalizers = (list: string[]): Promise<unknown> =>
      cluster.request(
        "PATCH",
        `/api/v1/namespaces/${SHOP}/pods/${target.ref.name}`,
        { metadata: { finalizers: list } },
        "application/merge-patch+json",
      );
    await finalizers(["example.org/clings"]);
    await cluster.kubectl(["delete", "pod", target.ref.name, "-n", SHOP, "--wait=false"]);
    await loop.policy("clinging", {
      signals: [{ name: "seen", podState: { state: "Terminating", for: "5s" } }],
      ladder: [{ strategy: "Notify", message: "somebody must take the finalizer off" }],
    });
    const { spec, status } = await loop.episode("clinging", (r) => r.status.attempts.length > 0);
    assert.equal(spec.diagnosis.cause, "StuckTerminating");
    assert.match(spec.diagnosis.summary, /example.org\/clings/);
    assert.equal(status.attempts[0]?.what, "Notify");
    await finalizers([]);
    await cluster.kubectl(["delete", "deployment", "clinging", "-n", SHOP]);
  });

  it("a rollout that is stuck is rolled back", async () => {
    await cluster.apply([deployment("release", 2), service("release")]);
    await loop.whole("release", 2);
    // Only a revision that was healthy for a minute is gone back to; while its pods are there, that is known at once.
    await loop.policy("release", { signals: [{ name: "stuck", rollout: {} }], ladder: [{ strategy: "RollbackRollout" }] });
    const broken = deployment("release", 2, { container: { command: ["sh", "-c", "sleep 3600"] } }) as { spec: object };
    await cluster.apply([{ ...broken, spec: { ...broken.spec, progressDeadlineSeconds: 5 } }]);
    const ended = await loop.episode("release");
    assert.deepEqual([ended.spec.signal.condition, ended.spec.diagnosis.cause], ["rollout", "RolloutStuck"], story(ended));
    assert.equal(ended.status.outcome, "Remediated", story(ended));
    assert.match(ended.spec.diagnosis.summary, /Deployment shop\/release: .*has timed out progressing/);
    await loop.whole("release", 2);
  });

  it("a state that is over ends its episode, and nothing is done", async () => {
    await cluster.apply([config("mended", { start: "no" }), deployment("mended", 1, conditional("mended"))]);
    await loop.policy("mended", {
      mode: "Approve",
      signals: [{ name: "crashes", podState: { state: "CrashLoopBackOff", for: "0s" } }],
      ladder: [{ strategy: "RollingRestart" }],
    });
    await loop.episode("mended", ({ status }) => status.phase === "AwaitingApproval");
    await cluster.apply([config("mended", { start: "yes" })]);
    const ended = await loop.episode("mended");
    assert.deepEqual([ended.status.outcome, ended.status.attempts], ["SelfRecovered", []], story(ended));
    await loop.whole("mended", 1);
  });

  it("a condition of a node fires for that node; one that no node has is missing data, and nothing begins", async () => {
    await cluster.apply([deployment("quiet", 1)]);
    const patch = (status: string): Promise<unknown> =>
      cluster.request(
        "PATCH",
        "/api/v1/nodes/node-0/status",
        { status: { conditions: [{ type: "Broken", status, lastTransitionTime: new Date().toISOString().replace(/\.\d+/, "") }] } },
        "application/strategic-merge-patch+json",
      );
    await patch("True");
    const node = (type: string): object => ({
      mode: "Observe",
      targets: [{ kind: "Node", name: "node-0" }],
      signals: [{ name: "seen", nodeCondition: { type, for: "0s" } }],
      ladder: [{ strategy: "CordonAndDrainNode" }],
    });
    await loop.policy("unknown", { ...node("KernelDeadlock") }, OWN);
    await loop.policy("broken", { ...node("Broken") }, OWN);
    const { spec } = await loop.episode("broken", isDecided);
    assert.deepEqual([spec.signal.condition, spec.signalTarget.name, spec.diagnosis.cause], ["nodeCondition", "node-0", "NodeCondition"]);
    const ready = await cluster.until("the policy's status", async () =>
      (await loop.store.get("RemediationPolicy", OWN, "unknown"))?.status?.conditions.find(({ type }) => type === "Ready"),
    );
    assert.deepEqual([ready.status, ready.reason], ["False", "NoData"]);
    assert.deepEqual(await loop.remediations("unknown"), []);
  });

  describe("of a kind that policies name", () => {
    const widget = { apiVersion: "example.org/v1", kind: "Widget", metadata: { name: "quiet", namespace: SHOP } };
    const readiness = async (policy: string): Promise<{ status: string; message: string } | undefined> =>
      (await loop.store.get("RemediationPolicy", SHOP, policy))?.status?.conditions.find(({ type }) => type === "Ready");
    const state = (broken: boolean): Promise<unknown> =>
      cluster.request(
        "PATCH",
        `/apis/example.org/v1/namespaces/${SHOP}/widgets/quiet`,
        { status: { conditions: [{ type: "Broken", status: broken ? "True" : "False" }] } },
        "application/merge-patch+json",
      );

    before(async () => {
      const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
      await cluster.apply([
        {
          apiVersion: "apiextensions.k8s.io/v1",
          kind: "CustomResourceDefinition",
          metadata: { name: "widgets.example.org" },
          spec: {
            group: "example.org",
            scope: "Namespaced",
            names: { kind: "Widget", plural: "widgets", singular: "widget" },
            versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
          },
        },
        deployment("quiet", 1),
      ]);
      await cluster.until("widgets are served", () => cluster.apply([widget]).then(() => true));
      await loop.whole("quiet", 1);
    });

    it("says of what it may not read that it does not know it, and begins when it may and the condition holds", async () => {
      await state(true);
      const when = "object.status.conditions.exists(c, c.type == 'Broken' && c.status == 'True')";
      await loop.policy("quiet", {
        mode: "Approve",
        signals: [{ name: "broken", resource: { apiVersion: "example.org/v1", kind: "Widget", when, for: "1s" } }],
        ladder: [{ strategy: "RollingRestart" }],
      });
      const blind = await cluster.until("the policy's status", async () => {
        const ready = await readiness("quiet");
        return ready?.message.includes("may not read") === true && ready;
      });
      assert.equal(blind.status, "False");
      assert.match(
        blind.message,
        /signal broken of Deployment quiet \(the operator may not read Widget of example.org\/v1: .*watchResources\)/,
      );
      assert.deepEqual(await loop.remediations("quiet"), []);

      await letRead(cluster, [
        { group: "example.org", resource: "widgets" },
        { group: "", resource: "events" },
      ]);
      const waiting = await loop.episode("quiet", ({ status }) => status.phase === "AwaitingApproval");
      assert.deepEqual([waiting.spec.signal.condition, waiting.spec.diagnosis.cause], ["resource", "ResourceCondition"]);
      assert.match(waiting.spec.diagnosis.summary, /of Widget quiet, which belongs to quiet, it is true for/);
      await state(false);
      const ended = await loop.episode("quiet");
      assert.deepEqual([ended.status.outcome, ended.status.attempts], ["SelfRecovered", []], story(ended));
    });

    it("counts Warning events about a pod, and about the ReplicaSet of its workload", async () => {
      await cluster.apply([
        // A volume that no container has is not mounted.
        deployment("mounts", 1, {
          container: { volumeMounts: [{ name: "gone", mountPath: "/gone" }] },
          spec: { volumes: [{ name: "gone", configMap: { name: "nowhere" } }] },
        }),
        deployment("refused", 1, { spec: { serviceAccountName: "nobody" } }),
      ]);
      const spec = (reason: string): object => ({
        mode: "Observe",
        signals: [{ name: "seen", event: { reason, count: 1 } }],
        ladder: [{ strategy: "RollingRestart" }],
      });
      await loop.policy("mounts", { ...spec("FailedMount") });
      await loop.policy("refused", { ...spec("FailedCreate") });
      const mounts = await loop.episode("mounts", isDecided);
      assert.deepEqual([mounts.spec.signalTarget.kind, mounts.spec.diagnosis.cause], ["Pod", "Event"]);
      assert.match(mounts.spec.diagnosis.summary, /event(s)? FailedMount about mounts-.*nowhere/);
      const refused = await loop.episode("refused", isDecided);
      assert.deepEqual([refused.spec.signalTarget.kind, refused.spec.signalTarget.name], ["Deployment", "refused"]);
    });
  });
});
