import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { RootCauseResult } from "../../orient/root-cause.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "nightshift-root-cause-"));
const write = (name: string, value: unknown): string => {
  const path = join(dir, name);
  writeFileSync(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
};
const level = (service: string, metric: string, before: number, during: number): unknown => ({
  service,
  metric,
  unit: "ms",
  points: Array.from({ length: 60 }, (_, i) => [1_700_000_000 + 60 * i, i < 40 ? before + (i % 3) : during + (i % 3)]),
});
const graph = write("graph.json", {
  edges: [
    { from: "web", to: "db" },
    { from: "web", to: "ads" },
  ],
});
const metrics = write("metrics.json", {
  series: [level("web", "latency_p99", 200, 900), level("db", "latency_p99", 30, 700)],
  incident: { start: 1_700_002_400, end: 1_700_003_600 },
});

async function rootCause(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [MAIN, "root-cause", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: code as number, stdout, stderr };
}

describe("nightshift root-cause", () => {
  after(() => rmSync(dir, { recursive: true, force: true }));

  test("--json: the causes, the verdict, and what was not looked at", async () => {
    const { code, stdout, stderr } = await rootCause("--graph", graph, "--metrics", metrics, "--target", "web", "--json");
    assert.deepEqual([code, stderr], [0, ""]);
    const result = JSON.parse(stdout) as RootCauseResult;
    assert.deepEqual(Object.keys(result), ["causes", "verdict", "reason", "lookedAt", "notLookedAt"]);
    assert.deepEqual(Object.keys(result.causes[0] ?? {}), ["service", "metric", "score", "evidence"]);
    assert.deepEqual([result.verdict, result.causes[0]?.service, result.causes[0]?.metric], ["cause", "db", "latency_p99"]);
    assert.deepEqual(result.notLookedAt, [{ service: "ads", why: "no metrics" }]);
  });
  test("for people: a ranked table with the evidence in words, and what was not looked at", async () => {
    const { code, stdout } = await rootCause("--graph", graph, "--metrics", metrics, "--target", "web");
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^CAUSE: db is the likeliest cause, by its latency_p99; 2 of 3 services at or below web have data; nothing is known of ads\n/,
    );
    assert.match(
      stdout,
      /\nRANK +SERVICE +METRIC +SCORE +EVIDENCE\n1 +db +latency_p99 +1\.000 +latency_p99 rose from 31 ms to 701 ms \(.*\n +it is called by way of web > db\n2 +web /,
    );
    assert.match(stdout, /\nNOT LOOKED AT +WHY\nads +no metrics\n/);
  });
  test("no cause: what was looked at", async () => {
    const calm = write("calm.json", {
      series: [level("web", "latency_p99", 200, 200)],
      incident: { start: 1_700_002_400, end: 1_700_003_600 },
    });
    const { stdout } = await rootCause("--graph", graph, "--metrics", calm, "--target", "web");
    assert.match(stdout, /^no cause found: web shows no symptom/);
    assert.match(stdout, /\nweb +well +none of 1 metrics of symptoms is abnormal\n/);
  });
  test("long lists are cut for people, what is ill first", async () => {
    const wide = write("wide.json", { edges: Array.from({ length: 60 }, (_, i) => ({ from: "web", to: `s${i}` })) });
    const all = Array.from({ length: 45 }, (_, i) => level(`s${i}`, "latency_p99", 50, 50));
    const many = write("many.json", {
      series: [level("web", "latency_p99", 200, 900), ...all, level("s59", "latency_p99", 50, 760)],
      incident: { start: 1_700_002_400, end: 1_700_003_600 },
    });
    const { stdout } = await rootCause("--graph", wide, "--metrics", many, "--target", "web");
    assert.match(stdout, /\nLOOKED AT +STATE +WHAT WAS SEEN\nweb +ill +.*\ns59 +ill +.*\ns0 +well /);
    assert.match(stdout, /\nand 7 more, which --json lists\n/);
  });
  test("a bad file: exit 2, the place on stderr, nothing on stdout", async () => {
    const bad = write("bad.json", { edges: [{ caller: "a", callee: "b" }] });
    const { code, stdout, stderr } = await rootCause("--graph", bad, "--metrics", metrics, "--target", "web", "--json");
    assert.deepEqual([code, stdout], [2, ""]);
    const { error } = JSON.parse(stderr) as { error: { code: string; where: string } };
    assert.deepEqual([error.code, error.where], ["INVALID_GRAPH", `${bad}: edges[0].from`]);
  });
  test("a target that is not known: exit 2, and what was meant", async () => {
    const { code, stderr } = await rootCause("--graph", graph, "--metrics", metrics, "--target", "wbe");
    assert.equal(code, 2);
    assert.match(stderr, /UNKNOWN_SERVICE\] Did you mean "web"\?/);
  });
});
