import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../record/audit.ts";
import { painter, widthOf } from "./format.ts";
import { type DemoDocument, report } from "./report.ts";

const BEGAN = 1_800_000_000_000;
const iso = (seconds: number): string => new Date(BEGAN + seconds * 1_000).toISOString();

function document(changes: Partial<DemoDocument> = {}): DemoDocument {
  return {
    scenario: "leak",
    passed: true,
    promised: [{ what: "the replica that leaks was named", held: true, detail: "payments-abc leaks" }],
    healed: true,
    detectedAt: iso(20),
    secondsToLimitAtDetection: 47,
    actions: [],
    p99Ms: { before: 18.2, during: 21, after: null },
    errors: { before: 0, during: 0, after: 0 },
    requests: 4_200,
    requestsBy: { before: 1_500, during: 700, after: 2_000 },
    remediation: "default/payments-leak-1",
    remediations: [],
    heapSnapshot: { path: "/tmp/out/payments.heapsnapshot", bytes: 20 * 2 ** 20, sha256: "ab".repeat(32) },
    audit: { path: "/tmp/out/audit.jsonl", records: 31, intact: true, message: "31 records, the chain is whole" },
    pages: 0,
    diedAt: null,
    startedAt: iso(0),
    endedAt: iso(55),
    ...changes,
  };
}

const records: AuditRecord[] = [
  { type: "Started", at: BEGAN, message: "nightshift began" },
  { type: "Signal", at: BEGAN + 20_000, message: "memory-leak fires on payments-abc" },
  { type: "Page", at: BEGAN + 30_000, message: "paged" },
];

const text = (changes: Partial<DemoDocument> = {}, options: Partial<Parameters<typeof report>[0]> = {}): string =>
  report({ document: document(changes), title: "a leak", healing: true, records, columns: 80, ...options }, painter(false));

test("the report has time line, traffic, snapshot with digest and how to open it, audit record and forecast", () => {
  const found = text();
  assert.match(found, /0:20 +Signal +memory-leak fires on payments-abc/);
  assert.ok(!found.includes("nightshift began"));
  assert.match(found, /errors +0 +0 +0/);
  assert.match(found, /p99 +18 ms +21 ms +-/);
  assert.match(found, /payments\.heapsnapshot\n +20 MiB, sha256 (ab){32}/);
  assert.match(found, /Chrome DevTools > Memory > Load/);
  assert.match(found, /31 records, the chain is whole/);
  assert.match(found.replaceAll(/\s+/g, " "), /found, at 0:20, the trend said that memory would be full in 47 s, at 1:07\./);
  assert.match(found, /--no-healing/);
  assert.match(found, /leak: everything held/);
});

test("without healing the report tells the forecast and the death", () => {
  const found = text({ healed: false, heapSnapshot: null, diedAt: iso(66) }, { healing: false }).replaceAll(/\s+/g, " ");
  assert.match(found, /would be full in 47 s, at 1:07\. It died at 1:06\./);
  assert.match(found, /1:06 Death/);
  assert.ok(!found.includes("Heap snapshot"));
});

test("a promise that did not hold is told with what was seen", () => {
  const found = text({ passed: false, promised: [{ what: "one page", held: false, detail: "2 pages" }] });
  assert.match(found, /✗ one page \(2 pages\)/);
  assert.match(found, /1 of 1 did not hold/);
});

test("a fault without a trend has no forecast", () => {
  assert.ok(!text({ secondsToLimitAtDetection: null }).includes("Without healing"));
});

test("a long time line shows its beginning and its end", () => {
  const many = Array.from({ length: 200 }, (_, i): AuditRecord => ({ type: "Result", at: BEGAN + i * 100, message: `step ${i}` }));
  const found = text({}, { records: many });
  assert.match(found, /step 0\n/);
  assert.match(found, /step 199\n/);
  assert.match(found, /160 more/);
});

test("the report fits the terminal, paths and digests apart", () => {
  for (const columns of [60, 80, 200])
    for (const line of text({}, { columns }).split("\n"))
      if (!line.includes("/tmp/out") && !line.includes("sha256") && !line.includes("DevTools"))
        assert.ok(widthOf(line) <= columns, `${widthOf(line)}: ${line}`);
});
