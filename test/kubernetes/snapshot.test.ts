// A snapshot of a real API server: read with nothing but the right to list, and rehearsed on.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { parse } from "yaml";
import type { Cluster as Described } from "../../src/api/cluster.ts";
import { API_VERSION } from "../../src/api/meta.ts";
import type { RehearseReport } from "../../src/cli/commands/rehearse.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { deployment, FAKE, SHOP } from "./support.ts";

const CRDS = "deploy/chart/files/crds";
const CLI = resolve(import.meta.dirname, "../../src/cli/main.ts");
const SECRET = "hunter2-is-not-to-be-seen";

function nightshift(args: readonly string[], cwd: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [CLI, ...args], { cwd });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("close", (status) => done({ status, stdout, stderr }));
  });
}

describe("nightshift snapshot", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  let kubeconfig = "";

  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3 });
    await cluster.kubectl(["apply", "--server-side", "-f", CRDS]);
    await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", CRDS]);
    await cluster.kubectl(["create", "namespace", SHOP]);
    for (const [i, zone] of ["a", "b", "a"].entries())
      await cluster.kubectl(["label", "node", `fake-${i}`, "--overwrite", `topology.kubernetes.io/zone=${zone}`]);
    const env = { container: { env: [{ name: "PASSWORD", value: SECRET }] }, ...FAKE };
    await cluster.apply([
      { apiVersion: "v1", kind: "Secret", metadata: { name: "bank", namespace: SHOP }, stringData: { password: SECRET } },
      deployment("payments", 3, env),
      deployment("bank", 2, env, { annotations: { "nightshift.dev/do-not-remediate": "true" } }),
      deployment("off", 0, env),
      {
        apiVersion: "policy/v1",
        kind: "PodDisruptionBudget",
        metadata: { name: "payments", namespace: SHOP },
        spec: { maxUnavailable: 1, selector: { matchLabels: { app: "payments" } } },
      },
      {
        apiVersion: "autoscaling/v2",
        kind: "HorizontalPodAutoscaler",
        metadata: { name: "payments", namespace: SHOP },
        spec: { minReplicas: 3, maxReplicas: 6, scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "payments" } },
      },
      {
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name: "hung", namespace: SHOP },
        spec: {
          mode: "Observe",
          targets: [{ selector: { matchLabels: { app: "payments" } } }],
          signals: [{ name: "hung", probe: { failingFor: "20s" } }],
          ladder: [{ strategy: "RestartPod" }],
        },
      },
      {
        apiVersion: API_VERSION,
        kind: "ServiceDependency",
        metadata: { name: "payments-bank", namespace: SHOP },
        spec: { from: { name: "payments" }, to: { name: "bank" } },
      },
      { apiVersion: API_VERSION, kind: "RemediationBudget", metadata: { name: "platform" }, spec: { budgets: [{ maxUnavailable: 1 }] } },
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "reader", namespace: SHOP } },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata: { name: "reader" },
        rules: [
          { apiGroups: [""], resources: ["nodes", "namespaces", "pods"], verbs: ["list"] },
          { apiGroups: ["apps"], resources: ["deployments", "statefulsets", "replicasets"], verbs: ["list"] },
          { apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: ["list"] },
          { apiGroups: ["autoscaling"], resources: ["horizontalpodautoscalers"], verbs: ["list"] },
          {
            apiGroups: ["nightshift.dev"],
            resources: ["remediationpolicies", "runbooks", "remediationbudgets", "servicedependencies"],
            verbs: ["list"],
          },
        ],
      },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRoleBinding",
        metadata: { name: "reader" },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "reader" },
        subjects: [{ kind: "ServiceAccount", name: "reader", namespace: SHOP }],
      },
    ]);
    await cluster.until("ready pods", async () => {
      const { items } = await cluster.get<{ items: { status: { readyReplicas?: number } }[] }>("deployments", "-n", SHOP);
      return items.reduce((sum, { status }) => sum + (status.readyReplicas ?? 0), 0) === 5;
    });
    kubeconfig = cluster.kubeconfigFor(await cluster.token(SHOP, "reader"), "reader").outer;
  });
  after(() => cluster?.stop());

  it("captures what rehearsals take, by lists alone, and nothing that is secret", async () => {
    const taken = await nightshift(["snapshot", "--kubeconfig", kubeconfig, "-n", SHOP, "-o", "prod"], cluster.dir);
    assert.equal(taken.status, 0, taken.stderr);
    assert.match(taken.stdout, /^prod: 2 workloads on 3 nodes, 1 policy\n$/);
    assert.match(taken.stderr, /left out: Deployment shop\/off: it has no replicas/);
    const text = readFileSync(join(cluster.dir, "prod/cluster.yaml"), "utf8");
    const { nodes, workloads } = parse(text) as Described;
    assert.deepEqual(
      nodes.map(({ name, zone }) => [name, zone]),
      [
        ["fake-0", "a"],
        ["fake-1", "b"],
        ["fake-2", "a"],
      ],
    );
    const [bank, payments] = workloads.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    assert.deepEqual(
      [
        payments?.replicas,
        payments?.minAvailable,
        payments?.autoscaler,
        payments?.podLabels,
        payments?.memoryLimit,
        payments?.doNotRemediate,
      ],
      [3, 2, { min: 3, max: 6 }, { app: "payments" }, String(64 * 2 ** 20), false],
    );
    assert.equal(payments?.nodes.length, 3);
    assert.equal(bank?.doNotRemediate, true);
    const resources = ["shop", "cluster-scoped"]
      .map((name) => readFileSync(join(cluster.dir, `prod/resources/${name}.yaml`), "utf8"))
      .join("\n");
    for (const kind of ["RemediationPolicy", "ServiceDependency", "RemediationBudget"])
      assert.match(resources, new RegExp(`kind: ${kind}`));
    assert.ok(!`${text}${resources}`.includes(SECRET));
    const asked = cluster.audit(({ user }) => user.username === `system:serviceaccount:${SHOP}:reader`);
    assert.deepEqual([...new Set(asked.map(({ verb }) => verb))], ["list"]);
    assert.ok(asked.length >= 12 && asked.every(({ objectRef }) => objectRef?.resource !== "secrets"), `${asked.length} requests`);
  });

  it("is what policies are rehearsed on, those of the cluster and others", async () => {
    const played = await nightshift(
      ["rehearse", "--cluster", "prod", "--scenario", "hang", "--scenario", "zone-down", "--json"],
      cluster.dir,
    );
    const { runs, notPlayed } = JSON.parse(played.stdout) as RehearseReport;
    assert.deepEqual(notPlayed, []);
    assert.deepEqual(
      runs.map(({ scenario, target }) => [scenario, target]),
      [
        ["hang", "shop/payments"],
        ["zone-down", "shop/payments"],
      ],
    );
    assert.deepEqual(
      runs[0]?.faults.map(({ kind, result }) => [kind, result]),
      [["PodHang", "Observed"]],
    );
    assert.ok((runs[1]?.faults.length ?? 0) + (runs[1]?.uncovered.length ?? 0) > 0, "the zone befell nobody");
    const enforced = await nightshift(["rehearse", "--cluster", "prod", "--scenario", "hang", "--mode", "Enforce"], cluster.dir);
    assert.match(enforced.stdout, /PodHang +shop\/payments +Healed/);
    assert.match(enforced.stdout, /policy shop\/hung allows 1|RemediationBudget platform allows 1/);
    assert.equal(enforced.status, 0, enforced.stderr);
  });

  it("writes over nothing, and says what is refused, and what is not there", async () => {
    const again = await nightshift(["snapshot", "--kubeconfig", kubeconfig, "-o", "prod"], cluster.dir);
    assert.deepEqual([again.status, /prod: the directory is not empty \[SNAPSHOT_EXISTS\]/.test(again.stderr)], [2, true], again.stderr);
    const none = await nightshift(["snapshot", "--kubeconfig", kubeconfig, "-n", "nobody", "-o", "none"], cluster.dir);
    assert.match(none.stderr, /nobody: there is no Deployment or StatefulSet with replicas \[NOTHING_TO_CAPTURE\]/);
    await cluster.kubectl(["delete", "clusterrolebinding", "reader"]);
    const refused = await cluster.until("a refusal", async () => {
      const answer = await nightshift(["snapshot", "--kubeconfig", kubeconfig, "--json"], cluster.dir);
      return answer.status === 0 ? undefined : answer;
    });
    assert.equal(refused.status, 69, refused.stderr);
    assert.match(refused.stderr, /STORE_UNAVAILABLE/);
    assert.match(refused.stderr, /forbidden/);
    assert.equal(existsSync(join(cluster.dir, "snapshot")), false);
  });
});
