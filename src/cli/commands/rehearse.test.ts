import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import type { RehearseReport } from "./rehearse.ts";

const cli = resolve(import.meta.dirname, "../main.ts");
const policies = resolve(import.meta.dirname, "../../../examples/rehearsal/policies.yaml");
let dir = "";

function rehearse(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [cli, "rehearse", ...args], { encoding: "utf8", cwd: dir });
}

before(() => {
  dir = mkdtempSync(join(tmpdir(), "nightshift-rehearse-"));
  writeFileSync(join(dir, "own.yaml"), "description: My own.\nlasts: 15m\nfaults:\n  - kind: PodHang\n    expect: [Escalated]\n");
  writeFileSync(
    join(dir, "bad.yaml"),
    "description: x\nlast: 5m\nfaults:\n  - kind: PodLeek\n    on: target\n  - kind: Mark\n    at: 1h\n    expect: [Healed]\n",
  );
  writeFileSync(join(dir, "nobody.yaml"), "description: x\nfaults:\n  - kind: PodHang\n    on: shop/nobody\n");
  writeFileSync(
    join(dir, "cluster.yaml"),
    "nodes:\n  - name: n1\nworkloads:\n  - namespace: shop\n    name: payments\n    replicas: 4\n  - namespace: shop\n    name: web\n",
  );
  writeFileSync(
    join(dir, "policy.yaml"),
    "apiVersion: nightshift.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: { name: p, namespace: shop }\nspec:\n  targets: [{ name: payments }]\n  signals: [{ name: hung, probe: {} }]\n  ladder: [{ strategy: RestartPot }]\n",
  );
});
after(() => rmSync(dir, { recursive: true, force: true }));

describe("nightshift rehearse", () => {
  it("tells what came of a scenario, what was expected of it, and exits with 1 where that differs", () => {
    const { status, stdout } = rehearse("-f", policies, "--scenario", "hang", "--scenario", "own.yaml");
    assert.equal(status, 1);
    assert.match(stdout, /PodHang +shop\/payments +Healed +\dm\d+s +shop\/payments-replica: RestartPod/);
    assert.match(stdout, /own on shop\/payments: My own\.[^]*NOT AS EXPECTED: PodHang on shop\/payments: expected Escalated, is Healed/);
    assert.match(
      stdout,
      /SCENARIO +TARGET +RESULT +PAGES +AS EXPECTED\nhang +shop\/payments +Healed +0 +yes\nown +shop\/payments +Healed +0 +no\n/,
    );
    assert.match(stdout, /2 runs: 2 Healed; 1 not as expected\n$/);
  });

  it("prints what docs/rehearsing.md shows, for the policy that stands there", () => {
    const docs = readFileSync(resolve(import.meta.dirname, "../../../docs/rehearsing.md"), "utf8");
    const policy = /```yaml\n(apiVersion[^]*?)```/.exec(docs)?.[1] ?? "";
    const [, args = "", shown = ""] = /\$ nightshift rehearse -f policies\/ (.*)\n([^]*?)```/.exec(docs) ?? [];
    writeFileSync(join(dir, "documented.yaml"), policy);
    const { stdout } = rehearse("-f", "documented.yaml", ...args.split(" "));
    assert.ok(shown.includes("3 not as expected"), shown);
    assert.equal(stdout, shown);
  });

  it("prints one JSON document", () => {
    const { status, stdout } = rehearse("-f", policies, "--scenario", "hang", "--json", "--mode", "Observe");
    const report = JSON.parse(stdout) as RehearseReport;
    assert.equal(status, 1);
    assert.equal(report.ok, false);
    assert.deepEqual(
      report.runs.map(({ scenario, target, faults }) => [scenario, target, faults[0]?.result]),
      [["hang", "shop/payments", "Observed"]],
    );
  });

  it("plays on a described cluster, and says what cannot be played there", () => {
    const args = ["-f", policies, "--cluster", "cluster.yaml", "--scenario", "hang", "--scenario", "dependency-down"];
    const { status, stdout } = rehearse(...args);
    assert.match(stdout, /at most 1 of 4 of shop\/payments/);
    assert.match(stdout, /not played: dependency-down on shop\/payments: shop\/payments calls nothing/);
    assert.equal(status, 0, stdout);
    const none = rehearse(...args.slice(0, 4), "--scenario", "dependency-down");
    assert.match(none.stdout, /0 runs: no fault befell a workload; nothing was played/);
    assert.equal(none.status, 1);
  });

  it("names every mistake of a file with its line, and what was meant", () => {
    const { status, stderr } = rehearse("-f", policies, "--scenario", "bad.yaml");
    assert.equal(status, 2);
    for (const expected of [
      /bad\.yaml:2:1: error UNKNOWN_FIELD last: .*\n {2}fix: did you mean lasts\?/,
      /bad\.yaml:4:11: error INVALID_VALUE faults\[0\]\.kind: .*\n {2}fix: did you mean PodLeak\?/,
      /bad\.yaml:5:9: error INVALID_VALUE faults\[0\]\.on: expected one of Target, Dependency, Others, All, or the name of a workload, found "target"/,
      /bad\.yaml:8:\d+: error INVALID_VALUE faults\[1\]\.expect: a fault of this kind is nothing to be healed/,
    ])
      assert.match(stderr, expected);
    assert.match(rehearse("-f", "policy.yaml").stderr, /policy\.yaml:7:24: error UNKNOWN_STRATEGY.*\n {2}fix: did you mean RestartPod\?/);
  });

  it("says what is not there, and what is", () => {
    const wrong = (...args: string[]): string => {
      const { status, stderr } = rehearse(...args);
      assert.equal(status, 2, stderr);
      return stderr;
    };
    assert.match(wrong("-f", policies, "--scenario", "leek"), /UNKNOWN_SCENARIO\] Did you mean leak\?/);
    mkdirSync(join(dir, "empty"));
    assert.match(wrong("-f", policies, "--scenario", "empty/"), /empty\/: there is no scenario in the directory \[UNKNOWN_SCENARIO\]/);
    assert.match(wrong("-f", policies, "--scenario", "nobody.yaml"), /no workload shop\/nobody \[UNKNOWN_WORKLOAD\]/);
    assert.match(wrong("-f", policies, "--target", "shop/paymnts"), /Did you mean shop\/payments\?/);
    assert.match(wrong("-f", policies, "--map", "Disk=x"), /Disk is no symptom: one of NotReady/);
    assert.match(wrong("--scenario", "leak"), /NOTHING_TO_REHEARSE/);
  });
});
