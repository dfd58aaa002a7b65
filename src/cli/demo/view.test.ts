import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK_REASONS } from "../../api/remediation.ts";
import { painter, widthOf } from "./format.ts";
import { type Frame, render, type StepView } from "./view.ts";

const NOW = 1_800_000_000_000;

function step(name: string, state: StepView["state"], message = ""): StepView {
  return { name, state, tookMs: state === "Pending" ? undefined : 1_200, message };
}

function frame(changes: Partial<Frame> = {}): Frame {
  return {
    scenario: "leak",
    title: "one of three payments replicas keeps every receipt for ever: it leaks memory",
    healing: true,
    startedAt: NOW - 32_000,
    now: NOW,
    stage: "the leak is found: healing",
    replicas: [1, 2, 3, 4].map((n) => ({
      name: `payments-${n}x7f3`,
      state: "serving" as const,
      suspected: n === 1,
      memory: Array.from({ length: 60 }, (_, i) => ({ t: NOW - (60 - i) * 1_000, v: 2 ** 20 * (60 + (n === 1 ? 3 * i : 0)) })),
      bytes: 2 ** 20 * 180,
      limit: 2 ** 28,
      secondsToLimit: n === 1 ? 37 : undefined,
    })),
    traffic: {
      requests: 500,
      errors: 0,
      p99Ms: 18.4,
      seconds: 5,
      total: { requests: 3_100, errors: 0, p99Ms: 20 },
      p99History: [10, 20, 30, 20, 10],
    },
    episode: {
      phase: "Executing",
      reason: undefined,
      summary: "payments-1x7f3 leaks memory",
      gates: BLOCK_REASONS.map((gate) => ({ gate, verdict: "Pass" as const, message: "fine" })),
      steps: [
        step("startReplacement", "Done", "started payments-4x7f3"),
        step("awaitReady", "Intended", "not ready yet, ".repeat(20)),
        step("stop", "Pending"),
      ],
    },
    feed: Array.from({ length: 40 }, (_, i) => ({ at: NOW - 1_000 * (40 - i), text: `Signal: number ${i}, ${"and so on ".repeat(20)}` })),
    ...changes,
  };
}

for (const [columns, rows] of [
  [80, 24],
  [132, 43],
  [200, 60],
  [60, 20],
  [80, 12],
] as const)
  for (const color of [false, true])
    test(`a frame fits into ${columns}x${rows}${color ? " in colour" : ""}`, () => {
      const lines = render(frame(), { columns, rows }, painter(color)).split("\n");
      assert.ok(lines.length <= rows - 1, `${lines.length} lines`);
      for (const line of lines) assert.ok(widthOf(line) <= columns, `${widthOf(line)} columns: ${line}`);
    });

test("at 80x24 a frame shows trend, time to the limit, suspect, gates, step, p99 and errors, and the newest record", () => {
  const text = render(frame(), { columns: 80, rows: 24 }, painter(false));
  assert.match(text, /payments-1x7f3 .*[▁▂▃▄▅▆▇█]{8,}.* 180 MiB 70% +37 s +suspected/);
  for (const gate of BLOCK_REASONS) assert.ok(text.includes(`✓ ${gate}`), gate);
  assert.match(text, /✓ startReplacement +1\.2 s +started payments-4x7f3/);
  assert.match(text, /▸ awaitReady/);
  assert.match(text, /p99 18 ms +0 errors/);
  assert.match(text, /number 39/);
});

test("a gate that blocks is shown with its reason", () => {
  const gates = BLOCK_REASONS.map((gate) => ({
    gate,
    verdict: gate === "DependencyUnhealthy" ? ("Block" as const) : ("Pass" as const),
    message: "bank is the cause",
  }));
  const text = render(
    frame({ episode: { phase: "Blocked", reason: "DependencyUnhealthy", summary: "", gates, steps: [] } }),
    { columns: 80, rows: 24 },
    painter(false),
  );
  assert.match(text, /✗ DependencyUnhealthy/);
  assert.match(text, /DependencyUnhealthy: bank is the cause/);
});

test("without colour there is no escape in a frame, with colour there is", () => {
  assert.ok(!render(frame(), { columns: 80, rows: 24 }, painter(false)).includes("\u001B"));
  assert.ok(render(frame(), { columns: 80, rows: 24 }, painter(true)).includes("\u001B["));
});

test("before there is anything to show, a frame is whole", () => {
  const empty = frame({
    replicas: [],
    episode: undefined,
    feed: [],
    traffic: { requests: 0, errors: 0, p99Ms: undefined, seconds: 5, total: { requests: 0, errors: 0, p99Ms: undefined }, p99History: [] },
  });
  assert.match(render(empty, { columns: 80, rows: 24 }, painter(false)), /0 requests\/s +p99 - /);
});
