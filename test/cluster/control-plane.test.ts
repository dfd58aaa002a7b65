import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { ApiError, call } from "./api.ts";
import { Cluster } from "./cluster.ts";
import { lacking } from "./requirements.ts";

interface Named {
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
}

describe("a control plane", { skip: lacking({ nodes: false }) }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start();
  });
  after(() => cluster?.stop());

  it("answers this process through the forwarder, and commands inside", async () => {
    const version = await cluster.request<{ gitVersion: string; major: string; minor: string }>("GET", "/version");
    assert.match(version.gitVersion, /^v1\.37\./);
    assert.deepEqual([version.major, version.minor], ["1", "37"]);
    assert.match(await cluster.kubectl(["get", "namespaces"]), /kube-system/);
  });

  it("runs controllers: a Deployment gets its ReplicaSet and its pods", async () => {
    await cluster.kubectl(["create", "deployment", "web", "--image=x", "--replicas=2"]);
    const pods = await cluster.until("2 pods", async () => {
      const { items } = await cluster.get<{ items: Named[] }>("pods", "-l", "app=web");
      return items.length === 2 && items;
    });
    for (const pod of pods) assert.match(pod.metadata.name, /^web-/);
  });

  it("authenticates a service account, and gives it no more than RBAC does", async () => {
    await cluster.kubectl(["create", "serviceaccount", "reader"]);
    await cluster.kubectl(["create", "role", "reader", "--verb=get", "--resource=configmaps"]);
    await cluster.kubectl(["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader"]);
    const token = await cluster.token("default", "reader");
    const read = await call<Named>({ ...cluster.access, token }, "GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt");
    assert.equal(read.metadata.name, "kube-root-ca.crt");
    await assert.rejects(
      call({ ...cluster.access, token }, "GET", "/api/v1/namespaces/default/secrets"),
      (error) => error instanceof ApiError && error.status === 403,
    );
    const { inner } = cluster.kubeconfigFor(token, "reader");
    assert.equal((await cluster.kubectl(["auth", "can-i", "get", "configmaps"], { env: { KUBECONFIG: inner } })).trim(), "yes");
  });

  it("has every request on record", async () => {
    await cluster.kubectl(["create", "configmap", "counted"]);
    await cluster.kubectl(["label", "configmap", "counted", "a=b"]);
    const writes = cluster.audit((event) => event.objectRef?.name === "counted" && event.verb === "patch");
    assert.equal(writes.length, 1);
    assert.equal(writes[0]?.user.username, "admin");
    assert.equal(writes[0]?.responseStatus?.code, 200);
  });

  it("survives its API server: stopped, started, frozen and thawed", async () => {
    await cluster.apiserver.stop();
    await assert.rejects(cluster.request("GET", "/readyz"));
    await cluster.apiserver.start();
    assert.match(await cluster.kubectl(["get", "configmaps"]), /counted/);

    await cluster.apiserver.pause();
    await assert.rejects(cluster.kubectl(["get", "namespaces", "--request-timeout=1s"]));
    await cluster.apiserver.resume();
    assert.match(await cluster.kubectl(["get", "configmaps"]), /counted/);
    const { components } = await cluster.status();
    assert.equal(components.find(({ name }) => name === "kube-apiserver")?.starts, 2);
  });

  it("forgets old revisions when etcd is compacted", async () => {
    const list = (from: string): Promise<{ metadata: { continue: string } }> =>
      cluster.request("GET", `/api/v1/namespaces?limit=1&continue=${encodeURIComponent(from)}`);
    const { continue: next } = (await list("")).metadata;
    await cluster.kubectl(["create", "configmap", "newer"]);
    await cluster.apiserver.stop();
    await cluster.apiserver.start();
    // From etcd, since the API server's own cache is new.
    await list(next);
    assert.ok((await cluster.etcd.compact()) > 0);
    await assert.rejects(list(next), (error) => error instanceof ApiError && error.status === 410);
  });

  it("resets the connections that go through the forwarder", async () => {
    const path = "/api/v1/namespaces?watch=true&timeoutSeconds=300";
    let ended: unknown;
    const watch = cluster.request("GET", path).then(
      () => (ended = "in order"),
      (error: unknown) => (ended = (error as NodeJS.ErrnoException).code),
    );
    // Idle connections of earlier requests are reset as well, so once may be before the watch has begun.
    await cluster.until("a reset watch", async () => (await cluster.apiserver.resetConnections()) >= 0 && ended !== undefined);
    await watch;
    assert.equal(ended, "ECONNRESET");
  });

  it("cuts off one client alone, by a proxy of its own", async () => {
    const { proxy, kubeconfig } = await cluster.proxy("lonely");
    const get = ["kubectl", "get", "namespaces", "--request-timeout=5s"];
    // From the machine's own network, as any client there.
    const outside = (config: string): Promise<unknown> =>
      promisify(execFile)(get[0] ?? "", get.slice(1), { env: { ...cluster.environment(), KUBECONFIG: config } });
    await outside(kubeconfig);
    proxy.set("cut");
    await assert.rejects(outside(kubeconfig));
    await outside(cluster.kubeconfig);
    await proxy.stop();
  });

  it("is alone: another one at the same time, with flags of its own, shares nothing", async () => {
    await using other = await Cluster.start({ flags: { "kube-apiserver": ["--runtime-config=batch/v1=false"] } });
    assert.doesNotMatch(await other.kubectl(["get", "configmaps"]), /counted/);
    assert.notEqual(other.access.server, cluster.access.server);
    await assert.rejects(other.request("GET", "/apis/batch/v1"), (error) => error instanceof ApiError && error.status === 404);
    await cluster.request("GET", "/apis/batch/v1");
  });
});
