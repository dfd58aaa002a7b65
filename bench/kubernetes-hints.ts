import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster } from "../test/cluster/cluster.ts";
import { NO_STORMS } from "../test/support/no-storms.ts";
import { hintOf } from "./hint-payload.ts";
import {
  AGENTS,
  allAvailable,
  deployment,
  Inside,
  isBy,
  isEffect,
  isEpisode,
  NAMESPACE,
  OPERATOR,
  POLICY,
  prepare,
  REPLICAS,
  timeOf,
  TOKEN,
  Trail,
} from "./kubernetes/operator.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

/** Pods that a node takes; some are left for those that come in the place of others. */
const PODS_PER_NODE = 110;
const ROOM = 1.5;
/** Deployments that are made at once. */
const AT_ONCE = 20;
/** Time in which all must have been acted on (ms). */
const LIMIT_MS = 600_000;

/** Hints of the pods of 1,000 Deployments at once, to the first effect on each, at a real API server. */
export async function run(short: boolean): Promise<BenchResult> {
  const targets = short ? 100 : 1_000;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  const cluster = await Cluster.start({ fakeNodes: Math.ceil((targets * REPLICAS * ROOM) / PODS_PER_NODE) });
  const trail = new Trail(cluster.apiserver.auditLog);
  const inside = new Inside(cluster, dir);
  try {
    const names = Array.from({ length: targets }, (_, i) => `hinted-${String(i).padStart(4, "0")}`);
    await prepare(cluster);
    await cluster.apply([POLICY, NO_STORMS]);
    for (let i = 0; i < targets; i += AT_ONCE)
      await Promise.all(
        names
          .slice(i, i + AT_ONCE)
          .map((name) => cluster.request("POST", `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`, deployment(name))),
      );
    await allAvailable(cluster);
    const { items } = await cluster.request<{ items: { metadata: { uid: string; labels: Record<string, string> } }[] }>(
      "GET",
      `/api/v1/namespaces/${NAMESPACE}/pods`,
    );
    // One pod of each asks.
    const asking = new Map(items.map(({ metadata: { uid, labels } }) => [labels["app"] ?? "", uid]));
    const { sender, prometheus } = await inside.sender();
    const operator = inside.operator();
    await inside.untilLeading(sender);

    const headers = { "content-type": "application/json", authorization: `Bearer ${TOKEN}` };
    const bodies = [...asking].map(([name, uid]) => hintOf(uid, name));
    const bare = await sender.send({ method: "POST", url: prometheus, headers, bodies });
    const cpu = operator.cpu();
    const hints = await sender.send({ method: "POST", url: `${OPERATOR}/v1/metrics`, headers, bodies });
    /** The first write of its kind about each Deployment (ms since the first sending). */
    const firsts = (isWanted: typeof isEffect): Map<string, number> => {
      const times = new Map<string, number>();
      for (const event of trail.writes) {
        const about = names.find((name) => event.objectRef?.name?.includes(name) === true);
        if (about !== undefined && isBy(event, AGENTS.nightshift) && isWanted(event) && !times.has(about))
          times.set(about, timeOf(event.stageTimestamp) - hints.at);
      }
      return times;
    };
    await cluster.until(
      "an effect on every Deployment",
      () => {
        trail.read();
        return Promise.resolve(firsts(isEffect).size === targets);
      },
      LIMIT_MS,
    );
    const cpuMs = ((operator.cpu() - cpu) * 1000) / targets;
    const episodes = trail.writes.filter((event) => isBy(event, AGENTS.nightshift) && isEpisode(event)).length;
    if (episodes !== targets) throw new Error(`${targets} targets have ${episodes} episodes`);
    const effects = [...firsts(isEffect).values()];
    const row = (label: string, value: number): BenchRow => ({ label, value, unit: "ms", ratio: value / bare.took });
    return {
      name: "hints at once, at the API server",
      method:
        `A pod of each of ${targets} Deployments of ${REPLICAS} pods (played by kwok) sends a hint at once, each in a request of its own over OTLP/HTTP with JSON; from the first sending to the end of the first write that restarts the pods of each, by the API server's audit log; episode, decision and intent are on record before. ` +
        `One real cluster with etcd, API server and controllers on this machine, which carry the rollouts out meanwhile. Fails where a target has other than one episode. Bound: the same requests to a bare server.`,
      rows: [
        { label: "bound: the requests alone", value: bare.took, unit: "ms" },
        row("all hints are answered", hints.took),
        row("to the effect, the first", Math.min(...effects)),
        row("to the effect, p50", quantile(effects, 0.5)),
        row("to the effect, p99", quantile(effects, 0.99)),
        row("to the effect, the last", Math.max(...effects)),
        { label: "CPU time of the operator", value: cpuMs, unit: "ms a target" },
      ],
    };
  } finally {
    await inside.stop();
    trail.close();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
