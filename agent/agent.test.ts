import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { tagOf } from "../src/platform/capture/artifact-file.ts";
import { until } from "../test/support/until.ts";
import { readJson, writeJson } from "./captures/durable.ts";
import type { JournalEntry } from "./captures/journal.ts";
import { Bench, NODE, NO_PODS, type TestPod } from "./fixtures/bench.ts";
import { NO_S3, TestS3 } from "./fixtures/s3.ts";
import { listeningPorts } from "./process/ports.ts";

/** Enough that its snapshot takes seconds. */
const LARGE = { env: { LEAK_OBJECTS: "400000" } };

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

/** A heap snapshot, as far as it is looked at here. */
interface Snapshot {
  readonly snapshot: { readonly meta: { readonly node_fields: readonly string[] }; readonly node_count: number };
  readonly nodes: readonly number[];
  readonly strings: readonly string[];
}

function journal(bench: Bench, effectId: string): JournalEntry | undefined {
  return readJson(journalPath(bench, effectId)) as JournalEntry | undefined;
}

function journalPath(bench: Bench, effectId: string): string {
  return join(bench.stateDir, "captures", `${tagOf(effectId)}.json`);
}

const hasInspector = (pod: TestPod): boolean => listeningPorts(pod.pid()).some((port) => port !== 8080);

