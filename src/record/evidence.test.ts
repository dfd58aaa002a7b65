import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { Evidence } from "../api/remediation.ts";
import { EvidenceFiles, NO_SHELF } from "./evidence.ts";

const root = mkdtempSync(join(tmpdir(), "nightshift-evidence-"));
after(() => rmSync(root, { recursive: true }));
const evidence = (pieces: number, word = "is ill"): Evidence[] =>
  Array.from({ length: pieces }, (_, i) => ({ kind: "Dependency", message: `service ${i} ${word}`, values: { i } }));

describe("evidence that is larger than a Remediation", () => {
  it("is kept once, with size and digest, and read again", () => {
    const files = new EvidenceFiles(join(root, "once"));
    const kept = files.keep(evidence(100));
    assert.deepEqual([kept.pieces, kept.path, kept.problem], [100, join(root, "once", `${kept.sha256}.json`), undefined]);
    assert.deepEqual(files.keep(evidence(100)), kept);
    assert.deepEqual(readdirSync(files.dir), [`${kept.sha256}.json`]);
    assert.deepEqual(new EvidenceFiles(files.dir).read(kept.sha256), evidence(100));
  });

  it("that is not what was kept, is gone, or has no such digest is said to be", () => {
    const files = new EvidenceFiles(join(root, "faults"));
    const { path = "", sha256 } = files.keep(evidence(50));
    writeFileSync(path, "[]");
    assert.throws(() => files.read(sha256), { code: "ARTIFACT_DAMAGED" });
    assert.equal(files.keep(evidence(50)).path, path, "it is mended where it comes again");
    assert.equal(files.read(sha256).length, 50);
    rmSync(path);
    assert.throws(() => files.read(sha256), { code: "NOT_FOUND" });
    assert.throws(() => files.read("../../../etc/passwd"), { code: "INVALID" });
  });

  it("that cannot be kept ends nothing: it is said why", () => {
    const file = join(root, "a-file");
    writeFileSync(file, "");
    chmodSync(file, 0o400);
    const { pieces, path, problem } = new EvidenceFiles(join(file, "below")).keep(evidence(3));
    assert.deepEqual([pieces, path], [3, undefined]);
    assert.match(problem ?? "", /ENOTDIR/);
    assert.match(NO_SHELF.keep(evidence(3)).problem ?? "", /the audit trail has it/);
  });

  it("makes place for new one, the oldest first", () => {
    const files = new EvidenceFiles(join(root, "many"));
    const old = files.keep(evidence(1, "was ill"));
    utimesSync(old.path ?? "", 1, 1);
    for (let i = 0; i < 500; i++) files.keep(evidence(1, `is ${i}`));
    assert.equal(readdirSync(files.dir).length, 500);
    assert.throws(() => files.read(old.sha256), { code: "NOT_FOUND" });
  });

  it("that could not be written whole leaves nothing, and what a crash has left goes", () => {
    const files = new EvidenceFiles(join(root, "partial"));
    const { path = "", sha256 } = files.keep(evidence(5));
    rmSync(path);
    // Nothing can be put in its place, as where the disk is full.
    mkdirSync(join(path, "x"), { recursive: true });
    assert.ok(files.keep(evidence(5)).problem);
    assert.deepEqual(readdirSync(files.dir), [`${sha256}.json`]);
    writeFileSync(join(files.dir, `${"0".repeat(64)}.json.partial`), "[");
    rmSync(path, { recursive: true });
    files.keep(evidence(5));
    assert.deepEqual(readdirSync(files.dir), [`${sha256}.json`]);
  });

  it("that comes again is new again", () => {
    const files = new EvidenceFiles(join(root, "again"));
    const old = files.keep(evidence(1, "was ill"));
    utimesSync(old.path ?? "", 1, 1);
    for (let i = 0; i < 499; i++) files.keep(evidence(1, `is ${i}`));
    files.keep(evidence(1, "was ill"));
    files.keep(evidence(1, "is new"));
    assert.equal(files.read(old.sha256).length, 1);
  });
});
