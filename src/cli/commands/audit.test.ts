import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { remediationObject } from "../../../test/support/objects.ts";
import type { Evidence } from "../../api/remediation.ts";
import { SqliteStore } from "../../platform/host/store.ts";
import { AuditTrail } from "../../record/audit.ts";
import { evidenceDir, EvidenceFiles } from "../../record/evidence.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

describe("nightshift audit", () => {
  let dir = "";
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-audit-cli-"));
    const trail = await AuditTrail.open({ path: join(dir, "audit.jsonl") });
    const about = { at: Date.UTC(2026, 0, 1), remediation: "shop/leak-1", policy: "shop/leak", target: "Process/shop/web-1" };
    await trail.append([{ type: "Started", at: Date.UTC(2026, 0, 1), message: "nightshift began" }]);
    await trail.append([
      {
        ...about,
        type: "Decision",
        message: "no action: Paused: \u001b[31mrelease\nday",
        data: { action: "Block", verdicts: [{ gate: "Paused", verdict: "Block", message: "policy leak is paused: release day" }] },
      },
    ]);
    await trail.append([{ ...about, remediation: "other/leak-1", type: "Phase", message: "another namespace's" }]);
    await trail.close();
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  async function audit(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, "audit", ...args, "--state", dir]);
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: code as number, stdout, stderr };
  }

  it("list: the newest records, oldest first, and nothing that a terminal would act on", async () => {
    const all = await audit("list");
    assert.equal(all.code, 0);
    assert.match(
      all.stdout,
      /^SEQ +AT +TYPE +ABOUT +MESSAGE\n1 .*Started.*\n2 .*Decision +shop\/leak-1 +no action: Paused:  \[31mrelease day\n3 /,
    );
    // oxlint-disable-next-line no-control-regex -- escapes must not get through
    assert.doesNotMatch(all.stdout, /\u001b/);
    assert.equal((await audit("list", "--limit", "1")).stdout.split("\n").length, 3);
    const own = JSON.parse((await audit("list", "--remediation", "shop/leak-1", "--json")).stdout) as { seq: number }[];
    assert.deepEqual(
      own.map(({ seq }) => seq),
      [2],
    );
  });

  it("evidence: all of it, by the episode and by its digest", async () => {
    const all = Array.from({ length: 60 }, (_, i): Evidence => ({ kind: "Dependency", message: `service ${i} is well`, values: { i } }));
    const allEvidence = new EvidenceFiles(evidenceDir(dir)).keep(all);
    const store = SqliteStore.open(join(dir, "nightshift.db"));
    for (const [name, more] of [
      ["large", { allEvidence }],
      ["small", {}],
    ] as const) {
      const remediation = remediationObject(name, "shop");
      const diagnosis = { ...remediation.spec.diagnosis, evidence: all.slice(0, 3), ...more };
      await store.create({ ...remediation, spec: { ...remediation.spec, diagnosis } });
    }
    store.close();
    const { code, stdout } = await audit("evidence", "shop/large");
    assert.deepEqual([code, stdout.split("\n").length], [0, 61]);
    assert.deepEqual(JSON.parse((await audit("evidence", allEvidence.sha256, "--json")).stdout), all);
    assert.deepEqual(JSON.parse((await audit("evidence", "shop/small", "--json")).stdout), all.slice(0, 3));
    assert.match((await audit("show", "shop/large")).stdout, /all 60 pieces: .*\.json, \d+ bytes, sha256 [0-9a-f]{64}/);
    rmSync(allEvidence.path ?? "");
    const gone = await audit("evidence", "shop/large");
    assert.notEqual(gone.code, 0);
    assert.match(gone.stderr, /this evidence is not there/);
    assert.match((await audit("evidence", "shop/nobody")).stderr, /there is no remediation shop\/nobody/);
    rmSync(join(dir, "nightshift.db"));
  });

  it("show: one episode's story with each gate's verdict, from the trail alone where the store is gone", async () => {
    const { code, stdout } = await audit("show", "shop/leak-1");
    assert.equal(code, 0);
    assert.match(stdout, /^Remediation {2}shop\/leak-1\n/);
    assert.match(stdout, /Block +Paused: policy leak is paused: release day/);
    assert.doesNotMatch(stdout, /another namespace's/);
    const json = JSON.parse((await audit("show", "shop/leak-1", "--json")).stdout) as { remediation: unknown; records: unknown[] };
    assert.deepEqual([json.remediation, json.records.length], [null, 1]);
    assert.equal((await audit("show", "nothing")).code, 2);
  });

  it("verify: 0 where the trail is intact, 1 where it is not, each fault by its line as compilers say it", async () => {
    const well = await audit("verify");
    assert.deepEqual([well.code, well.stdout.startsWith("intact: 3 records")], [0, true]);
    const path = join(dir, "audit.jsonl");
    const good = readFileSync(path, "utf8");
    try {
      writeFileSync(path, good.replace("nightshift began", "nightshift slept"));
      const edited = await audit("verify");
      assert.equal(edited.code, 1);
      assert.match(edited.stdout, new RegExp(`^${path}:1: Edited \\(seq 1\\): .*\nNOT INTACT: 1 faults in 3 records\n$`));
      const json = JSON.parse((await audit("verify", "--json")).stdout) as { ok: boolean; faults: { line: number }[] };
      assert.deepEqual([json.ok, json.faults.map(({ line }) => line)], [false, [1]]);
      writeFileSync(path, `${good.split("\n").slice(0, 2).join("\n")}\n`);
      assert.match((await audit("verify")).stdout, /audit\.jsonl:3: Cut \(seq 3\)/);
    } finally {
      writeFileSync(path, good);
    }
  });
});
