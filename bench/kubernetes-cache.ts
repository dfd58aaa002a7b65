import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ListServer, Measured } from "./kubernetes/child.ts";
import type { Size } from "./kubernetes/dataset.ts";
import { MARKER } from "./kubernetes/marker.ts";
import type { BenchResult, BenchRow } from "./result.ts";

const MIB = 2 ** 20;
/** Status updates of pods a second while the cluster is at work. */
const POD_UPDATES = 50;
/** How often a kubelet updates its node's status when nothing changes (s): Kubernetes' nodeStatusReportFrequency. */
const NODE_UPDATE_S = 300;

/** What was seen of one client. Memory in bytes, times in seconds, CPU in seconds, or as a share of one processor. */
interface Seen {
  readonly empty: number;
  readonly syncTime: number;
  readonly syncCpu: number;
  readonly syncRss: number;
  readonly syncPeak: number;
  readonly idleCpu: number;
  readonly busyCpu: number;
  readonly relistTime: number;
  readonly relistRss: number;
  readonly relistPeak: number;
}

type Client = (server: string) => Measured;

/** Memory of a client that has nothing to keep. */
async function measureEmpty(client: Client): Promise<number> {
  const server = await ListServer.start({ nodes: 0, pods: 0 });
  const process = client(server.url);
  try {
    await process.hear("synced");
    return process.memory().rss;
  } finally {
    await process.stop();
    await server.stop();
  }
}

async function measure(client: Client, size: Size, seconds: number): Promise<Seen> {
  const empty = await measureEmpty(client);
  const server = await ListServer.start(size);
  const begin = performance.now();
  const process = client(server.url);
  try {
    const { pods, nodes } = await process.hear("synced");
    const syncTime = (performance.now() - begin) / 1000;
    if (pods !== size.pods || nodes !== size.nodes) throw new Error(`the client has ${String(pods)} pods and ${String(nodes)} nodes`);
    const syncCpu = process.cpu();
    const { rss: syncRss, peak: syncPeak } = process.memory();

    // What the listing leaves to be done is not what being idle costs.
    await delay(5_000);
    const shareOf = async (work: () => Promise<void>): Promise<number> => {
      const [cpu, from] = [process.cpu(), performance.now()];
      await work();
      return ((process.cpu() - cpu) * 1000) / (performance.now() - from);
    };
    const idleCpu = await shareOf(() => delay(seconds * 1000));
    const busyCpu = await shareOf(async () => {
      let nodesDue = 0;
      for (let tenths = 0; tenths < seconds * 10; tenths += 1) {
        await server.tell({ order: "update", path: "/api/v1/pods", count: POD_UPDATES / 10 });
        nodesDue += size.nodes / NODE_UPDATE_S / 10;
        await server.tell({ order: "update", path: "/api/v1/nodes", count: Math.floor(nodesDue) });
        nodesDue %= 1;
        await delay(100);
      }
    });

    process.resetPeak();
    const relist = performance.now();
    await server.tell({ order: "expire" });
    await server.tell({ order: "update", path: "/api/v1/pods", count: 1, marker: { name: MARKER, value: "relisted" } });
    await process.hear("marker");
    const relistTime = (performance.now() - relist) / 1000;
    const { rss: relistRss, peak: relistPeak } = process.memory();
    return { empty, syncTime, syncCpu, syncRss, syncPeak, idleCpu, busyCpu, relistTime, relistRss, relistPeak };
  } finally {
    await process.stop();
    await server.stop();
  }
}

function rowsOf(label: string, seen: Seen, size: Size, peer: Seen | undefined, goals: boolean): BenchRow[] {
  const perPod = (of: Seen): number => (of.syncRss - of.empty) / size.pods;
  const row = (what: string, unit: string, of: (seen: Seen) => number, goal?: number): BenchRow => ({
    label: `${label}, ${what}`,
    value: of(seen),
    unit,
    ...(peer === undefined ? {} : { ratio: of(seen) / of(peer), beside: "the peer's" }),
    ...(goal === undefined || !goals ? {} : { goal: { of: "value", atMost: goal } }),
  });
  return [
    row("time to sync", "s", (of) => of.syncTime),
    row("CPU time to sync", "s", (of) => of.syncCpu),
    row("RSS after sync", "MiB", (of) => of.syncRss / MIB, 1024),
    row("peak RSS until then", "MiB", (of) => of.syncPeak / MIB),
    row("memory a pod", "bytes", perPod, 6 * 1024),
    row("time to relist", "s", (of) => of.relistTime),
    row("RSS right after a relist", "MiB", (of) => of.relistRss / MIB, 1024),
    row("peak RSS of a relist", "MiB", (of) => of.relistPeak / MIB),
    { ...row("growth by a relist", "times", (of) => of.relistPeak / of.syncRss), ...(goals ? { goal: { of: "value", atMost: 1.5 } } : {}) },
    // Next to nothing: a ratio of it says nothing.
    { label: `${label}, CPU without changes`, value: seen.idleCpu * 100, unit: "% of a processor" },
    row("CPU with changes", "% of a processor", (of) => of.busyCpu * 100),
  ];
}

/**
 * Memory, CPU and time that a cluster's objects take in a cache.
 * @param bin - where the peer is.
 */
export async function run(short: boolean, bin: string): Promise<BenchResult> {
  const size: Size = short ? { nodes: 700, pods: 20_000 } : { nodes: 5_000, pods: 150_000 };
  const seconds = short ? 5 : 20;
  const nightshift =
    (mode: string): Client =>
    (server) =>
      Measured.start(process.execPath, [join(import.meta.dirname, "kubernetes/cache-client.ts"), mode, server]);
  const go =
    (...flags: readonly string[]): Client =>
    (server) =>
      Measured.start(join(bin, "peer"), ["informer", "-server", server, ...flags]);
  const peer = await measure(go(), size, seconds);
  const trimmed = short ? undefined : await measure(go("-trim"), size, seconds);
  const pods = await measure(nightshift("pods"), size, seconds);
  const operator = await measure(nightshift("operator"), size, seconds);
  return {
    name: "a cluster in memory",
    method:
      `${size.nodes} nodes and ${size.pods} pods of 5.7 kB of JSON, as a kubelet writes them, from a list server in a process of its own over HTTP without TLS. ` +
      `Each client in a process of its own, one after the other, started without flags; times begin with the process. Memory a pod: RSS after sync less that of the same client over an empty cluster. ` +
      `Relist: every watch ends with 410. With changes: ${POD_UPDATES} pod and ${(size.nodes / NODE_UPDATE_S).toFixed(1)} node updates a second, for ${seconds} s. ` +
      `Peer: client-go's shared informers for pods and nodes, with its defaults (JSON, as the server speaks no protobuf; streamed lists)${short ? "" : "; trimmed: managedFields dropped by a transform"}. ` +
      `The operator: all of Nightshift, leading; it also reads ${Math.ceil(size.pods / 25)} Deployments with their ReplicaSets, Services, EndpointSlices, budgets and autoscalers, and has a policy for each namespace of 20 of them, which looks at all of them every second.`,
    rows: [
      ...rowsOf("Go peer", peer, size, undefined, false),
      ...(trimmed === undefined ? [] : rowsOf("Go peer, trimmed", trimmed, size, peer, false)),
      ...rowsOf("Nightshift's cache", pods, size, peer, !short),
      ...rowsOf("The operator", operator, size, peer, !short),
    ],
  };
}
