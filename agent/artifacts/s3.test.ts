import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { systemClock } from "../../src/platform/host/clock.ts";
import { NO_S3, TestS3 } from "../fixtures/s3.ts";
import { prune } from "./prune.ts";
import { environmentCredentials, mountedCredentials, S3Store, type S3Credentials } from "./s3.ts";
import { artifactName, type CapturedFile } from "./store.ts";
import { temporary } from "../fixtures/temporary.ts";

const within = (ms: number): AbortSignal => AbortSignal.timeout(ms);

describe("artifacts in an S3-compatible store", { skip: NO_S3 }, () => {
  let s3: TestS3;
  let dir = "";

  before(async () => {
    s3 = await TestS3.start();
  });
  after(() => s3[Symbol.asyncDispose]());
  beforeEach(() => {
    s3.fault = undefined;
    s3.requests.length = 0;
    dir = temporary();
  });

  function open(options: { node: string; credentials?: () => S3Credentials }): S3Store {
    return new S3Store({
      endpoint: s3.endpoint,
      bucket: s3.bucket,
      credentials: () => s3.credentials,
      spoolDir: dir,
      clock: systemClock,
      // The smallest that S3 takes.
      partBytes: 5 * 2 ** 20,
      ...options,
    });
  }

  function captured(bytes: number, effectId = randomBytes(4).toString("hex")): CapturedFile {
    const data = randomBytes(bytes);
    const path = join(dir, artifactName(effectId, "web-1", "HeapSnapshot"));
    writeFileSync(path, data);
    return { path, bytes, sha256: createHash("sha256").update(data).digest("hex") };
  }

  it("are uploaded in one piece or in parts, read back, and removed from the node", async () => {
    const store = open({ node: "n1" });
    for (const bytes of [1_000, 5 * 2 ** 20, 12 * 2 ** 20 + 1]) {
      const file = captured(bytes);
      const path = await store.keep(file, within(60_000));
      assert.match(path, /^s3:\/\/evidence\/nightshift\/n1\/web-1-[0-9a-f]{16}\.heapsnapshot$/);
      assert.ok(!existsSync(file.path));
      assert.ok(s3.keys().includes(path.slice("s3://evidence/".length)));
    }
    assert.ok(s3.requests.some((line) => line.includes("partNumber=3")));
    assert.ok(!s3.requests.some((line) => line.includes("partNumber=4")));
    const kept = await store.list(within(10_000));
    assert.deepEqual(
      kept.map(({ bytes }) => bytes).sort((a, b) => a - b),
      [1_000, 5 * 2 ** 20, 12 * 2 ** 20 + 1],
    );
    assert.ok(kept.every(({ at }) => Math.abs(at - Date.now()) < 600_000));
  });

  it("are there once, however often they are kept, also when the file has been removed already", async () => {
    const store = open({ node: "n2" });
    const file = captured(1_000);
    const path = await store.keep(file, within(60_000));
    const puts = (): number => s3.requests.filter((line) => line.startsWith("PUT")).length;
    assert.equal(puts(), 1);
    assert.equal(await store.keep(file, within(60_000)), path);
    assert.equal(puts(), 1);
    await store.delete(path, within(10_000));
    await assert.rejects(store.keep(file, within(60_000)), { code: "ARTIFACT_STORE_FAILED", message: /ENOENT/ });
  });

  it("are tried again while the store fails, from the part that failed, and given up with nothing left behind", async () => {
    const store = open({ node: "n3" });
    let failures = 0;
    s3.fault = (line) => (line.includes("partNumber=2") && (failures += 1) <= 2 ? { refuse: 503 } : undefined);
    await store.keep(captured(12 * 2 ** 20), within(60_000));
    assert.equal(s3.requests.filter((line) => line.includes("partNumber=1")).length, 1);
    s3.fault = (line) => (line.includes("partNumber=2") ? { refuse: 503 } : undefined);
    await assert.rejects(store.keep(captured(12 * 2 ** 20), within(4_000)), { code: "ARTIFACT_STORE_FAILED", message: /503/ });
    assert.deepEqual(s3.openUploads(), []);
    s3.fault = () => "hang";
    await assert.rejects(store.keep(captured(1_000), within(1_000)), { code: "ARTIFACT_STORE_FAILED" });
  });

  it("do not count as kept when they come back as something else", async () => {
    const store = open({ node: "n4" });
    let reads = 0;
    const file = captured(1_000);
    s3.fault = (line) => (line.startsWith("GET") && (reads += 1) <= 3 ? "corrupt" : undefined);
    await store.keep(file, within(60_000));
    assert.equal(s3.requests.filter((line) => line.startsWith("PUT")).length, 2, "it was uploaded again");
    s3.fault = (line) => (line.startsWith("GET") ? "corrupt" : undefined);
    await assert.rejects(store.keep(captured(1_000), within(3_000)), { code: "ARTIFACT_STORE_FAILED", message: /read back/ });
  });

  it("are refused at once with the wrong secret, and by a bucket that is not there", async () => {
    const wrong = open({ node: "n5", credentials: () => ({ ...s3.credentials, secretAccessKey: "wrong" }) });
    await assert.rejects(wrong.keep(captured(1_000), within(60_000)), { code: "ARTIFACT_STORE_FAILED", message: /403/ });
    await assert.rejects(wrong.list(within(10_000)), { code: "ARTIFACT_STORE_FAILED", message: /403|Signature/ });
    const none = new S3Store({
      endpoint: s3.endpoint,
      bucket: "no-such-bucket",
      credentials: () => s3.credentials,
      spoolDir: dir,
      node: "n5",
      clock: systemClock,
    });
    await assert.rejects(none.keep(captured(1_000), within(60_000)), { code: "ARTIFACT_STORE_FAILED" });
  });

  it("are deleted when they expire, each node its own, and nothing that is no artifact", async () => {
    const [store, other] = [open({ node: "n6" }), open({ node: "n60" })];
    const [old, young, foreign] = [captured(10), captured(10), captured(10)];
    const paths = [await store.keep(old, within(10_000)), await store.keep(young, within(10_000))];
    const theirs = await other.keep(foreign, within(10_000));
    const note = join(dir, "notes.txt");
    writeFileSync(note, "0123456789");
    const noted = await store.keep(
      { path: note, bytes: 10, sha256: createHash("sha256").update("0123456789").digest("hex") },
      within(10_000),
    );
    const deleted: string[] = [];
    const left = await prune(
      store,
      { ttlMs: 3_600_000, maxBytes: 1e9, maxCount: 50 },
      Date.now(),
      (path) => (path === paths[0] ? 0 : undefined),
      ({ path }, why) => deleted.push(`${why} ${path}`),
      within(10_000),
    );
    assert.deepEqual(deleted, [`Expired ${paths[0]}`]);
    assert.deepEqual(
      left.map(({ path }) => path),
      [paths[1]],
    );
    const keys = new Set(s3.keys().map((key) => `s3://evidence/${key}`));
    assert.ok(!keys.has(paths[0] ?? ""));
    for (const path of [paths[1] ?? "", theirs, noted]) assert.ok(keys.has(path), path);
  });
});

describe("credentials", () => {
  it("come from mounted files, read each time, or from the environment", () => {
    const dir = temporary();
    assert.throws(() => mountedCredentials(dir), { code: "S3_CREDENTIALS", message: /access-key-id/ });
    writeFileSync(join(dir, "access-key-id"), "id\n");
    writeFileSync(join(dir, "secret-access-key"), "one\n");
    assert.deepEqual(mountedCredentials(dir), { accessKeyId: "id", secretAccessKey: "one" });
    writeFileSync(join(dir, "secret-access-key"), "two");
    assert.equal(mountedCredentials(dir).secretAccessKey, "two");
    assert.deepEqual(environmentCredentials({ AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" }), {
      accessKeyId: "a",
      secretAccessKey: "b",
    });
    assert.throws(() => environmentCredentials({ AWS_ACCESS_KEY_ID: "a" }), { code: "S3_CREDENTIALS" });
  });
});
