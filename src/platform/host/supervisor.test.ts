import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { unusedPort } from "../../../test/support/ports.ts";
import { NightshiftError } from "../../api/errors.ts";
import { Bench, killChild, REPLICA, stackOf, superviseElsewhere, until } from "./fixtures/harness.ts";
import { MemoryCgroups } from "./cgroup.ts";
import { findByEnvironment, processIdentity } from "../linux/proc.ts";

const tree = MemoryCgroups.open("probe");
tree?.close();
const NO_CGROUP = tree === undefined ? "no memory cgroup can be made here (needs root)" : false;

test("a crashed replica is started again as another one, with growing waits, and the others are left alone", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web", replicas: 2 }]));
  const [first, other] = await bench.ready("web", 2);
  assert.ok(first && other);
  await bench.ask(first, "/exit?code=3");
  const second = await until("the restart", () => bench.workload("web").replicas.find((r) => r.restarts === 1 && r.ready));
  assert.notEqual(second.ref.uid, first.ref.uid);
  assert.ok(bench.workload("web").replicas.some((r) => r.ref.uid === other.ref.uid && r.restarts === 0));
  assert.ok(bench.logged(`${first.ref.name} exited with 3; restart 1 in 0.1 s`));
  await bench.ask(second, "/exit?code=0");
  await until("the second restart", () => bench.workload("web").replicas.find((r) => r.restarts === 2 && r.ready));
  assert.ok(bench.logged(`${second.ref.name} exited with 0; restart 2 in 0.2 s`), "an exit with 0 is a crash too, and the wait doubles");
});

test("a replica that ran well for long enough begins again with the shortest wait", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web" }], { restartBackoff: { initial: "50ms", max: "2s", resetAfter: "1ms" } }));
  for (let restarts = 0; restarts < 3; restarts++) {
    const replica = await until("a replica", () => bench.workload("web").replicas.find((r) => r.restarts === restarts && r.ready));
    await bench.ask(replica, "/exit?code=1");
  }
  await until("the third restart", () => bench.logged("restart 3 in 0.05 s"));
});

test("a command that does not exist backs off and does not take Nightshift with it", async () => {
  for (const cgroups of [{}, { cgroups: "none" as const }]) {
    await using bench = new Bench();
    await bench.start(stackOf([{ name: "web", command: ["/does/not/exist"] }]), cgroups);
    await until("two restarts", () => bench.logged("restart 2 in 0.2 s"));
  }
});

test("a kill for want of memory is recognized", { skip: NO_CGROUP }, async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web", memory: { limit: "120Mi" } }]));
  const [replica] = await bench.ready("web", 1);
  assert.ok(replica);
  await until("the limit", () => bench.workload("web").replicas[0]?.memory?.limitBytes === 120 * 2 ** 20);
  await bench.ask(replica, "/oom").catch(() => undefined);
  await until("the restart", () => bench.workload("web").replicas.find((r) => r.restarts === 1 && r.ready));
  assert.ok(bench.logged("OOMKilled"));
});

test("without a cgroup the limit of a Node.js workload is one of its heap, and that is said once", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web", replicas: 2, memory: { limit: "120Mi" } }]), { cgroups: "none" });
  const [replica] = await bench.ready("web", 2);
  assert.ok(replica);
  const env = JSON.parse(await bench.ask(replica, "/env")) as Record<string, string>;
  assert.match(env["NODE_OPTIONS"] ?? "", /--max-old-space-size=120\b/);
  assert.equal(bench.lines.filter((line) => line.includes("no memory cgroup")).length, 1);
  await until("memory by /proc", () => (bench.workload("web").replicas[0]?.memory?.bytes ?? 0) > 2 ** 20);
});

