import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { AuditTrail, GENESIS, parseLine, type AuditRecord } from "./audit.ts";
import { readAudit, verifyAudit, type AuditLine, type AuditReport } from "./verify.ts";

const NOT_ROOT = process.getuid?.() === 0 ? false : "only root can mount a small file system";

interface Place {
  readonly dir: string;
  readonly path: string;
  readonly headPath: string;
}

function place(t: TestContext): Place {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-audit-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return { dir, path: join(dir, "audit.jsonl"), headPath: join(dir, "audit.head") };
}

const recordOf = (message: string): AuditRecord => ({ type: "Decision", at: 1_700_000_000_000, message, data: { message } });
const linesOf = (path: string): string[] => readFileSync(path, "utf8").split("\n").slice(0, -1);
const verified = ({ path, headPath }: Place): Promise<AuditReport> => verifyAudit({ path, headPath });

async function messages(path: string): Promise<string[]> {
  const all: AuditLine[] = [];
  for await (const line of readAudit(path)) all.push(line);
  return all.map((line) => line.message);
}

/** A trail with these messages, closed. */
async function written(at: Place, ...texts: string[]): Promise<void> {
  const trail = await AuditTrail.open({ path: at.path });
  for (const text of texts) await trail.append([recordOf(text)]);
  await trail.close();
}

