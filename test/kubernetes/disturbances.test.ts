import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { isReady, Operators, story } from "./operators.ts";

const REPLICAS = 9;
/** A leader that was killed is followed within the lease's 15 s; the rest is for a busy machine (ms). */
const TAKEOVER_MS = 40_000;
/** RestartPod, but for the time that requests in flight have, of which nobody knows here. */
const STEPS = [
  { startReplacement: {} },
  { awaitReady: {} },
  { removeFromTraffic: {}, timeout: "30s" },
  { awaitInFlight: {}, timeout: "1s" },
  { stop: { gracePeriod: "1s" } },
];
const CRD = "remediations.nightshift.dev";

describe("an operator in a restless cluster", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  let operators: Operators;
  /** Pods that no alert has fired for. */
  let well: string[];

  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3 });
    operators = new Operators(cluster);
    await operators.prepare(REPLICAS, { ladder: [{ runbook: "runbook-0" }] }, [{ steps: STEPS }]);
    well = (await operators.pods()).filter(isReady).map(({ metadata }) => metadata.name);
    await operators.start("one");
  });
  after(async () => {
    await operators?.stop();
    await cluster?.stop();
  });

  /** The alert fires for so many pods. */
  function fire(count: number): string[] {
    const pods = well.splice(0, count);
    assert.equal(pods.length, count);
    for (const pod of pods) operators.fire(pod);
    return pods;
  }

  /** Each was healed once, by one episode. */
  async function healed(pods: readonly string[]): Promise<void> {
    for (const pod of pods) {
      const ended = await operators.ended(pod);
      assert.equal(ended.status.outcome, "Remediated", `${story(ended)}\n${operators.logs}`);
      assert.equal((await operators.about(pod)).length, 1, pod);
      assert.equal(operators.deletions(pod), 1, pod);
    }
  }

  it("heals while its connections are reset again and again", async () => {
    const pods = fire(2);
    const over = new AbortController();
    const resetting = (async () => {
      let resets = 0;
      for (; !over.signal.aborted; await delay(1_000)) resets += await cluster.apiserver.resetConnections();
      return resets;
    })();
    try {
      await healed(pods);
    } finally {
      over.abort();
    }
    assert.ok((await resetting) > 50);
    assert.deepEqual(operators.exits, []);
  });

  it("heals while its CRD is upgraded", async () => {
    const pods = fire(2);
    const over = new AbortController();
    const upgrading = (async () => {
      let upgrades = 0;
      for (; !over.signal.aborted; await delay(1_000)) {
        upgrades += 1;
        const value = { type: "string", description: "Of a later version." };
        const path = `/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/later${upgrades}`;
        await cluster.kubectl(["patch", "crd", CRD, "--type=json", "-p", JSON.stringify([{ op: "add", path, value }])]);
      }
      return upgrades;
    })();
    try {
      await healed(pods);
    } finally {
      over.abort();
    }
    assert.ok((await upgrading) >= 2);
    assert.deepEqual(operators.exits, []);
  });

  it("follows a leader that was killed, and leads, with clocks five minutes off in either direction", async () => {
    await operators.end("one", "SIGTERM");
    await operators.start("ahead", 300_000);
    const holder = async (): Promise<string> =>
      (await cluster.get<{ spec: { holderIdentity?: string } }>("lease", "nightshift", "-n", "nightshift-system")).spec.holderIdentity ??
      "";
    const first = await cluster.until("a leader", async () => (await holder()) || undefined);
    await operators.start("behind", -300_000);
    const [early] = fire(1);
    await healed([early ?? ""]);
    assert.equal(await holder(), first, "a clock that is ahead or behind takes no lease from another");
    const [late] = fire(1);
    await cluster.until("its episode", async () => (await operators.about(late ?? "")).length === 1);
    const killedAt = performance.now();
    await operators.end("ahead", "SIGKILL");
    await cluster.until("another leader", async () => {
      const now = await holder();
      return now !== "" && now !== first;
    });
    const took = performance.now() - killedAt;
    assert.ok(took < TAKEOVER_MS, `${took} ms`);
    await healed([late ?? ""]);
  });
});