describe("a capture of a pod, in namespaces and cgroups of its own", { skip: NO_PODS }, () => {
  it("is a whole heap snapshot with what leaked; limits that were raised come back, and the inspector closes", async () => {
    await using bench = await Bench.start();
    const limit = 200 * 2 ** 20;
    const pod = await bench.pod("web-1", { limit, env: { LEAK_OBJECTS: "20000" } });
    assert.match(pod.output(), /ready [1-9]\d?\n/, "it has a number of its own in its PID namespace");
    await bench.agent();
    const { name, effectId } = bench.ask(pod);
    const answer = await bench.answer(name);
    assert.equal(answer.state, "Done", answer.message);
    assert.equal(answer.effectId, effectId);
    assert.equal(answer.node, NODE);
    assert.equal(answer.progress, undefined);
    const { artifact } = answer;
    assert.ok(artifact);
    assert.match(artifact.path, /web-1-[0-9a-f]{16}\.heapsnapshot$/);
    assert.deepEqual(bench.files(), [artifact.path]);
    assert.equal(artifact.bytes, readFileSync(artifact.path).length);
    assert.equal(artifact.sha256, sha256(artifact.path));
    assert.equal(artifact.node, NODE);
    assert.equal(artifact.replica.uid, pod.uid);
    assert.equal(Date.parse(artifact.expiresAt ?? "") - Date.parse(artifact.capturedAt), 7 * 24 * 3_600_000);
    const snapshot = JSON.parse(readFileSync(artifact.path, "utf8")) as Snapshot;
    assert.equal(snapshot.nodes.length, snapshot.snapshot.node_count * snapshot.snapshot.meta.node_fields.length);
    assert.ok(snapshot.snapshot.node_count > 20_000);
    assert.ok(snapshot.strings.includes("leaked"));
    assert.doesNotMatch(pod.output(), /asked/, "the program's own port was left alone");
    assert.match(bench.log, /raised a memory limit/);
    await until(() => assert.deepEqual([pod.cgroup.limit(), pod.podCgroup.limit()], [limit, limit + 2 ** 20]));
    assert.ok(!hasInspector(pod));
    const metrics = await (await fetch(`${bench.url}/metrics`)).text();
    assert.match(metrics, /nightshift_agent_captures_total\{type="HeapSnapshot",result="Done"\} 1/);
    assert.match(metrics, /nightshift_agent_raised_limits 0/);
    assert.equal((await fetch(`${bench.url}/readyz`)).status, 200);
  });

  it("is a CPU profile where that is asked for, also below the directories that systemd names", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1", { systemd: true });
    await bench.agent();
    const answer = await bench.answer(bench.ask(pod, { type: "CpuProfile", container: "app" }).name);
    assert.equal(answer.state, "Done", answer.message);
    assert.match(answer.artifact?.path ?? "", /\.cpuprofile$/);
    const profile = JSON.parse(readFileSync(answer.artifact?.path ?? "", "utf8")) as { nodes: unknown[]; samples: unknown[] };
    assert.ok(profile.nodes.length > 0 && profile.samples.length > 0);
  });

  it("has samples of allocations in the place of a snapshot without headroom that may be missing", async () => {
    await using bench = await Bench.start();
    const limit = 150 * 2 ** 20;
    const pod = await bench.pod("web-1", { limit });
    await bench.agent();
    const answer = await bench.answer(bench.ask(pod, { raiseLimit: false, required: false }).name);
    assert.equal(answer.state, "Done", answer.message);
    assert.equal(answer.artifact?.type, "HeapProfile");
    assert.match(answer.message ?? "", /in the place of a heap snapshot: the capture may need \d+ MiB/);
    const profile = JSON.parse(readFileSync(answer.artifact?.path ?? "", "utf8")) as { head: { children: unknown[] }; samples: unknown[] };
    assert.ok(profile.head.children.length > 0 && profile.samples.length > 0);
    assert.equal(pod.cgroup.limit(), limit);
  });

  it("fails for want of headroom where it is required and no limit may be raised", async () => {
    await using bench = await Bench.start();
    const limit = 150 * 2 ** 20;
    const pod = await bench.pod("web-1", { limit });
    await bench.agent();
    const answer = await bench.answer(bench.ask(pod, { raiseLimit: false }).name);
    assert.equal(answer.state, "Failed");
    assert.match(answer.message ?? "", /CAPTURE_NO_HEADROOM.*raiseLimit: true/);
    assert.ok(answer.endedAt !== undefined);
    assert.equal(pod.cgroup.limit(), limit);
    assert.deepEqual(bench.files(), []);
    assert.ok(!hasInspector(pod));
  });

  it("fails, and leaves the pod as it is, where there is no Node.js or no such container", async () => {
    await using bench = await Bench.start();
    const other = await bench.pod("sleeper", { command: ["sh", "-c", "echo ready; exec sleep 1000"] });
    const web = await bench.pod("web-1");
    await bench.agent();
    assert.match((await bench.answer(bench.ask(other).name)).message ?? "", /no Node\.js process runs in the pod.*CAPTURE_UNSUPPORTED/);
    const missing = await bench.answer(bench.ask(web, { container: "sidecar" }).name);
    assert.match(missing.message ?? "", /no running container sidecar.*It has: app/);
    assert.ok(other.pid() > 0 && web.pid() > 0);
  });

  it("does not touch a process whose inspector's port another of its pod has", async () => {
    await using bench = await Bench.start();
    const app = join(import.meta.dirname, "fixtures/app.ts");
    const script = `NODE_OPTIONS=--inspect=127.0.0.1:9229 "${process.execPath}" -e 'setInterval(() => {}, 1000)' & exec "${process.execPath}" "${app}"`;
    const pod = await bench.pod("web-1", { command: ["sh", "-c", script], env: { LEAK_OBJECTS: "100000" } });
    await bench.agent();
    const answer = await bench.answer(bench.ask(pod).name);
    assert.match(answer.message ?? "", /port 9229.*is taken by another of its pod.*CAPTURE_UNSUPPORTED/);
  });

  it("is not made of a pod that is another node's, nor of one whose name has passed to another", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    await bench.agent();
    const elsewhere = bench.ask({ name: "web-9", uid: "7a9e0c52-5c8e-4b53-9d55-2b4f0f1f7a11" });
    bench.replace(pod.name);
    const late = await bench.answer(bench.ask(pod).name);
    assert.match(late.message ?? "", /the pod web-1 is gone.*NOT_FOUND/);
    assert.deepEqual(bench.answers(elsewhere.name), [], "whoever has the pod answers");
  });

  it("ends early when its step is over, and says so", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1", LARGE);
    await bench.agent();
    const { name } = bench.ask(pod);
    await until(() => assert.ok(bench.files().some((file) => file.endsWith(".partial"))));
    bench.giveUp(name);
    const answer = await bench.answer(name);
    assert.match(answer.message ?? "", /the step was over before the capture was.*CAPTURE_INTERRUPTED/);
    assert.deepEqual(bench.files(), []);
  });

  it("ends when the step's time is up", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    await bench.agent();
    const answer = await bench.answer(bench.ask(pod, { type: "CpuProfile" }, { timeoutMs: 3_000 }).name);
    assert.match(answer.message ?? "", /not done in the 3 s that the step has.*CAPTURE_TIMEOUT/);
    assert.deepEqual(bench.files(), []);
    await until(() => assert.ok(!hasInspector(pod)));
  });
});

