import assert from "node:assert/strict";
import { after, before, describe, it, type TestContext } from "node:test";
import { KINDS } from "../../src/api/meta.ts";
import type { Remediation } from "../../src/api/remediation.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { systemRandom } from "../../src/platform/host/random.ts";
import { kubeconfigAccess } from "../../src/platform/kubernetes/access.ts";
import { isConflict, isDisruptionBudget, isInvalid, KubeApiError } from "../../src/platform/kubernetes/errors.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { KubernetesStore } from "../../src/platform/kubernetes/store.ts";
import { collectionOf, pathOf } from "../../src/platform/kubernetes/store-objects.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { remediationObject } from "../support/objects.ts";
import { storeConformance, withCode } from "../support/store-conformance.ts";
import { until } from "../support/until.ts";

const CRDS = "deploy/chart/files/crds";

describe("KubernetesStore on a real API server", { skip: lacking({ nodes: false }) }, () => {
  let cluster: Cluster;
  let client: HttpKubeClient;

  before(async () => {
    cluster = await Cluster.start();
    await cluster.kubectl(["apply", "--server-side", "-f", CRDS]);
    await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", CRDS]);
    for (const namespace of ["a", "a-b", "b", "other"]) await cluster.kubectl(["create", "namespace", namespace]);
    client = new HttpKubeClient({ access: await kubeconfigAccess([cluster.kubeconfig]), clock: systemClock, version: "test" });
  });
  after(async () => {
    await client?.close();
    await cluster?.stop();
  });

  async function setUp(t: TestContext, epoch = 1) {
    const errors: string[] = [];
    const store = new KubernetesStore({
      client,
      clock: systemClock,
      random: systemRandom,
      epoch: () => epoch,
      onError: (message) => errors.push(message),
    });
    await store.start(new AbortController().signal);
    t.after(async () => {
      await store.close();
      for (const kind of KINDS)
        for (const { metadata } of (
          await client.request<{ items: { metadata: { name: string; namespace?: string } }[] }>({
            method: "GET",
            path: collectionOf(kind),
          })
        ).items)
          await client.request({ method: "DELETE", path: pathOf(kind, metadata.namespace ?? "", metadata.name) });
    });
    return { store, errors };
  }

  storeConformance("KubernetesStore, over TLS to Kubernetes,", async (t) => (await setUp(t)).store);

  const executing = (name: string): Remediation => {
    const object = remediationObject(name);
    object.status.phase = "Executing";
    return object;
  };

  it("is refused what a deposed leader writes, whatever version it read", async (t) => {
    const { store: old } = await setUp(t, 1);
    const { store: fresh } = await setUp(t, 2);
    const live = await old.create(executing("live"));
    await client.request({
      method: "POST",
      path: collectionOf("Remediation", "default"),
      body: { ...remediationObject("unwritten"), status: undefined },
    });
    await fresh.takeover();
    const names = (await fresh.list("Remediation")).map(({ metadata, status }) => [metadata.name, status.phase, status.epoch]);
    assert.deepEqual(names, [
      ["live", "Executing", 2],
      ["unwritten", "Pending", 2],
    ]);
    assert.equal(fresh.usedEpoch(), 2);
    await assert.rejects(old.update({ ...live, status: { ...live.status, revision: 1 } }), withCode("CONFLICT"));
    const newest = (await old.get("Remediation", "default", "live")) ?? assert.fail();
    assert.equal(newest.status.epoch, 2);
    await assert.rejects(old.update({ ...newest, status: { ...newest.status, revision: 1 } }), withCode("NOT_LEADER"));
    await assert.rejects(old.takeover(), withCode("NOT_LEADER"));
    await fresh.update({ ...newest, status: { ...newest.status, revision: 1, phase: "Verifying" } });
  });

  it("meets the CRD's own rules where it does not look itself", async (t) => {
    const { store } = await setUp(t);
    const one = await store.create(executing("a"));
    const put = (object: object): Promise<unknown> =>
      client.request({ method: "PUT", path: pathOf("Remediation", "default", "a"), body: object });
    await assert.rejects(put({ ...one, spec: { ...one.spec, mode: "Observe" } }), isInvalid);
    await assert.rejects(put({ ...one, metadata: { ...one.metadata, resourceVersion: "1" } }), isConflict);
    // An agent's word in between costs the leader a conflict, after which it has the newest.
    await client.request({
      method: "PATCH",
      path: `${pathOf("Remediation", "default", "a")}/status`,
      contentType: "application/merge-patch+json",
      body: { status: { message: "from the agent" } },
    });
    await assert.rejects(store.update({ ...one, status: { ...one.status, revision: 1 } }), withCode("CONFLICT"));
    assert.equal((await store.get("Remediation", "default", "a"))?.status.message, "from the agent");
  });

  it("tells an eviction that a disruption budget forbids from being asked to wait", async () => {
    await cluster.apply([
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "kept", namespace: "other", labels: { app: "kept" } },
        spec: { containers: [{ name: "main", image: "x" }] },
      },
      {
        apiVersion: "policy/v1",
        kind: "PodDisruptionBudget",
        metadata: { name: "kept", namespace: "other" },
        spec: { minAvailable: 1, selector: { matchLabels: { app: "kept" } }, unhealthyPodEvictionPolicy: "IfHealthyBudget" },
      },
    ]);
    const pod = "/api/v1/namespaces/other/pods/kept";
    // A pod that was scheduled and runs, but is not ready: its budget counts it as missing.
    await client.request({
      method: "POST",
      path: `${pod}/binding`,
      body: { target: { kind: "Node", name: "nowhere" }, metadata: { name: "kept" } },
    });
    await client.request({
      method: "PATCH",
      path: `${pod}/status`,
      contentType: "application/merge-patch+json",
      body: { status: { phase: "Running", conditions: [{ type: "Ready", status: "False" }] } },
    });
    const evict = (): Promise<unknown> =>
      client.request({
        method: "POST",
        path: `${pod}/eviction`,
        body: { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "kept", namespace: "other" } },
      });
    await until(async () => {
      await assert.rejects(evict(), (error) => isDisruptionBudget(error) && error instanceof KubeApiError && !error.mayHaveTakenEffect);
    });
  });

  it("finds what changed while the API server was away and had forgotten its history", async (t) => {
    const { store, errors } = await setUp(t);
    for (const name of ["same", "changed", "deleted"]) await store.create(executing(name));
    const paths = (name: string): string => pathOf("Remediation", "default", name);
    await cluster.apiserver.stop();
    await cluster.apiserver.start();
    await client.request({ method: "DELETE", path: paths("deleted") });
    await client.request({
      method: "PATCH",
      path: `${paths("changed")}/status`,
      contentType: "application/merge-patch+json",
      body: { status: { message: "meanwhile" } },
    });
    // Now the place where the watch was is gone for good: from etcd, and from the API server's cache, which is new.
    await cluster.etcd.compact();
    await cluster.apiserver.stop();
    await cluster.apiserver.start();
    await until(async () => {
      assert.equal(await store.get("Remediation", "default", "deleted"), undefined);
      assert.equal((await store.get("Remediation", "default", "changed"))?.status.message, "meanwhile");
    }, 120_000);
    assert.equal((await store.list("Remediation")).length, 2);
    await until(() => assert.equal(store.staleness(), undefined), 120_000);
    assert.ok(
      errors.every((error) => !error.includes("left out")),
      errors.join("\n"),
    );
  });
});
