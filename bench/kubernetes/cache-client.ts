// Nightshift's caches in a process of their own, to be measured from outside. `pods`: pods and nodes, as the peer keeps them.
// `all`: everything that the operator keeps of a cluster, and its view of it, asked for as the loop asks.
import { NightshiftError } from "../../src/api/errors.ts";
import { Cache } from "../../src/platform/kubernetes/cache.ts";
import { Caches } from "../../src/platform/kubernetes/caches.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { Interner } from "../../src/platform/kubernetes/interner.ts";
import { type BaseRecord, type PodRecord, type RecordKind, RESOURCES } from "../../src/platform/kubernetes/records.ts";
import { type Listed, Reflector } from "../../src/platform/kubernetes/reflector.ts";
import type { Table } from "../../src/platform/kubernetes/table.ts";
import { ClusterView } from "../../src/platform/kubernetes/view.ts";
import { systemClock as clock } from "../../src/platform/host/clock.ts";
import { systemRandom as random } from "../../src/platform/host/random.ts";
import { MARKER } from "./marker.ts";

const [mode, server = ""] = process.argv.slice(2);
const client = new HttpKubeClient({
  access: { server: new URL(server), namespace: "default", credentials: async () => ({ headers: {}, tls: {} }), forget() {} },
  clock,
  version: "bench",
});

function say(fields: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

function fail(what: string, error: unknown): void {
  process.stderr.write(`${what}: ${error instanceof NightshiftError ? `${error.code} ${error.message}` : String(error)}\n`);
}

function watchMarkers(pods: Table<PodRecord>): void {
  pods.onChange((_, pod) => {
    const value = pod?.annotations[MARKER];
    if (value !== undefined) say({ event: "marker", value });
  });
}

const forever = new AbortController().signal;
if (mode === "pods") {
  const interner = new Interner();
  const start = <R extends BaseRecord>(kind: RecordKind): { cache: Cache<Listed, R>; reflector: Reflector<Listed> } => {
    const { path, project } = RESOURCES[kind];
    const cache = new Cache<Listed, R>({ project: project as unknown as (object: Listed, before: R | undefined) => R, interner });
    const onError = (error: unknown): void => fail(kind, error);
    const reflector = new Reflector<Listed>({ client, clock, random, path, sink: cache, onError });
    void reflector.run(forever);
    return { cache, reflector };
  };
  const pods = start<PodRecord>("Pod");
  const nodes = start("Node");
  watchMarkers(pods.cache);
  await Promise.all([pods.reflector.synced, nodes.reflector.synced]);
  say({ event: "synced", pods: pods.cache.size, nodes: nodes.cache.size });
} else {
  const caches = new Caches({
    client,
    clock,
    random,
    onError: (kind, error) => fail(kind, error),
    onUnreadable: (kind, name, error) => fail(`${kind} ${name}`, error),
  });
  const view = new ClusterView({ tables: caches.tables, clock, nodeNamespace: "nightshift" });
  watchMarkers(caches.tables.Pod);
  void caches.run(forever);
  await caches.synced;
  view.workloads();
  let changes = 0;
  view.onChange(() => (changes += 1));
  const pods = [...caches.tables.Pod.values()].length;
  say({ event: "synced", pods, nodes: [...caches.tables.Node.values()].length, workloads: view.workloads().length });
}