describe("the disk", { skip: NO_PODS }, () => {
  it("is looked at before anything is touched, and one that fills up leaves nothing", async () => {
    await using bench = await Bench.start();
    const dir = bench.artifactsDir;
    mkdirSync(dir);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=300m", "tmpfs", dir]);
    try {
      const pod = await bench.pod("web-1", LARGE);
      await bench.agent();
      const full = bench.ask(pod);
      await until(() => assert.ok(bench.files().some((file) => file.endsWith(".partial"))));
      try {
        for (;;) writeFileSync(join(dir, "hog"), Buffer.alloc(1 << 20), { flag: "a" });
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
      assert.match((await bench.answer(full.name)).message ?? "", /the disk was full before the capture was whole.*CAPTURE_NO_SPACE/);
      assert.deepEqual(bench.files(), []);
      assert.match((await bench.answer(bench.ask(pod).name)).message ?? "", /are free.*CAPTURE_NO_SPACE/);
      assert.ok(pod.pid() > 0);
      await bench.end("SIGTERM");
    } finally {
      await bench.end("SIGKILL");
      execFileSync("umount", [dir]);
    }
  });
});

describe("an agent that dies", { skip: NO_PODS }, () => {
  it("before its claim is answered: the next one captures, once", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    let claims = 0;
    bench.api.fault = (request) => (request.verb === "patch" && (claims += 1) === 1 ? "hang" : undefined);
    await bench.agent();
    const { name, effectId } = bench.ask(pod);
    await until(() => assert.equal(claims, 1));
    assert.equal(await bench.end("SIGKILL"), "SIGKILL");
    assert.equal(journal(bench, effectId)?.state, "Claimed");
    assert.deepEqual(bench.answers(name), []);
    await bench.agent();
    assert.equal((await bench.answer(name)).state, "Done");
    assert.equal(bench.files().length, 1);
  });

  it("between its claim and the capture: the next one goes on", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    // The claim is stored, and the question for the pod never answered.
    let asked = 0;
    bench.api.fault = (request) => (request.plural === "pods" && (asked += 1) === 1 ? "hang" : undefined);
    await bench.agent();
    const { name } = bench.ask(pod);
    await until(() => assert.equal(asked, 1));
    const [claimed] = bench.answers(name);
    assert.equal(claimed?.state, "Running");
    await bench.end("SIGKILL");
    await bench.agent();
    const answer = await bench.answer(name);
    assert.equal(answer.state, "Done", answer.message);
    assert.equal(answer.startedAt, claimed?.startedAt);
  });

  it("during the capture: it is not done again; limits, inspector and files are as before", async () => {
    await using bench = await Bench.start();
    const limit = 900 * 2 ** 20;
    const pod = await bench.pod("web-1", { ...LARGE, limit });
    await bench.agent();
    const { name, effectId } = bench.ask(pod);
    await until(() => assert.ok(bench.files().some((file) => file.endsWith(".partial"))));
    await until(() => assert.ok(hasInspector(pod)));
    await bench.end("SIGKILL");
    assert.equal(journal(bench, effectId)?.state, "Begun");
    assert.notEqual(pod.cgroup.limit(), limit);
    await bench.agent();
    const answer = await bench.answer(name);
    assert.equal(answer.state, "Failed");
    assert.match(answer.message ?? "", /the agent on the node ended during the capture.*CAPTURE_INTERRUPTED/);
    await until(() => assert.deepEqual([bench.files(), journal(bench, effectId)], [[], undefined]));
    await until(() => assert.ok(!hasInspector(pod)), 60_000);
    await until(() => assert.equal(pod.cgroup.limit(), limit), 60_000);
  });

  it("once the file is whole: the next one keeps it, under either name", async () => {
    for (const isPartial of [false, true]) {
      await using bench = await Bench.start();
      const pod = await bench.pod("web-1");
      // The last answer is never let through to the first agent.
      bench.api.fault = (request) => (request.verb === "patch" && JSON.stringify(request.body).includes('"Done"') ? "hang" : undefined);
      await bench.agent();
      const { name, effectId } = bench.ask(pod);
      await until(() => assert.equal(journal(bench, effectId)?.state, "Kept"));
      await bench.end("SIGKILL");
      bench.api.fault = undefined;
      const [file = ""] = bench.files();
      const entry = journal(bench, effectId);
      assert.ok(entry?.state === "Kept");
      const digest = sha256(file);
      if (isPartial) {
        // As if it had died between the digest and the final name.
        renameSync(file, `${file}.partial`);
        writeJson(journalPath(bench, effectId), { ...entry, state: "Captured", file, message: "captured" });
      }
      await bench.agent();
      const answer = await bench.answer(name);
      assert.equal(answer.state, "Done", answer.message);
      assert.equal(answer.artifact?.sha256, digest);
      assert.deepEqual(bench.files(), [file]);
      assert.equal(sha256(file), digest);
      assert.ok(!hasInspector(pod));
    }
  });

  it("and whose memory of it is lost: what it had taken up is not done again", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    let asked = 0;
    bench.api.fault = (request) => (request.plural === "pods" && (asked += 1) === 1 ? "hang" : undefined);
    await bench.agent();
    const { name } = bench.ask(pod);
    await until(() => assert.equal(asked, 1));
    await bench.end("SIGKILL");
    rmSync(bench.stateDir, { recursive: true });
    await bench.agent();
    assert.match((await bench.answer(name)).message ?? "", /CAPTURE_INTERRUPTED/);
    assert.deepEqual(bench.files(), []);
  });

  it("while the episode goes on without it: its claim does not stay open", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1", LARGE);
    await bench.agent();
    const { name } = bench.ask(pod);
    await until(() => assert.ok(bench.files().some((file) => file.endsWith(".partial"))));
    await bench.end("SIGKILL");
    bench.giveUp(name);
    await bench.agent();
    assert.equal((await bench.answer(name)).state, "Failed");
    await until(() => assert.deepEqual([...bench.files(), ...readdirSync(join(bench.stateDir, "captures"))], []));
  });
});

