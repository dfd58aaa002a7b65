import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { AuditTrail, GENESIS, parseLine } from "./audit.ts";
import { verifyAudit, type AuditFault } from "./verify.ts";

const COUNT = 25;

/** A line as an attacker writes it: any content, with the hash that belongs to it. */
function withHash(line: string): string {
  const body = line.replace(/,"hash":"[0-9a-f]{64}"\}$/, "}");
  return `${body.slice(0, -1)},"hash":"${createHash("sha256").update(body).digest("hex")}"}`;
}

describe("verify names what was done to the trail", () => {
  let dir = "";
  let good: string[] = [];
  let head = "";
  const path = (): string => join(dir, "audit.jsonl");
  const headPath = (): string => join(dir, "audit.head");
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-verify-"));
    const trail = await AuditTrail.open({ path: path() });
    for (let i = 1; i <= COUNT; i++) await trail.append([{ type: "Decision", at: 1_700_000_000_000 + i, message: `message ${i} ü` }]);
    await trail.close();
    good = readFileSync(path(), "utf8").split("\n").slice(0, -1);
    head = readFileSync(headPath(), "utf8");
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** What verify says of these lines beside the true head. */
  async function faults(lines: readonly string[], end = "\n"): Promise<Pick<AuditFault, "kind" | "line" | "seq">[]> {
    writeFileSync(path(), lines.join("\n") + (lines.length > 0 ? end : ""));
    writeFileSync(headPath(), head);
    const report = await verifyAudit({ path: path(), headPath: headPath() });
    assert.equal(report.ok, report.faults.length === 0);
    return report.faults.map(({ kind, line, seq }) => ({
      kind,
      ...(line === undefined ? {} : { line }),
      ...(seq === undefined ? {} : { seq }),
    }));
  }
  const every = async (check: (index: number) => Promise<void>): Promise<void> => {
    for (let i = 0; i < COUNT; i++) await check(i);
  };

  it("nothing, where nothing was", async () => assert.deepEqual(await faults(good), []));

  it("an edited line, with or without its hash made anew", () =>
    every(async (i) => {
      const forged = (good[i] ?? "").replace(`message ${i + 1} `, "I was never here");
      for (const line of [forged, withHash(forged)])
        assert.deepEqual(await faults(good.with(i, line)), [{ kind: "Edited", line: i + 1, seq: i + 1 }]);
    }));

  it("any byte of any line", () =>
    every(async (i) => {
      const line = good[i] ?? "";
      for (let at = i; at < line.length; at += COUNT) {
        const found = await faults(good.with(i, `${line.slice(0, at)}${line[at] === "0" ? "1" : "0"}${line.slice(at + 1)}`));
        assert.ok(
          found.length > 0 && found.every((fault) => fault.line === i + 1),
          `byte ${at} of line ${i + 1}: ${JSON.stringify(found)}`,
        );
      }
      for (const odd of [`${line} `, line.replace("{", "{ "), `${line}\r`, "", "null"])
        assert.deepEqual(
          (await faults(good.with(i, odd))).map((fault) => fault.line),
          [i + 1],
          JSON.stringify(odd),
        );
    }));

  it("removed lines", () =>
    every(async (i) => {
      const expected = i === COUNT - 1 ? { kind: "Cut", line: COUNT, seq: COUNT } : { kind: "Removed", line: i + 1, seq: i + 1 };
      assert.deepEqual(await faults(good.toSpliced(i, 1)), [expected]);
    }));

  it("lines that are cut off the end, by the head", () =>
    every(async (i) => assert.deepEqual(await faults(good.slice(0, i)), [{ kind: "Cut", line: i + 1, seq: i + 1 }])));

  it("a line that was moved, to the front or to the back", () =>
    every(async (i) => {
      for (const to of [0, Math.floor(COUNT / 2), COUNT - 1]) {
        if (to === i) continue;
        const moved = good.toSpliced(i, 1).toSpliced(to, 0, good[i] ?? "");
        const found = await faults(moved);
        assert.ok(
          found.length > 0 && found.every((fault) => fault.kind === "Reordered"),
          `${i + 1} to ${to + 1}: ${JSON.stringify(found)}`,
        );
      }
    }));

  it("a copy, wherever it stands", () =>
    every(async (i) => {
      for (const to of [0, i, COUNT]) {
        const found = await faults(good.toSpliced(to, 0, good[i] ?? ""));
        assert.equal(found.length, 1, JSON.stringify(found));
        assert.match(found[0]?.kind ?? "", /^(Duplicated|Inserted)$/);
      }
    }));

  it("a line that was never written, though it is chained to the one before it", () =>
    every(async (i) => {
      const { seq, hash } = i === 0 ? { seq: 0, hash: GENESIS } : (parseLine(Buffer.from(good[i - 1] ?? "")) ?? { seq: 0, hash: "" });
      const forged = withHash(`{"seq":${seq + 1},"prev":"${hash}","at":"2026-01-01T00:00:00.000Z","type":"Decision","message":"forged"}`);
      for (const line of [forged, "not a line of a trail"])
        assert.deepEqual(
          (await faults(good.toSpliced(i, 0, line))).map((fault) => [fault.kind, fault.line]),
          [["Inserted", i + 1]],
        );
    }));

  it("a trail that was written anew from some line on, by the head", () =>
    every(async (i) => {
      let prev = i === 0 ? GENESIS : (parseLine(Buffer.from(good[i - 1] ?? ""))?.hash ?? "");
      const anew = good.map((line, k) => {
        if (k < i) return line;
        const forged = withHash(line.replace(/"prev":"[0-9a-f]{64}"/, `"prev":"${prev}"`).replace(`message ${i + 1} `, "forged"));
        prev = parseLine(Buffer.from(forged))?.hash ?? "";
        return forged;
      });
      assert.deepEqual(await faults(anew), [{ kind: "Edited", line: COUNT, seq: COUNT }]);
    }));

  it("a newline that is missing at the end, an empty file, and no file", async () => {
    assert.deepEqual(
      (await faults(good, "")).map((fault) => fault.kind),
      ["Torn", "Cut"],
    );
    assert.deepEqual(await faults([]), [{ kind: "Cut", line: 1, seq: 1 }]);
    rmSync(path());
    const report = await verifyAudit({ path: path(), headPath: headPath() });
    assert.deepEqual(
      report.faults.map((fault) => fault.kind),
      ["Cut"],
    );
  });

  it("a head that is gone, or says nothing", async () => {
    await faults(good);
    for (const text of [undefined, "", "{}", '{"seq":-1,"hash":"x"}']) {
      if (text === undefined) rmSync(headPath());
      else writeFileSync(headPath(), text);
      const report = await verifyAudit({ path: path(), headPath: headPath() });
      assert.deepEqual(
        report.faults.map((fault) => fault.kind),
        ["HeadMissing"],
      );
    }
  });

  it("lists a bounded number of faults, and counts the rest", async () => {
    writeFileSync(path(), "x\n".repeat(5_000));
    writeFileSync(headPath(), head);
    const report = await verifyAudit({ path: path(), headPath: headPath() });
    assert.equal(report.faults.length, 1_000);
    assert.equal(report.more, 5_000 - 1_000);
  });
});
