// New versions of ConfigMaps on a real Kubernetes: changes of the workloads that are given them, by metadata alone, and only where
// the chart lets them be followed.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import { ChangeLog } from "../../src/observe/changes.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { systemRandom } from "../../src/platform/host/random.ts";
import { kubeconfigAccess } from "../../src/platform/kubernetes/access.ts";
import { METADATA_ONLY } from "../../src/platform/kubernetes/config-maps.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { KubernetesPlatform } from "../../src/platform/kubernetes/platform.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { CHART, deployment, OWN, SHOP } from "./support.ts";

const CONTENT = "what-is-in-it-is-nobodys-business";
/** Stored as `kubectl apply --server-side` does it: without it, a copy of all that is in it would stand in an annotation, which is metadata. */
const config = (cluster: Cluster, name: string, text: string): Promise<unknown> =>
  cluster.request(
    "PATCH",
    `/api/v1/namespaces/${SHOP}/configmaps/${name}?fieldManager=test&force=true`,
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: SHOP }, data: { text } },
    "application/apply-patch+yaml",
  );
/** How pods may be given a ConfigMap. */
const WAYS: Readonly<Record<string, (name: string) => Parameters<typeof deployment>[2]>> = {
  volume: (name) => ({ spec: { volumes: [{ name: "config", configMap: { name } }] } }),
  projected: (name) => ({ spec: { volumes: [{ name: "config", projected: { sources: [{ configMap: { name } }] } }] } }),
  environment: (name) => ({ container: { envFrom: [{ configMapRef: { name } }] } }),
  variable: (name) => ({ container: { env: [{ name: "X", valueFrom: { configMapKeyRef: { name, key: "text" } } }] } }),
};

describe("ConfigMaps", { skip: lacking({ nodes: false, tools: ["helm"] }) }, () => {
  let cluster: Cluster;
  let client: HttpKubeClient;
  before(async () => {
    cluster = await Cluster.start({ tools: ["helm"] });
    await cluster.kubectl(["create", "namespace", OWN]);
    await cluster.kubectl(["create", "namespace", SHOP]);
    await cluster.exec(["helm", "install", "nightshift", CHART, "--namespace", OWN, "--set", "replicas=1"]);
    const token = await cluster.token(OWN, "nightshift");
    client = new HttpKubeClient({
      access: await kubeconfigAccess([cluster.kubeconfigFor(token, "operator").outer]),
      clock: systemClock,
      version: "test",
    });
  });
  after(async () => {
    await client?.close();
    await cluster?.stop();
  });

  const list = (resource: string, accept?: string): Promise<unknown> =>
    client.request({ method: "GET", path: `/api/v1/${resource}`, ...(accept === undefined ? {} : { accept }) });

  it("may not be read by the operator, not even their metadata, where the chart does not say so", async () => {
    await assert.rejects(list("configmaps", METADATA_ONLY.list), { code: "KUBE_FORBIDDEN" });
    await assert.rejects(list("secrets", METADATA_ONLY.list), { code: "KUBE_FORBIDDEN" });
  });

  it("are followed by their metadata where it does, as changes of whoever is given them", async () => {
    await cluster.exec(["helm", "upgrade", "nightshift", CHART, "-n", OWN, "--reuse-values", "--set", "changes.configMaps=true"]);
    await cluster.until("the right", () =>
      list("configmaps", METADATA_ONLY.list).then(
        () => true,
        () => false,
      ),
    );
    await assert.rejects(list("secrets", METADATA_ONLY.list), { code: "KUBE_FORBIDDEN" });
    for (const [name, way] of Object.entries(WAYS)) {
      await config(cluster, name, CONTENT);
      await cluster.apply([deployment(name, 1, way(name))]);
    }
    await config(cluster, "unrelated", CONTENT);
    assert.match(JSON.stringify(await list("configmaps")), new RegExp(CONTENT), "it is there to be read");
    assert.doesNotMatch(JSON.stringify(await list("configmaps", METADATA_ONLY.list)), new RegExp(CONTENT));
    const watched: unknown[] = [];
    const watching = (async () => {
      for await (const event of client.watch(
        "/api/v1/configmaps",
        { resourceVersion: "0", allowWatchBookmarks: true },
        AbortSignal.timeout(5_000),
        METADATA_ONLY.watch,
      ))
        watched.push(event);
    })();

    const platform = new KubernetesPlatform({
      client,
      clock: systemClock,
      random: systemRandom,
      log: pino({ level: "silent" }),
      epoch: () => 1,
      followsConfigMaps: true,
    });
    await platform.start(AbortSignal.timeout(60_000));
    const log = new ChangeLog(systemClock);
    const seen = (): string[] => {
      log.look(platform.workloads(), () => false);
      return log.list().flatMap(({ kind, target, message }) => (kind === "Configuration" ? [`${target.name}: ${message}`] : []));
    };
    try {
      await cluster.until("they are known", async () => {
        seen();
        return (
          platform.workloads().filter(({ ref, configuration }) => ref.namespace === SHOP && Object.keys(configuration ?? {}).length > 0)
            .length === Object.keys(WAYS).length
        );
      });
      assert.deepEqual(seen(), []);
      for (const name of [...Object.keys(WAYS), "unrelated"]) await config(cluster, name, `${CONTENT}-2`);
      await cluster.until("the changes", async () => seen().length === Object.keys(WAYS).length);
      assert.deepEqual(
        seen().toSorted(),
        Object.keys(WAYS)
          .map((name) => `${name}: ConfigMap ${name}, which Deployment/${SHOP}/${name} is given, has a new version`)
          .toSorted(),
      );
      await cluster.kubectl(["delete", "configmap", "volume", "-n", SHOP]);
      await cluster.until("that it is gone", async () => seen().some((message) => /volume is given, was deleted/.test(message)));
      await watching;
      assert.ok(watched.length > Object.keys(WAYS).length);
      assert.doesNotMatch(JSON.stringify(watched), new RegExp(CONTENT));
    } finally {
      await platform.stop();
    }
  });
});
