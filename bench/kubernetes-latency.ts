import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type AuditEvent, Cluster } from "../test/cluster/cluster.ts";
import { NO_STORMS } from "../test/support/no-storms.ts";
import {
  AGENTS,
  allAvailable,
  deployment,
  Inside,
  isBy,
  isEffect,
  isEffectOn,
  isEpisode,
  NAMESPACE,
  OPERATOR,
  OURS,
  POLICY,
  prepare,
  REPLICAS,
  timeOf,
  TOKEN,
  Trail,
} from "./kubernetes/operator.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

/** Rounds before those that count. */
const WARM_UP = 3;
/** After a rollout, before the next sample (ms). */
const REST_MS = 250;

/** From each sending to the end of the first write after it (ms). */
function latencies(sent: readonly number[], writes: readonly AuditEvent[]): number[] {
  const times = writes.map((event) => ({ begun: timeOf(event.requestReceivedTimestamp), ended: timeOf(event.stageTimestamp) }));
  return sent.map((at, i) => {
    const next = sent[i + 1] ?? Number.POSITIVE_INFINITY;
    const ends = times.filter(({ begun }) => begun >= at && begun < next).map(({ ended }) => ended);
    if (ends.length === 0) throw new Error(`nothing was written after alert ${i + 1}`);
    return Math.min(...ends) - at;
  });
}

/** Waits until a Deployment's pods have all been replaced, and what that set off has come to rest: it is not to be measured. */
async function rolledOut(cluster: Cluster, name: string): Promise<void> {
  await cluster.until(`${name} is rolled out`, async () => {
    const { metadata, status } = await cluster.request<{
      metadata: { generation: number };
      status: { observedGeneration?: number; replicas?: number; updatedReplicas?: number; availableReplicas?: number };
    }>("GET", `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/${name}`);
    const { replicas, updatedReplicas, availableReplicas } = status;
    return (
      status.observedGeneration === metadata.generation &&
      [replicas, updatedReplicas, availableReplicas].every((count) => count === REPLICAS)
    );
  });
  await delay(REST_MS);
}

/**
 * From an alert's sending to the first write at a real API server.
 * @param bin - where the peer is.
 */
export async function run(short: boolean, bin: string): Promise<BenchResult> {
  const rounds = short ? 20 : 120;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  // Room for two pods, and one more while they are renewed, of every Deployment: a node takes 110.
  const cluster = await Cluster.start({ fakeNodes: short ? 4 : 8 });
  const trail = new Trail(cluster.apiserver.auditLog);
  const inside = new Inside(cluster, dir);
  try {
    const names = (whose: string): string[] => Array.from({ length: rounds + WARM_UP }, (_, i) => `${whose}-${i}`);
    const mine = names("ours");
    const peers = names("peers");
    await prepare(cluster);
    await cluster.apply([POLICY, NO_STORMS, ...[...mine, ...peers, "bound"].map(deployment)]);
    await allAvailable(cluster);

    const { token } = cluster.access;
    const { sender, prometheus } = await inside.sender();
    const peer = inside.start([join(bin, "peer"), "reconcile", "-prometheus", prometheus, "-token", TOKEN, "-namespace", OURS]);
    inside.operator();
    const peerUrl = String((await peer.hear("listening"))["url"]);
    await inside.untilLeading(sender);

    const sent: Record<keyof typeof AGENTS, number[]> = { nightshift: [], peer: [], bound: [] };
    for (let round = 0; round < rounds + WARM_UP; round += 1) {
      const ofPeer = peers[round]!;
      const ofNightshift = mine[round]!;
      const patch = await sender.send({
        method: "PATCH",
        url: `https://127.0.0.1:6443/apis/apps/v1/namespaces/${NAMESPACE}/deployments/bound`,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/merge-patch+json", "user-agent": AGENTS.bound },
        body: JSON.stringify({ metadata: { annotations: { bench: String(round) } } }),
      });
      const toPeer = await sender.alert(peerUrl, ofPeer);
      await trail.until(`the peer's effect on ${ofPeer}`, (event) => isBy(event, AGENTS.peer) && isEffectOn(ofPeer, event));
      await rolledOut(cluster, ofPeer);
      const toNightshift = await sender.alert(OPERATOR, ofNightshift);
      await trail.until(
        `Nightshift's effect on ${ofNightshift}`,
        (event) => isBy(event, AGENTS.nightshift) && isEffectOn(ofNightshift, event),
      );
      if (round < WARM_UP) continue;
      sent.bound.push(patch.at);
      sent.peer.push(toPeer);
      sent.nightshift.push(toNightshift);
    }

    const by = (agent: keyof typeof AGENTS): AuditEvent[] => trail.writes.filter((event) => isBy(event, AGENTS[agent]));
    const bound = latencies(sent.bound, by("bound"));
    const theirs = latencies(sent.peer, by("peer").filter(isEffect));
    const first = latencies(sent.nightshift, by("nightshift").filter(isEpisode));
    const effect = latencies(sent.nightshift, by("nightshift").filter(isEffect));
    const rows = (q: number): BenchRow[] => {
      const of = (label: string, values: readonly number[], beside?: readonly number[]): BenchRow => ({
        label: `${label}, p${q * 100}`,
        value: quantile(values, q),
        unit: "ms",
        ...(beside === undefined ? {} : { ratio: quantile(values, q) / quantile(beside, q) }),
      });
      const ours: BenchRow = { ...of("Nightshift, first write", first, theirs), beside: "the peer's" };
      return [
        of("a bare PATCH", bound),
        of("Go peer, first write and effect", theirs, bound),
        // Noise on a shared machine is for people to judge; a short run has too few samples to say anything of a p99.
        { ...ours, ...(short ? {} : { goal: q === 0.5 ? { of: "ratio", atMost: 1 } : { of: "value", atMost: 50 } }) },
        { ...of("Nightshift, first effect", effect, theirs), beside: "the peer's" },
      ];
    };
    return {
      name: "signal to the first write at the API server",
      method:
        `${rounds} alerts each, in turn, each on another Deployment of 2 pods (played by kwok) in one cluster with etcd, API server and controllers on this machine; ` +
        `from the sending of Alertmanager's webhook to the answer of the write, by the API server's audit log. A budget keeps the storm brake from holding so many that are ill. Nightshift's first write is the Remediation, the first effect what it then does to the pods. ` +
        `Peer: controller-runtime with leader election and a cache; it looks up the policy, asks Prometheus (a server that answers at once), and patches the Deployment: no record, no lock, no gate. ` +
        `Bound: one PATCH of a Deployment's annotation, sent in turn with them.`,
      rows: [...rows(0.5), ...rows(0.99)],
    };
  } finally {
    await inside.stop();
    trail.close();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
