// Nightshift in a process of its own, to be measured from outside. `pods`: its caches of pods and nodes, as the peer keeps
// them. `operator`: all of the operator, which leads, with the policies that the server has.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NightshiftError } from "../../src/api/errors.ts";
import { createLog } from "../../src/cli/log.ts";
import type { KubeAccess } from "../../src/platform/kubernetes/access.ts";
import { Cache } from "../../src/platform/kubernetes/cache.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { Interner } from "../../src/platform/kubernetes/interner.ts";
import { type BaseRecord, type PodRecord, type RecordKind, RESOURCES } from "../../src/platform/kubernetes/records.ts";
import { type Listed, Reflector } from "../../src/platform/kubernetes/reflector.ts";
import { systemClock as clock } from "../../src/platform/host/clock.ts";
import { systemRandom as random } from "../../src/platform/host/random.ts";
import { MARKER } from "./marker.ts";

const [mode, server = ""] = process.argv.slice(2);
const access: KubeAccess = {
  server: new URL(server),
  namespace: "nightshift-system",
  credentials: async () => ({ headers: {}, tls: {} }),
  forget() {},
};

function say(fields: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

function fail(what: string, error: unknown): void {
  process.stderr.write(`${what}: ${error instanceof NightshiftError ? `${error.code} ${error.message}` : String(error)}\n`);
}

const forever = new AbortController().signal;
if (mode === "pods") {
  const client = new HttpKubeClient({ access, clock, version: "bench" });
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
  pods.cache.onChange((_, pod) => {
    const value = pod?.annotations[MARKER];
    if (value !== undefined) say({ event: "marker", value });
  });
  await Promise.all([pods.reflector.synced, nodes.reflector.synced]);
  say({ event: "synced", pods: pods.cache.size, nodes: nodes.cache.size });
} else {
  const { startOperator } = await import("../../src/cli/operator.ts");
  const { readOperatorConfig } = await import("../../src/cli/operator-config.ts");
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  process.once("SIGTERM", () => {
    rmSync(dir, { recursive: true, force: true });
    process.exit();
  });
  writeFileSync(join(dir, "token"), "nobody-sends-anything-to-this-operator");
  const { config } = await readOperatorConfig(undefined);
  const operator = await startOperator({
    access,
    lease: "nightshift",
    listen: { host: "127.0.0.1", port: 0 },
    tokenFile: join(dir, "token"),
    stateDir: join(dir, "state"),
    config,
    configDir: dir,
    log: createLog({ json: true, level: "warn" }),
  });
  const { platform } = operator;
  await operator.leading;
  const replicas = platform.workloads().flatMap((workload) => workload.replicas);
  const count = (kind: string): number => replicas.filter((replica) => replica.ref.kind === kind).length;
  say({ event: "synced", pods: count("Pod"), nodes: count("Node") });
  platform.onChange((ref) => {
    const changed = platform.workloads().find((workload) => workload.ref.namespace === ref.namespace && workload.ref.name === ref.name);
    for (const replica of changed?.replicas ?? []) {
      const value = replica.annotations[MARKER];
      if (value !== undefined) say({ event: "marker", value });
    }
  });
}
