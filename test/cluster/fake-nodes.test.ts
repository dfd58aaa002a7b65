import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Cluster } from "./cluster.ts";
import { lacking } from "./requirements.ts";

const NODES = 200;
const PODS = 400;

describe("a cluster of fake nodes", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({ fakeNodes: NODES });
  });
  after(() => cluster?.stop());

  it("has all of them Ready", async () => {
    const lines = (await cluster.kubectl(["get", "nodes", "--no-headers"])).trim().split("\n");
    assert.equal(lines.length, NODES);
    for (const line of lines) assert.match(line, /^fake-\d+\s+Ready\s/);
  });

  it("runs a Deployment's pods on them", async () => {
    await cluster.kubectl(["create", "deployment", "web", "--image=x", `--replicas=${PODS}`]);
    await cluster.until(
      `${PODS} ready`,
      async () => {
        const { status } = await cluster.get<{ status: { readyReplicas?: number } }>("deployment", "web");
        return status.readyReplicas === PODS;
      },
      300_000,
    );
    const { items } = await cluster.get<{ items: { spec: { nodeName?: string } }[] }>("pods", "-l", "app=web");
    assert.ok(new Set(items.map((pod) => pod.spec.nodeName)).size > NODES / 2, "spread over the nodes");
  });
});
