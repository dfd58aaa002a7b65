import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Effect, Replica } from "../../ports/platform.ts";
import { MemoryCgroups } from "./cgroup.ts";
import { Bench, stackOf, until } from "./fixtures/harness.ts";
import { findByEnvironment } from "../linux/proc.ts";

const never = new AbortController().signal;
const tree = MemoryCgroups.open("probe");
tree?.close();
const NO_CGROUP = tree === undefined ? "no memory cgroup can be made here (needs root)" : false;
const NOT_ROOT = process.getuid?.() === 0 ? false : "only root can mount a small file system";

function heap(id: string, replica: Replica, raiseLimit = true): Effect {
  return { id, type: "Capture", replica: replica.ref, capture: { type: "HeapSnapshot", required: true, raiseLimit } };
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** The replica as it is now. */
async function one(bench: Bench): Promise<Replica> {
  const [replica] = await bench.ready("web", 1);
  assert.ok(replica);
  return replica;
}

test("a heap snapshot is whole, has what leaked, and the replica goes on with its inspector closed", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const replica = await one(bench);
  await bench.ask(replica, "/leak?objects=20000");
  assert.deepEqual(await platform.observe(heap("c1", replica)), { state: "NotApplied" });
  const { artifact } = await platform.apply(heap("c1", replica), never);
  assert.ok(artifact);
  assert.match(artifact.path, /\.heapsnapshot$/);
  const snapshot = JSON.parse(readFileSync(artifact.path, "utf8")) as {
    snapshot: { meta: { node_fields: string[] }; node_count: number };
    nodes: number[];
    strings: string[];
  };
  assert.ok(snapshot.snapshot.node_count > 20_000);
  assert.equal(snapshot.nodes.length, snapshot.snapshot.node_count * snapshot.snapshot.meta.node_fields.length);
  assert.ok(snapshot.strings.includes("leaked"));
  assert.equal(artifact.bytes, readFileSync(artifact.path).length);
  assert.equal(artifact.sha256, sha256(artifact.path));
  assert.deepEqual(
    await platform.apply(heap("c1", replica), never),
    ((await platform.observe(heap("c1", replica))) as { result: unknown }).result,
  );
  assert.equal(await bench.ask(replica, "/"), replica.ref.uid);
  const row = bench.store?.database.prepare("SELECT json FROM host_instances WHERE uid = ?").get(replica.ref.uid);
  const { inspectPort } = JSON.parse(String(row?.["json"])) as { inspectPort: number };
  await until("the inspector to close", () =>
    fetch(`http://127.0.0.1:${inspectPort}/json/list`).then(
      () => false,
      () => true,
    ),
  );
  // And it can be opened again.
  const second = await platform.apply(heap("c2", replica), never);
  assert.notEqual(second.artifact?.path, artifact.path);
});

test("a CPU profile has samples", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const replica = await one(bench);
  const { artifact } = await platform.apply(
    { id: "c1", type: "Capture", replica: replica.ref, capture: { type: "CpuProfile", required: true, raiseLimit: true } },
    never,
  );
  assert.ok(artifact);
  assert.match(artifact.path, /\.cpuprofile$/);
  const profile = JSON.parse(readFileSync(artifact.path, "utf8")) as { nodes: unknown[]; samples: unknown[] };
  assert.ok(profile.nodes.length > 0 && profile.samples.length > 0);
});

test("what is not Node.js cannot be captured, and is left as it is", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", command: ["sleep", "1000"], readiness: undefined }]));
  const replica = await one(bench);
  await assert.rejects(platform.apply(heap("c1", replica), never), { code: "CAPTURE_UNSUPPORTED" });
  assert.equal((await one(bench)).ref.uid, replica.ref.uid);
});

test("a program that took SIGUSR1 for itself cannot be captured, and one without a handler is not killed by it", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", env: { NODE_OPTIONS: "--disable-sigusr1" } }]));
  const replica = await one(bench);
  await assert.rejects(platform.apply(heap("c1", replica), never), { code: "CAPTURE_UNSUPPORTED" });
  assert.equal((await one(bench)).ref.uid, replica.ref.uid);
});

test("a process that hangs in native code leads to an error in time, and can still be stopped", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const replica = await one(bench);
  await bench.ask(replica, "/hang");
  await until("unready", () => bench.workload("web").replicas.some((r) => r.unreadySince !== undefined));
  await assert.rejects(platform.apply(heap("c1", replica), AbortSignal.timeout(3_000)), { code: "CAPTURE_TIMEOUT" });
  assert.deepEqual(readdirSync(join(bench.stateDir, "artifacts")), []);
  await platform.apply({ id: "e1", type: "Stop", replica: replica.ref, gracePeriodMs: 200 }, never);
  assert.deepEqual(findByEnvironment("NIGHTSHIFT_REPLICA_UID", replica.ref.uid), []);
});