describe("an agent", { skip: NO_PODS }, () => {
  it("that is told to stop finishes the capture that runs", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1", { env: { LEAK_OBJECTS: "150000" } });
    await bench.agent();
    const { name } = bench.ask(pod);
    await until(() => assert.ok(bench.files().some((file) => file.endsWith(".partial"))));
    assert.equal(await bench.end("SIGTERM"), 0);
    assert.equal((await bench.answer(name)).state, "Done");
    assert.match(bench.log, /stopped/);
  });

  it("answers once, whatever is delivered twice, and again after a restart", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    await bench.agent();
    const { name } = bench.ask(pod, { type: "CpuProfile" });
    await until(() => assert.equal(bench.answers(name)[0]?.state, "Running"));
    for (const watch of bench.api.watches) watch.reset();
    bench.api.compact();
    const answer = await bench.answer(name);
    const at = bench.api.storage.version;
    await bench.end("SIGTERM");
    await bench.agent();
    await until(async () => assert.equal((await fetch(`${bench.url}/readyz`)).status, 200));
    assert.deepEqual(bench.answers(name), [answer]);
    assert.equal(bench.api.storage.version, at, "nothing was written again");
  });

  it("tells what it has done once an API server that was away is back", async () => {
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1");
    await bench.agent();
    const { name, effectId } = bench.ask(pod, { type: "CpuProfile" });
    await until(() => assert.equal(journal(bench, effectId)?.state, "Begun"));
    await bench.api.down();
    await until(() => assert.equal(journal(bench, effectId)?.state, "Kept"));
    await bench.api.up();
    assert.equal((await bench.answer(name)).state, "Done");
  });

  it("is alone on its state directory", async () => {
    await using bench = await Bench.start();
    await bench.agent();
    await assert.rejects(bench.agent(), /STATE_IN_USE/);
  });
});

describe("an agent that keeps artifacts in an S3-compatible store", { skip: NO_PODS || NO_S3 }, () => {
  it("uploads, and goes on with it after it was killed in the middle", async () => {
    await using s3 = await TestS3.start();
    await using bench = await Bench.start();
    const pod = await bench.pod("web-1", LARGE);
    const args = ["--s3-endpoint", s3.endpoint, "--s3-bucket", s3.bucket];
    const env = { AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey };
    let isHeld = false;
    s3.fault = (line) => {
      if (!line.includes("partNumber=2")) return undefined;
      isHeld = true;
      return "hang";
    };
    await bench.agent(args, env);
    const { name, effectId } = bench.ask(pod);
    await until(() => assert.ok(isHeld), 60_000);
    assert.equal(journal(bench, effectId)?.state, "Captured");
    await bench.end("SIGKILL");
    s3.fault = undefined;
    await bench.agent(args, env);
    const answer = await bench.answer(name);
    assert.equal(answer.state, "Done", answer.message);
    const [key] = s3.keys();
    assert.equal(answer.artifact?.path, `s3://${s3.bucket}/${key}`);
    assert.equal(s3.keys().length, 1);
    assert.deepEqual(readdirSync(join(bench.stateDir, "spool")), []);
    // The same, as anybody who has the credentials gets it.
    const { S3mini } = await import("s3mini");
    const object = await new S3mini({
      ...s3.credentials,
      endpoint: `${s3.endpoint}/${s3.bucket}`,
      region: "us-east-1",
    }).getObjectArrayBuffer(key ?? "");
    const data = Buffer.from(object ?? new ArrayBuffer(0));
    assert.equal(data.length, answer.artifact?.bytes);
    assert.equal(createHash("sha256").update(data).digest("hex"), answer.artifact?.sha256);
    assert.ok((JSON.parse(data.toString("utf8")) as Snapshot).strings.includes("leaked"));
  });

  it("does not start without credentials, nor with two places to keep them", async () => {
    await using bench = await Bench.start();
    const args = ["--s3-endpoint", "http://127.0.0.1:1", "--s3-bucket", "b"];
    await assert.rejects(bench.agent(args, { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" }), /S3_CREDENTIALS/);
    await assert.rejects(bench.agent([...args, "--artifacts-dir", bench.artifactsDir]), /USAGE/);
  });
});
