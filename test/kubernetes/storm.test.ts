import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { timeMs } from "../../src/api/time.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { findAccess } from "../../src/platform/kubernetes/access.ts";
import { isTooManyRequests } from "../../src/platform/kubernetes/errors.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { isReady, Operators, OWN, story } from "./operators.ts";

/** How long the API server sends the operator away (ms). */
const STORM_MS = 20_000;
/** The least that API priority and fairness asks to wait in a Retry-After (ms). */
const RETRY_AFTER_MS = 1_000;
/** Port of a webhook, inside the cluster's network, that takes connections and says nothing. */
const MUTE_PORT = 9_444;
const FLOW = "flowcontrol.apiserver.k8s.io/v1";

describe("an operator that the API server sends away with 429", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  let operators: Operators;
  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3 });
    operators = new Operators(cluster);
    await operators.prepare(4, { ladder: [{ runbook: "runbook-0" }] }, [
      {
        steps: [
          { startReplacement: {} },
          { awaitReady: {} },
          // Long enough for the storm to begin in the middle of it.
          { wait: { for: "6s" } },
          { removeFromTraffic: {}, timeout: "2m" },
          { awaitInFlight: {}, timeout: "2s" },
          { stop: { gracePeriod: "1s" }, timeout: "2m" },
        ],
      },
    ]);
    await operators.start("one");
  });
  after(async () => {
    await operators?.stop();
    await cluster?.stop();
  });

  /**
   * A storm as a noisy neighbour brings it about: the operator is in one lane of API priority and fairness with an account
   * whose requests hold the lane's only seat, each until a webhook that never answers has had its 30 s. The Lease is left
   * out, as leader election has a lane of its own on real clusters.
   */
  async function storm(): Promise<{ readonly isOn: () => Promise<boolean>; readonly end: () => Promise<void> }> {
    const listener = cluster.spawn([process.execPath, "-e", `net.createServer(() => {}).listen(${MUTE_PORT}, "127.0.0.1")`]);
    await cluster.kubectl(["create", "serviceaccount", "neighbour", "-n", OWN]);
    await cluster.kubectl([
      "create",
      "clusterrolebinding",
      "neighbour",
      "--clusterrole=cluster-admin",
      `--serviceaccount=${OWN}:neighbour`,
    ]);
    const account = (name: string) => ({ kind: "ServiceAccount", serviceAccount: { namespace: OWN, name } });
    await cluster.apply([
      {
        apiVersion: "admissionregistration.k8s.io/v1",
        kind: "ValidatingWebhookConfiguration",
        metadata: { name: "mute" },
        webhooks: [
          {
            name: "mute.nightshift.test",
            clientConfig: { url: `https://127.0.0.1:${MUTE_PORT}/` },
            rules: [{ operations: ["CREATE"], apiGroups: [""], apiVersions: ["v1"], resources: ["configmaps"] }],
            matchConditions: [{ name: "neighbour", expression: `request.userInfo.username == 'system:serviceaccount:${OWN}:neighbour'` }],
            failurePolicy: "Ignore",
            timeoutSeconds: 30,
            sideEffects: "None",
            admissionReviewVersions: ["v1"],
          },
        ],
      },
      {
        apiVersion: FLOW,
        kind: "PriorityLevelConfiguration",
        metadata: { name: "storm" },
        spec: {
          type: "Limited",
          // No seat but the one that is always lent to a lane in which nothing runs.
          limited: { nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: { type: "Reject" } },
        },
      },
      {
        apiVersion: FLOW,
        kind: "FlowSchema",
        metadata: { name: "storm" },
        spec: {
          priorityLevelConfiguration: { name: "storm" },
          matchingPrecedence: 2,
          rules: [
            {
              subjects: [account("nightshift"), account("neighbour")],
              resourceRules: [
                {
                  verbs: ["*"],
                  apiGroups: ["", "apps", "autoscaling", "batch", "discovery.k8s.io", "events.k8s.io", "nightshift.dev", "policy"],
                  resources: ["*"],
                  namespaces: ["*"],
                  clusterScope: true,
                },
              ],
            },
          ],
        },
      },
    ]);
    const { outer } = cluster.kubeconfigFor(await cluster.token(OWN, "neighbour"), "neighbour");
    const client = new HttpKubeClient({ access: await findAccess({ kubeconfig: outer }), clock: systemClock, version: "neighbour" });
    const path = `/api/v1/namespaces/${OWN}/configmaps`;
    const over = new AbortController();
    const hold = async (): Promise<void> => {
      const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "noise" } };
      for (; !over.signal.aborted; await delay(20))
        await client.request({ method: "POST", path, query: { dryRun: "All" }, body, timeoutMs: 40_000 }).catch(() => undefined);
    };
    const holding = [hold(), hold()];
    return {
      isOn: () =>
        client.request({ method: "GET", path, query: { limit: 1 }, timeoutMs: RETRY_AFTER_MS }).then(() => false, isTooManyRequests),
      end: async () => {
        over.abort();
        await client.close();
        await Promise.all(holding);
        listener.kill("SIGKILL");
        await cluster.kubectl(["delete", "validatingwebhookconfiguration", "mute"]);
        await cluster.kubectl(["delete", "flowschema,prioritylevelconfiguration", "storm"]);
      },
    };
  }

  it("loses nothing: what was begun is ended, what fell ill meanwhile is healed, each once; and sends no burst", async () => {
    const [first, second] = (await operators.pods()).map(({ metadata }) => metadata.name);
    assert.ok(first !== undefined && second !== undefined);
    operators.fire(first);
    await operators.pausing(first);
    const { isOn, end } = await storm();
    await cluster.until("a storm", isOn);
    // Watches that are open would go on: new ones are refused, too.
    await cluster.apiserver.resetConnections();
    operators.fire(second);
    await delay(STORM_MS);
    assert.ok(await isOn());
    const calmAt = Date.now();
    await end();
    for (const pod of [first, second]) {
      const ended = await operators.ended(pod);
      assert.equal(ended.status.outcome, "Remediated", `${story(ended)}\n${operators.logs}`);
      assert.equal((await operators.about(pod)).length, 1, pod);
      assert.equal(operators.deletions(pod), 1, pod);
    }
    await cluster.until("four ready pods", async () => (await operators.pods()).filter(isReady).length === 4);
    assert.deepEqual(operators.exits, [], operators.logs);
    const sentAway = operators.requests(({ responseStatus }) => responseStatus?.code === 429);
    // One watch of a collection after the other: none is tried again before the API server said that it may be.
    const watches = Map.groupBy(
      sentAway.filter(({ verb }) => verb === "watch"),
      ({ requestURI }) => requestURI.replace(/\?.*/, ""),
    );
    assert.ok(watches.size > 10, `only ${watches.size} watches were sent away`);
    for (const [path, events] of watches) {
      // The audit log has several stages of one request.
      const times = [...new Set(events.map(({ requestReceivedTimestamp }) => timeMs(requestReceivedTimestamp)))].sort((a, b) => a - b);
      // Half of it, as the time between arrivals is not the time between departures.
      times.slice(1).forEach((time, i) => assert.ok(time - (times[i] ?? 0) >= RETRY_AFTER_MS / 2, `${path} was asked for again too soon`));
    }
    // What a watch has missed is asked for from where it ended: no collection is listed anew.
    const lists = operators.requests(
      ({ verb, requestURI, requestReceivedTimestamp }) =>
        verb === "list" && requestURI.includes("limit=") && timeMs(requestReceivedTimestamp) >= calmAt,
    );
    assert.deepEqual([...new Set(lists.map(({ requestURI }) => requestURI))], []);
    assert.ok(operators.busiest() <= 25, `${operators.busiest()} writes in a second`);
  });
});