test("a limit without room is raised for the capture, and comes back with the traffic", { skip: NO_CGROUP }, async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", memory: { limit: "100Mi" } }]));
  const replica = await one(bench);
  await bench.ask(replica, "/leak?objects=100000");
  const limit = (): number | undefined => bench.workload("web").replicas[0]?.memory?.limitBytes;
  await until("the limit", () => limit() === 100 * 2 ** 20);
  await assert.rejects(platform.apply(heap("c1", replica, false), never), { code: "CAPTURE_NO_HEADROOM" });
  assert.equal(limit(), 100 * 2 ** 20);
  const { artifact } = await platform.apply(heap("c2", replica), never);
  assert.ok(artifact);
  await until("the raised limit", () => (limit() ?? 0) > 100 * 2 ** 20);
  await platform.apply({ id: "e1", type: "RestoreTraffic", replica: replica.ref }, never);
  await until("the old limit, or a word why not", () => limit() === 100 * 2 ** 20 || bench.logged("stays raised"));
});

test("without room on the disk nothing is begun", { skip: NOT_ROOT }, async () => {
  await using bench = new Bench();
  const dir = join(bench.stateDir, "artifacts");
  mkdirSync(dir);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir]);
  try {
    const platform = await bench.start(stackOf([{ name: "web" }]));
    const replica = await one(bench);
    await assert.rejects(platform.apply(heap("c1", replica), never), { code: "CAPTURE_NO_SPACE" });
    assert.deepEqual(readdirSync(dir), []);
  } finally {
    execFileSync("umount", [dir]);
  }
});

test("a disk that fills up during the capture ends it, and nothing of the file is left", { skip: NOT_ROOT }, async () => {
  await using bench = new Bench();
  const dir = join(bench.stateDir, "artifacts");
  mkdirSync(dir);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=300m", "tmpfs", dir]);
  try {
    const platform = await bench.start(stackOf([{ name: "web" }]));
    const replica = await one(bench);
    await bench.ask(replica, "/leak?objects=300000");
    const capture = platform.apply(heap("c1", replica), never);
    const refused = assert.rejects(capture, { code: "CAPTURE_NO_SPACE", message: /before the capture was whole/ });
    // Somebody else takes the rest once the capture has begun.
    await until("the beginning of the file", () => readdirSync(dir).some((file) => file.endsWith(".partial")));
    const chunk = Buffer.alloc(1 << 20);
    try {
      for (;;) writeFileSync(join(dir, "hog"), chunk, { flag: "a" });
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
    }
    await refused;
    assert.deepEqual(readdirSync(dir), ["hog"]);
    assert.equal(await bench.ask(replica, "/"), replica.ref.uid, "the process goes on");
    assert.deepEqual(await platform.observe(heap("c1", replica)), { state: "NotApplied" });
  } finally {
    execFileSync("umount", [dir]);
  }
});

test("a capture that a crash cut off: what is whole is kept, what is not is removed", async () => {
  await using bench = new Bench();
  const stack = stackOf([{ name: "web" }]);
  let platform = await bench.start(stack);
  const replica = await one(bench);
  const { artifact } = await platform.apply(heap("c1", replica), never);
  assert.ok(artifact);
  // As if Nightshift had died between the digest and the final name.
  bench.store?.database.exec("DELETE FROM host_effects");
  renameSync(artifact.path, `${artifact.path}.partial`);
  await bench.leave();
  platform = await bench.start(stack);
  const seen = await platform.observe(heap("c1", replica));
  assert.equal(seen.state, "Applied");
  assert.equal(sha256(artifact.path), artifact.sha256);
  // As if it had died earlier, with half of the file.
  bench.store?.database.exec("DELETE FROM host_effects; DELETE FROM host_artifacts");
  writeFileSync(`${artifact.path}.partial`, "half");
  assert.deepEqual(await platform.observe(heap("c1", replica)), { state: "NotApplied" });
  assert.deepEqual(readdirSync(join(bench.stateDir, "artifacts")), []);
});

test("old captures make room, the newest always stays", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }], { artifacts: { maxBytes: "1" } }));
  const replica = await one(bench);
  const first = await platform.apply(heap("c1", replica), never);
  assert.deepEqual(readdirSync(join(bench.stateDir, "artifacts")).length, 1, "the newest stays, also when it is too large alone");
  const second = await platform.apply(heap("c2", replica), never);
  assert.deepEqual(
    readdirSync(join(bench.stateDir, "artifacts")).map((file) => join(bench.stateDir, "artifacts", file)),
    [second.artifact?.path],
  );
  assert.notEqual(first.artifact?.path, second.artifact?.path);
});
