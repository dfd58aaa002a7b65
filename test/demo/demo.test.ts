import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { assertPassed, withDemo } from "./support.ts";

// One after the other: each runs five processes under load, and machines have few cores.
const FAST = ["--speed", "1.5"];

test("leak: found by its trend and healed, with a heap snapshot, before anyone notices", async () => {
  await withDemo(["leak", ...FAST], async (run) => {
    assertPassed(run);
    const { document } = run;
    assert.equal(document.healed, true);
    assert.ok((document.secondsToLimitAtDetection ?? 0) > 0);
    assert.deepEqual(
      document.actions.map((action) => action.step),
      ["startReplacement", "removeFromTraffic", "capture", "stop"],
    );
    assert.equal(document.errors.during + document.errors.after, 0);
    assert.ok(document.requests > 500);
    const { before, during, after } = document.requestsBy;
    assert.equal(before + during + after, document.requests);
    const bytes = await readFile(document.heapSnapshot?.path ?? "");
    assert.equal(bytes.length, document.heapSnapshot?.bytes);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), document.heapSnapshot?.sha256);
    const snapshot = JSON.parse(bytes.toString("utf8")) as {
      snapshot: { node_count: number; meta: { node_fields: string[] } };
      nodes: number[];
      strings: string[];
    };
    assert.equal(snapshot.nodes.length, snapshot.snapshot.node_count * snapshot.snapshot.meta.node_fields.length);
    assert.ok(snapshot.strings.includes("Receipt") || snapshot.strings.includes("Receipts"), "the class that leaks is in the snapshot");
  });
});

test("leak --no-healing: the forecast comes true, the process dies at its memory limit", async () => {
  await withDemo(["leak", "--no-healing", ...FAST], (run) => {
    assertPassed(run);
    assert.equal(run.document.healed, false);
    assert.deepEqual(run.document.actions, []);
    assert.notEqual(run.document.diedAt, null);
    assert.equal(run.document.heapSnapshot, null);
  });
});

test("deadlock: the replica that accepts and never answers is replaced", async () => {
  await withDemo(["deadlock"], (run) => {
    assertPassed(run);
    assert.equal(run.document.healed, true);
  });
});

test("dependency: bank is named, payments and storefront are not restarted", async () => {
  await withDemo(["dependency"], (run) => {
    assertPassed(run);
    assert.deepEqual(run.document.actions, []);
    assert.ok(run.document.errors.during + run.document.errors.after > 0, "customers did see errors");
    assert.equal(run.document.healed, false);
  });
});

test("flapping: one action", async () => {
  await withDemo(["flapping"], (run) => {
    assertPassed(run);
    assert.equal(run.document.actions.filter((action) => action.step === "stop").length, 1);
  });
});

test("strikes: three attempts, then one page", async () => {
  await withDemo(["strikes"], (run) => {
    assertPassed(run);
    assert.equal(run.document.pages, 1);
    assert.equal(run.document.actions.filter((action) => action.step === "stop").length, 3);
  });
});

test("no-data: metrics that vanish are no reason to act", async () => {
  await withDemo(["no-data"], (run) => {
    assertPassed(run);
    assert.deepEqual(run.document.actions, []);
  });
});

test("observe: on record what would have been done, nothing touched", async () => {
  await withDemo(["observe", ...FAST], (run) => {
    assertPassed(run);
    assert.deepEqual(run.document.actions, []);
    assert.equal(run.document.remediations[0]?.outcome, "Observed");
  });
});
