import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { isReady, Operators, story } from "./operators.ts";

/** How long the API server is away (ms). */
const OUTAGE_MS = 60_000;
/** The lease is lost after 10 s without a renewal; a process has ended well before this (ms). */
const LOST_WITHIN_MS = 40_000;

describe("an operator whose API server goes away", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  let operators: Operators;
  before(async () => {
    // Else the controller manager takes all nodes for dead when the API server is back, and their pods for unready.
    cluster = await Cluster.start({ fakeNodes: 3, flags: { "kube-controller-manager": ["--node-monitor-grace-period=300s"] } });
    operators = new Operators(cluster);
    await operators.prepare(4, { ladder: [{ runbook: "runbook-0" }] }, [
      {
        steps: [
          { startReplacement: {} },
          { awaitReady: {} },
          // Long enough for the API server to go away in the middle of it.
          { wait: { for: "6s" } },
          // The cluster's own controllers have been away, too.
          { removeFromTraffic: {}, timeout: "5m" },
          { awaitInFlight: {}, timeout: "2s" },
          { stop: { gracePeriod: "1s" } },
        ],
      },
    ]);
    await operators.start("one");
  });
  after(async () => {
    await operators?.stop();
    await cluster?.stop();
  });

  it("loses nothing in a minute without it: what was begun is ended, what fell ill meanwhile is healed, each once", async () => {
    const [first, second] = (await operators.pods()).map(({ metadata }) => metadata.name);
    assert.ok(first !== undefined && second !== undefined);
    operators.fire(first);
    await operators.pausing(first);
    await cluster.apiserver.stop();
    const goneAt = performance.now();
    operators.fire(second);
    while (operators.exits.length === 0 && performance.now() - goneAt < LOST_WITHIN_MS) await delay(100);
    assert.deepEqual(operators.exits[0]?.name, "one", `a leader without its lease must end\n${operators.logs}`);
    await delay(Math.max(0, OUTAGE_MS - (performance.now() - goneAt)));
    const backAt = Date.now();
    await cluster.apiserver.start();
    for (const pod of [first, second]) {
      const ended = await operators.ended(pod);
      assert.equal(ended.status.outcome, "Remediated", story(ended));
      assert.equal((await operators.about(pod)).length, 1, pod);
      assert.equal(operators.deletions(pod), 1, pod);
    }
    await cluster.until("four ready pods", async () => (await operators.pods()).filter(isReady).length === 4);
    // No burst: neither writes that had piled up, nor one listing after the other.
    assert.ok(operators.busiest() <= 25, `${operators.busiest()} writes in a second`);
    // Of whole collections, page by page: an effect that waits asks for the few objects that it waits for.
    const lists = cluster.audit(
      ({ verb, userAgent, requestURI, requestReceivedTimestamp, responseStatus }) =>
        verb === "list" &&
        requestURI.includes("limit=") &&
        userAgent?.startsWith("nightshift/") === true &&
        Date.parse(requestReceivedTimestamp) >= backAt &&
        (responseStatus?.code ?? 0) < 300,
    );
    const perResource = Map.groupBy(lists, ({ objectRef }) => objectRef?.resource ?? "");
    assert.ok(perResource.size > 10, `only ${perResource.size} collections were listed`);
    for (const [resource, events] of perResource) assert.ok(events.length <= 4, `${events.length} listings of ${resource}`);
  });
});
