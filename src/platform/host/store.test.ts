import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { it, type TestContext } from "node:test";
import { approvalObject } from "../../../test/support/objects.ts";
import { storeConformance, watcher, withCode } from "../../../test/support/store-conformance.ts";
import { SqliteStore } from "./store.ts";

function tempFile(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-store-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "nightshift.db");
}

function open(t: TestContext, path: string): SqliteStore {
  const store = SqliteStore.open(path);
  t.after(() => store.close());
  return store;
}

/** The address of a module, as a literal. */
const url = (relative: string): string => JSON.stringify(new URL(relative, import.meta.url).href);

/** Another process with a store on the same file, which runs `body` and prints lines. */
function inOtherProcess(t: TestContext, path: string, body: string): { child: ChildProcess; lines: AsyncIterableIterator<string> } {
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { SqliteStore } from ${url("./store.ts")};
       import { approvalObject } from ${url("../../../test/support/objects.ts")};
       import { writeSync } from "node:fs";
       const say = (text) => writeSync(1, text + "\\n");
       const store = SqliteStore.open(${JSON.stringify(path)});
       ${body}`,
    ],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  t.after(() => child.kill("SIGKILL"));
  return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
}

storeConformance("SqliteStore", (t) => open(t, tempFile(t)));

it("a store that is opened again has everything, and its versions go on", async (t) => {
  const path = tempFile(t);
  const first = SqliteStore.open(path);
  const a = await first.create(approvalObject("a"));
  const b = await first.create(approvalObject("b"));
  await first.delete("RemediationApproval", "default", "b");
  first.close();
  const second = open(t, path);
  assert.deepEqual(await second.list("RemediationApproval"), [a]);
  const c = await second.create(approvalObject("c"));
  assert.ok(Number(c.metadata.resourceVersion) > Number(b.metadata.resourceVersion) + 1, "a deleted version is not given again");
});

it("writes of one turn are one transaction, also when some of them are refused", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  const other = new DatabaseSync(path);
  t.after(() => other.close());
  const commits = (): number => (other.prepare("PRAGMA data_version").get() as { data_version: number }).data_version;
  const before = commits();
  const results = await Promise.allSettled([
    ...Array.from({ length: 50 }, (_, i) => store.create(approvalObject(`n-${i}`))),
    store.create(approvalObject("n-0")),
  ]);
  assert.equal(commits() - before, 1);
  assert.equal(results.filter((r) => r.status === "fulfilled").length, 50);
  assert.equal((await store.list("RemediationApproval")).length, 50);
});

it("what another process writes is read at once, watched soon, and conflicts with what was read before", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  const a = await store.create(approvalObject("a"));
  await store.create(approvalObject("b"));
  const { read, next } = watcher(t, store, "RemediationApproval");
  assert.deepEqual(await read(3), ["Added a", "Added b", "Synced"]);
  const { lines } = inOtherProcess(
    t,
    path,
    `const a = await store.get("RemediationApproval", "default", "a");
     await store.update({ ...a, spec: { ...a.spec, by: "bob" } });
     await store.delete("RemediationApproval", "default", "b");
     await store.create(approvalObject("b"));
     await store.create(approvalObject("short-lived"));
     await store.delete("RemediationApproval", "default", "short-lived");
     await store.create(approvalObject("c"));
     say("written"); store.close();`,
  );
  assert.equal((await lines.next()).value, "written");
  await assert.rejects(store.update({ ...a, spec: { ...a.spec, by: "carol" } }), withCode("CONFLICT"));
  assert.equal((await store.get("RemediationApproval", "default", "a"))?.spec.by, "bob");
  const modified = await next();
  assert.ok(modified?.type === "Modified" && modified.object.spec.by === "bob");
  assert.deepEqual(await read(3), ["Deleted b", "Added b", "Added c"]);
});

it("a watch hears of another process' write by the poll alone", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  const { read } = watcher(t, store, "RemediationApproval");
  await read(1);
  inOtherProcess(t, path, `await store.create(approvalObject("a")); store.close();`);
  assert.deepEqual(await read(1), ["Added a"]);
});

it("a process that missed more deletions than are remembered still ends up with what exists", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  await Promise.all([store.create(approvalObject("gone")), store.create(approvalObject("again")), store.create(approvalObject("stays"))]);
  const { read } = watcher(t, store, "RemediationApproval");
  await read(4);
  // In this process and synchronously, so that the store under test cannot look in between.
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  other.exec("DELETE FROM resources WHERE name = 'gone'");
  const row = other.prepare("SELECT json FROM resources WHERE name = 'again'").get() as { json: string };
  const again = JSON.parse(row.json) as ReturnType<typeof approvalObject>;
  again.metadata.uid = "another";
  again.metadata.resourceVersion = "5000";
  other.prepare("UPDATE resources SET json = ?, version = 5000 WHERE name = 'again'").run(JSON.stringify(again));
  other.exec("UPDATE meta SET value = 5000 WHERE key = 'version'; UPDATE meta SET value = 4000 WHERE key = 'trimmedTo'; COMMIT");
  other.close();
  assert.deepEqual((await read(3)).sort(), ["Added again", "Deleted again", "Deleted gone"]);
  assert.deepEqual(
    (await store.list("RemediationApproval")).map((o) => o.metadata.name),
    ["again", "stays"],
  );
});

it("remembers a bounded number of deletions", async (t) => {
  const store = open(t, tempFile(t));
  for (let round = 0; round < 3; round += 1) {
    const names = Array.from({ length: 500 }, (_, i) => `n-${i}`);
    await Promise.all(names.map((name) => store.create(approvalObject(name))));
    await Promise.all(names.map((name) => store.delete("RemediationApproval", "default", name)));
  }
  const { count } = store.database.prepare("SELECT count(*) AS count FROM tombstones").get() as { count: number };
  assert.equal(count, 1000);
});

it("kill -9 in the middle of writes loses nothing that was acknowledged", async (t) => {
  const path = tempFile(t);
  const { child, lines } = inOtherProcess(
    t,
    path,
    `for (let i = 0; ; i += 1) {
       const made = await Promise.all([0, 1, 2].map((j) => store.create(approvalObject(\`n-\${i}-\${j}\`))));
       for (const object of made) say(object.metadata.name + " " + object.metadata.resourceVersion);
     }`,
  );
  const acknowledged: string[] = [];
  for await (const line of lines) {
    acknowledged.push(line);
    if (acknowledged.length === 60) child.kill("SIGKILL");
  }
  const store = open(t, path);
  const have = new Map((await store.list("RemediationApproval")).map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
  for (const line of acknowledged) {
    const [name, version] = line.split(" ");
    assert.equal(have.get(name ?? ""), version, `${line} was acknowledged`);
  }
  assert.equal(have.size % 3, 0, "a transaction is there wholly, or not at all");
  await store.create(approvalObject("after"));
});

it("two processes that write at once get every version once, and both see all", async (t) => {
  const path = tempFile(t);
  const both = ["x", "y"].map((who) =>
    inOtherProcess(
      t,
      path,
      `for (let i = 0; i < 40; i += 1) await store.create(approvalObject(\`${who}-\${i}\`)); say("done"); store.close();`,
    ),
  );
  for (const { lines } of both) assert.equal((await lines.next()).value, "done");
  const objects = await open(t, path).list("RemediationApproval");
  assert.equal(objects.length, 80);
  assert.equal(new Set(objects.map(({ metadata }) => metadata.resourceVersion)).size, 80);
});

it("a process whose only business is an open store ends", async (t) => {
  const { child } = inOtherProcess(t, tempFile(t), `process.stdin.unref?.();`);
  child.stdin?.end();
  const [code] = (await once(child, "exit")) as [number];
  assert.equal(code, 0);
});

it("a newer layout is refused by name", (t) => {
  const path = tempFile(t);
  SqliteStore.open(path).close();
  const db = new DatabaseSync(path);
  db.exec("UPDATE meta SET value = 99 WHERE key = 'storeVersion'");
  db.close();
  assert.throws(() => SqliteStore.open(path), withCode("STORE_VERSION", /layout 99/));
});

it("a file that is no store, and one that is damaged, are refused with what to do", async (t) => {
  const path = tempFile(t);
  writeFileSync(path, "this is a shopping list\n".repeat(500));
  assert.throws(() => SqliteStore.open(path), withCode("STORE_CORRUPT"));
  rmSync(path);
  const store = SqliteStore.open(path);
  await Promise.all(Array.from({ length: 300 }, (_, i) => store.create(approvalObject(`n-${i}`))));
  store.close();
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.alloc(20_000, 0xa5), 0, 20_000, 4096 * 5);
  closeSync(fd);
  assert.throws(
    () => SqliteStore.open(path),
    (error) => withCode("STORE_CORRUPT")(error) && /\.recover/.test(String(error)),
  );
});

it("a full disk is STORE_UNAVAILABLE, changes nothing, and is over when there is space", async (t) => {
  const store = open(t, tempFile(t));
  const a = await store.create(approvalObject("a"));
  const { page_count: pages } = store.database.prepare("PRAGMA page_count").get() as { page_count: number };
  // SQLite reports its own limit of pages with the same result code as a full disk.
  store.database.exec(`PRAGMA max_page_count = ${pages}`);
  const { read } = watcher(t, store, "RemediationApproval");
  await read(2);
  const big = approvalObject("big");
  big.spec.reason = "x".repeat(100_000);
  const small = { ...a, spec: { ...a.spec, by: "bob" } };
  const results = await Promise.allSettled([store.update(small), store.create(big)]);
  for (const result of results) {
    assert.equal(result.status, "rejected");
    if (result.status === "rejected") withCode("STORE_UNAVAILABLE")(result.reason);
  }
  assert.deepEqual(await store.list("RemediationApproval"), [a]);
  store.database.exec(`PRAGMA max_page_count = 100000`);
  await store.create(big);
  assert.deepEqual(await read(1), ["Added big"]);
  await store.update(small);
});

it("a write that another process keeps waiting is STORE_UNAVAILABLE, and its reads go on", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  await store.create(approvalObject("a"));
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  await assert.rejects(store.create(approvalObject("b")), withCode("STORE_UNAVAILABLE", /locked/));
  assert.equal((await store.list("RemediationApproval")).length, 1);
  other.exec("ROLLBACK");
  other.close();
  await store.create(approvalObject("b"));
});

it("the supervisor's own tables share the file and its transactions", async (t) => {
  const path = tempFile(t);
  const store = open(t, path);
  store.transaction((db) => db.exec("CREATE TABLE instances (pid INTEGER)"));
  assert.throws(
    () =>
      store.transaction((db) => {
        db.exec("INSERT INTO instances VALUES (1)");
        throw new RangeError("no");
      }),
    RangeError,
  );
  store.transaction((db) => db.exec("INSERT INTO instances VALUES (2)"));
  await store.create(approvalObject("a"));
  assert.deepEqual({ ...store.database.prepare("SELECT pid FROM instances").get() }, { pid: 2 });
});

it("closing finishes what was asked for; afterwards everything is refused", async (t) => {
  const path = tempFile(t);
  const store = SqliteStore.open(path);
  const { next } = watcher(t, store, "RemediationApproval");
  await next();
  const waiting = next();
  const write = store.create(approvalObject("a"));
  store.close();
  assert.equal((await write).metadata.name, "a");
  assert.equal((await waiting)?.type, "Added");
  assert.equal(await next(), undefined);
  await assert.rejects(store.create(approvalObject("b")), withCode("STORE_UNAVAILABLE", /closed/));
  await assert.rejects(store.list("Remediation"), withCode("STORE_UNAVAILABLE", /closed/));
  assert.equal((await open(t, path).list("RemediationApproval")).length, 1);
});

it("the file is readable for its owner only", (t) => {
  const path = tempFile(t);
  open(t, path);
  for (const suffix of ["", "-wal", "-shm"]) assert.equal(statSync(path + suffix).mode & 0o777, 0o600, suffix);
});