test("the environment says who a replica is and where its telemetry goes, and the stack file wins", async () => {
  await using bench = new Bench();
  await bench.start(
    stackOf([
      { name: "web", env: { OTEL_SERVICE_NAME: "mine", NODE_OPTIONS: "--no-warnings" } },
      { name: "api", namespace: "shop" },
    ]),
    { otlp: { endpoint: "http://127.0.0.1:1", token: "a/b" } },
  );
  const [web] = await bench.ready("web", 1);
  const [api] = await bench.ready("api", 1);
  assert.ok(web && api);
  const webEnv = JSON.parse(await bench.ask(web, "/env")) as Record<string, string>;
  assert.equal(webEnv["OTEL_SERVICE_NAME"], "mine");
  assert.match(webEnv["NODE_OPTIONS"] ?? "", /^--no-warnings --inspect-port=127\.0\.0\.1:\d+$/);
  const env = JSON.parse(await bench.ask(api, "/env")) as Record<string, string>;
  assert.equal(env["OTEL_SERVICE_NAME"], "api");
  assert.equal(env["OTEL_RESOURCE_ATTRIBUTES"], `service.instance.id=${api.ref.uid},service.namespace=shop`);
  assert.equal(env["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://127.0.0.1:1");
  assert.equal(env["OTEL_EXPORTER_OTLP_HEADERS"], "Authorization=Bearer%20a%2Fb");
  assert.equal(env["NIGHTSHIFT_REPLICA_UID"], api.ref.uid);
  assert.equal(env["NIGHTSHIFT_EFFECT_ID"], undefined);
  assert.match(bench.output("api"), new RegExp(`replica ${api.ref.uid} runs`));
});

test("readiness: when the probe began to fail, and that it had passed before", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web" }, { name: "ill", env: { UNHEALTHY: "1" } }]));
  const [replica] = await bench.ready("web", 1);
  assert.ok(replica);
  const before = Date.now();
  await bench.ask(replica, "/unhealthy");
  const ill = await until("unready", () => bench.workload("web").replicas.find((r) => !r.ready));
  assert.equal(ill.everReady, true);
  assert.equal(ill.phase, "Running");
  assert.equal(ill.inTraffic, false);
  assert.ok(ill.unreadySince !== undefined && ill.unreadySince >= before - 200 && ill.unreadySince <= Date.now());
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(bench.workload("web").replicas[0]?.unreadySince, ill.unreadySince, "the beginning does not move while it fails");
  await bench.ask(replica, "/healthy");
  const well = await until("ready again", () => bench.workload("web").replicas.find((r) => r.ready));
  assert.equal(well.unreadySince, undefined);
  const [never] = bench.workload("ill").replicas;
  assert.equal(never?.phase, "Starting");
  assert.equal(never?.everReady, false);
  assert.equal(never?.unreadySince, undefined, "one that never was ready is starting, not ill");
});

for (const cgroups of [undefined, "none"] as const)
  test(`what outlived a killed Nightshift is adopted${cgroups === undefined ? "" : ", also without cgroups"}`, async () => {
    await using bench = new Bench();
    const port = unusedPort();
    const stack = stackOf([{ name: "web", replicas: 2, port }]);
    const extra = cgroups === undefined ? {} : { cgroups };
    const { child } = await superviseElsewhere({ stack, stateDir: bench.stateDir, ...extra });
    await killChild(child);
    const uids = async (): Promise<string[]> => {
      const seen = new Set<string>();
      for (let i = 0; i < 20; i++) seen.add(await (await fetch(`http://127.0.0.1:${port}/`)).text());
      return [...seen].sort();
    };
    const orphaned = await uids();
    assert.equal(orphaned.length, 2, "traffic flows without Nightshift");
    await bench.start(stack, extra);
    const adopted = await bench.ready("web", 2);
    assert.deepEqual(adopted.map((r) => r.ref.uid).sort(), orphaned);
    assert.deepEqual(await uids(), orphaned);
    const [first] = adopted;
    assert.ok(first);
    // Its death is seen although it is not our child.
    await bench.ask(first, "/exit?code=1");
    await until("the restart", () => bench.workload("web").replicas.find((r) => r.restarts === 1 && r.ready));
  });

test("what died while no Nightshift ran is started again", async () => {
  await using bench = new Bench();
  const stack = stackOf([{ name: "web", replicas: 2 }]);
  await bench.start(stack);
  const [first, other] = await bench.ready("web", 2);
  assert.ok(first && other);
  const pid = bench.pid(first);
  await bench.leave();
  process.kill(pid, "SIGKILL");
  await until("its end", () => processIdentity(pid) === undefined);
  await bench.start(stack);
  const now = await bench.ready("web", 2);
  assert.ok(now.some((r) => r.ref.uid === other.ref.uid));
  assert.ok(!now.some((r) => r.ref.uid === first.ref.uid));
});