describe("the audit trail", () => {
  it("chains each line to the one before it, and goes on over restarts", async (t) => {
    const at = place(t);
    await written(at, "one", "two");
    await written(at, "three");
    const lines = linesOf(at.path).map((line) => parseLine(Buffer.from(line)));
    assert.deepEqual(
      lines.map((line) => [line?.seq, line?.intact, line?.fields["message"]]),
      [
        [1, true, "one"],
        [2, true, "two"],
        [3, true, "three"],
      ],
    );
    assert.deepEqual(
      lines.map((line) => line?.prev),
      [GENESIS, lines[0]?.hash, lines[1]?.hash],
    );
    assert.deepEqual(JSON.parse(readFileSync(at.headPath, "utf8")), { seq: 3, hash: lines[2]?.hash });
    assert.equal((await verified(at)).ok, true);
    assert.deepEqual(await messages(at.path), ["one", "two", "three"]);
  });

  it("is readable for its owner only", async (t) => {
    const at = place(t);
    await written(at, "one");
    for (const path of [at.path, at.headPath, `${at.path}.lock`]) assert.equal(statSync(path).mode & 0o077, 0, path);
  });

  it("keeps the order of calls, and what a caller changes later is not what happened", async (t) => {
    const at = place(t);
    const trail = await AuditTrail.open({ path: at.path });
    const data = { message: "as it was" };
    const all = Array.from({ length: 500 }, (_, i) => trail.append([{ ...recordOf(String(i)), data }]));
    data.message = "changed";
    await Promise.all(all);
    await trail.close();
    assert.deepEqual(
      await messages(at.path),
      Array.from({ length: 500 }, (_, i) => String(i)),
    );
    assert.ok(!readFileSync(at.path, "utf8").includes("changed"));
  });

  it("refuses a record that cannot be written, and takes the next", async (t) => {
    const at = place(t);
    const trail = await AuditTrail.open({ path: at.path });
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    await assert.rejects(trail.append([{ ...recordOf("x"), data: circular }]), { code: "AUDIT_INVALID" });
    await assert.rejects(trail.append([{ ...recordOf("x"), at: NaN }]), { code: "AUDIT_INVALID" });
    await trail.append([recordOf("well")]);
    await trail.close();
    await assert.rejects(trail.append([recordOf("late")]), { code: "AUDIT_UNAVAILABLE" });
    assert.deepEqual(await messages(at.path), ["well"]);
  });

  it("has one writer; a dead one's trail is free at once", async (t) => {
    const at = place(t);
    const audit = fileURLToPath(new URL("audit.ts", import.meta.url));
    const script = `import { AuditTrail } from ${JSON.stringify(audit)};
      const trail = await AuditTrail.open({ path: ${JSON.stringify(at.path)} });
      await trail.append([{ type: "Decision", at: 0, message: "theirs" }]);
      console.log("open"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    await once(child.stdout, "data");
    await assert.rejects(AuditTrail.open({ path: at.path }), { code: "AUDIT_IN_USE" });
    child.kill("SIGKILL");
    await once(child, "exit");
    await written(at, "ours");
    // The head may lag behind a crash.
    const all = (await messages(at.path)).filter((text) => !text.startsWith("the head"));
    assert.deepEqual(all, ["theirs", "ours"]);
    assert.equal((await verified(at)).ok, true);
  });

  it("moves a line that a crash left half-written aside, and says so", async (t) => {
    const at = place(t);
    await written(at, "one");
    appendFileSync(at.path, '{"seq":2,"prev":"half');
    const report = await verified(at);
    assert.deepEqual(
      report.faults.map((fault) => fault.kind),
      ["Torn"],
    );
    await written(at, "two");
    assert.match((await messages(at.path))[1] ?? "", /21 bytes of a line that was never finished: moved to .*audit\.torn/);
    assert.equal(readFileSync(join(at.dir, "audit.torn"), "utf8"), '{"seq":2,"prev":"half\n');
    assert.equal((await verified(at)).ok, true);
  });

  it("does not heal what was cut while it was closed: the gap stays to be seen", async (t) => {
    const at = place(t);
    await written(at, "one", "two", "three");
    const [first = ""] = linesOf(at.path);
    writeFileSync(at.path, `${first}\n`);
    await written(at, "four");
    const report = await verified(at);
    assert.equal(report.ok, false);
    assert.deepEqual(
      report.faults.map(({ kind, line, seq }) => ({ kind, line, seq })),
      [{ kind: "Removed", line: 2, seq: 2 }],
    );
    assert.match((await messages(at.path))[1] ?? "", /seq 2 to 3 were missing at the end/);
  });

  it("goes on when its file is removed, replaced or cut under it, and says so", async (t) => {
    const at = place(t);
    const trail = await AuditTrail.open({ path: at.path });
    await trail.append([recordOf("one")]);
    renameSync(at.path, join(at.dir, "stolen"));
    await trail.append([recordOf("two")]);
    assert.match((await messages(at.path))[0] ?? "", /removed or replaced while Nightshift ran/);
    truncateSync(at.path, 10);
    await trail.append([recordOf("three")]);
    await trail.close();
    const all = await messages(at.path);
    assert.match(all[0] ?? "", /something else changed the trail while Nightshift ran/);
    assert.equal(all.at(-1), "three");
    assert.equal((await verified(at)).ok, false);
  });

  it("a full disk is AUDIT_UNAVAILABLE and leaves no half line; with space again it goes on", { skip: NOT_ROOT }, async (t) => {
    const at = place(t);
    const small = join(at.dir, "small");
    mkdirSync(small);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", small]);
    const inside = { dir: small, path: join(small, "audit.jsonl"), headPath: join(at.dir, "audit.head") };
    try {
      const trail = await AuditTrail.open({ path: inside.path, headPath: inside.headPath });
      await trail.append([recordOf("before")]);
      assert.throws(() => {
        for (;;) appendFileSync(join(small, "hog"), Buffer.alloc(4_096));
      });
      const large = recordOf("x".repeat(100_000));
      await assert.rejects(trail.append([large]), { code: "AUDIT_UNAVAILABLE", fix: /Free space/ });
      await assert.rejects(Promise.all([trail.append([large]), trail.append([recordOf("shares the flush")])]), {
        code: "AUDIT_UNAVAILABLE",
      });
      assert.equal((await verified(inside)).ok, true);
      rmSync(join(small, "hog"));
      await trail.append([recordOf("after")]);
      await trail.close();
      assert.deepEqual(await messages(inside.path), ["before", "after"]);
      assert.equal((await verified(inside)).ok, true);
    } finally {
      execFileSync("umount", [small]);
    }
  });

  it("a head that cannot be written is said once, and loses no record", async (t) => {
    const at = place(t);
    const elsewhere = join(at.dir, "other-disk");
    mkdirSync(elsewhere);
    const headPath = join(elsewhere, "audit.head");
    const trail = await AuditTrail.open({ path: at.path, headPath });
    await trail.append([recordOf("one")]);
    renameSync(elsewhere, join(at.dir, "unplugged"));
    for (const text of ["two", "three", "four"]) {
      await trail.append([recordOf(text)]);
      // The head is written after the lines; the next line is to find that it failed.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await trail.close();
    const all = await messages(at.path);
    assert.equal(all.filter((text) => text.startsWith("the head cannot be written")).length, 1);
    assert.deepEqual(
      all.filter((text) => !text.startsWith("the head")),
      ["one", "two", "three", "four"],
    );
    assert.deepEqual(
      (await verifyAudit({ path: at.path, headPath })).faults.map((fault) => fault.kind),
      ["HeadMissing"],
    );
  });

  it("what cannot be read or written at all is refused", async (t) => {
    const at = place(t);
    mkdirSync(at.path);
    await assert.rejects(AuditTrail.open({ path: at.path }), { code: "AUDIT_UNAVAILABLE" });
    await assert.rejects(AuditTrail.open({ path: join(at.dir, "nowhere", "audit.jsonl") }), { code: "AUDIT_UNAVAILABLE" });
    await assert.rejects(verifyAudit({ path: join(at.dir, "none"), headPath: join(at.dir, "none.head") }), { code: "NO_AUDIT_TRAIL" });
  });
});