test("a store that cannot be written to takes nothing down: readiness counts, and crashes are made up for later", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web", replicas: 2 }]));
  const [ill, dead] = await bench.ready("web", 2);
  const store = bench.store;
  assert.ok(ill && dead && store);
  const transaction = store.transaction.bind(store);
  store.transaction = () => {
    throw new NightshiftError("STORE_UNAVAILABLE", "the store cannot be used (database or disk is full)");
  };
  await bench.ask(ill, "/unhealthy");
  await bench.ask(dead, "/exit?code=1");
  await until("unready", () => bench.workload("web").replicas.some((r) => r.ref.uid === ill.ref.uid && !r.ready));
  await until("the end, said", () => bench.logged(`the end of ${dead.ref.name} cannot be stored`));
  assert.equal(findByEnvironment("NIGHTSHIFT_REPLICA_UID", dead.ref.uid).length, 0);
  assert.equal(bench.workload("web").replicas.length, 1, "nothing is started that could not be found again");
  const effect = { id: "scale", type: "Scale" as const, workload: bench.workload("web").ref, replicas: 5 };
  await assert.rejects(async () => bench.platform?.apply(effect, new AbortController().signal), { code: "STORE_UNAVAILABLE" });
  assert.equal(bench.workload("web").desired, 2, "an effect whose intent cannot be stored does not happen");
  store.transaction = transaction;
  await until("the restart", () => bench.workload("web").replicas.find((r) => r.restarts === 1 && r.ready));
  await until("what was not stored", () => {
    const row = store.database.prepare("SELECT json FROM host_instances WHERE uid = ?").get(ill.ref.uid);
    return !(JSON.parse(String(row?.["json"])) as { ready: boolean }).ready;
  });
});

test("a workload that is no longer in the stack is ended, and one whose command has changed is started anew", async () => {
  await using bench = new Bench();
  await bench.start(stackOf([{ name: "web" }, { name: "old" }]));
  const [old] = await bench.ready("old", 1);
  const [before] = await bench.ready("web", 1);
  assert.ok(old && before);
  await bench.leave();
  await bench.start(stackOf([{ name: "web", command: [...REPLICA, "other"] }]));
  const after = await until("the new one", () => bench.workload("web").replicas.find((r) => r.ready && r.ref.uid !== before.ref.uid));
  assert.ok(after);
  await until("the end of the old ones", () =>
    [old, before].every((replica) => findByEnvironment("NIGHTSHIFT_REPLICA_UID", replica.ref.uid).length === 0),
  );
});

test("one state directory has one Nightshift; a dead one's directory is free at once", async () => {
  await using bench = new Bench();
  const stack = stackOf([{ name: "web" }]);
  const { child } = await superviseElsewhere({ stack, stateDir: bench.stateDir });
  await assert.rejects(bench.start(stack), { code: "STATE_IN_USE", message: new RegExp(`pid ${child.pid}\\b`) });
  bench.store?.close();
  bench.platform = undefined;
  await killChild(child);
  await bench.start(stack);
  await bench.ready("web", 1);
});

test("a port that somebody else has fails the start, and leaves nothing behind", async () => {
  await using bench = new Bench();
  const { createServer } = await import("node:net");
  const squatter = createServer().listen(0, "127.0.0.1");
  await until("the squatter", () => squatter.listening);
  const { port } = squatter.address() as { port: number };
  try {
    await assert.rejects(bench.start(stackOf([{ name: "web", port }])), { code: "PORT_IN_USE" });
    assert.equal(existsSync(join(bench.stateDir, "router.sock")), false);
  } finally {
    squatter.close();
  }
});

test("children of a replica end with it", async () => {
  for (const cgroups of [{}, { cgroups: "none" as const }]) {
    await using bench = new Bench();
    const script = join(bench.stateDir, "parent.mjs");
    writeFileSync(
      script,
      `import { spawn } from "node:child_process";\nspawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).unref();\nsetTimeout(() => process.exit(1), 1000);`,
    );
    await bench.start(stackOf([{ name: "web", command: [process.execPath, script], readiness: undefined }]), cgroups);
    const { ref } = await until("a replica", () => bench.workload("web").replicas[0]);
    await until("its child", () => findByEnvironment("NIGHTSHIFT_REPLICA_UID", ref.uid).length === 2);
    await until("the restart", () => bench.workload("web").replicas.some((r) => r.restarts === 1));
    assert.deepEqual(findByEnvironment("NIGHTSHIFT_REPLICA_UID", ref.uid), []);
  }
});

test("a log does not grow without bound", async () => {
  await using bench = new Bench();
  const script = join(bench.stateDir, "loud.mjs");
  writeFileSync(script, `setInterval(() => console.log("x".repeat(1000)), 1);`);
  await bench.start(
    stackOf([{ name: "loud", command: [process.execPath, script], readiness: undefined }], { logs: { maxBytes: "100Ki" } }),
  );
  await until("the rotation", () => existsSync(join(bench.stateDir, "logs", "loud.log.1")));
  await until("output after the rotation", () => bench.output("loud").length > 0);
  assert.ok(!bench.output("loud").startsWith("\0"), "the file is cut, and written from its beginning again");
});
