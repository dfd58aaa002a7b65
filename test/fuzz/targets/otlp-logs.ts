import assert from "node:assert/strict";
import { LogBook, type LogQuery, MAX_BODY } from "../../../src/observe/logs.ts";
import { decodeLogsJson } from "../../../src/observe/otlp/logs-json.ts";
import type { LogsRequest } from "../../../src/observe/otlp/logs-model.ts";
import { decodeLogsProtobuf } from "../../../src/observe/otlp/logs-protobuf.ts";
import { LogReceiver } from "../../../src/observe/otlp/logs.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "../../../src/observe/otlp/model.ts";
import { fuzzedJson } from "../json.ts";
import { fuzzedProtobuf } from "../protobuf.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = 1_800_000_000_000;
const LIMITS: OtlpLimits = { ...DEFAULT_OTLP_LIMITS, maxPoints: 40, maxItems: 40, maxAttributes: 16, maxTextLength: 64, maxValueDepth: 4 };
const CODES = new Set(["MALFORMED_OTLP", "TOO_DEEP", "TOO_MANY_ITEMS"]);
const KEYS = new Set(["error.type", "ready"]);
const clock = { now: () => NOW, monotonic: () => 0, after: () => () => {} };

/** All records, those of errors, and those of errors about a pool: each is a part of the one before. */
const QUERIES: readonly LogQuery[] = [
  { severity: 0, body: undefined, attributes: {} },
  { severity: 17, body: undefined, attributes: {} },
  { severity: 17, body: "pool (exhausted|closed)", attributes: {} },
  { severity: 17, body: "pool (exhausted|closed)", attributes: { "error.type": "PoolTimeout" } },
];

function holds(request: LogsRequest): void {
  const records = request.resources.flatMap((resource) => resource.records);
  assert.ok(request.resources.length <= LIMITS.maxItems && records.length <= LIMITS.maxPoints);
  for (const { t, severity, body, attributes, traceId } of records) {
    assert.ok(Number.isSafeInteger(t) && t >= 0, `at ${t}`);
    assert.ok(Number.isInteger(severity) && severity >= 0 && severity <= 24, `severity ${severity}`);
    assert.ok(typeof body === "string" && body.length <= MAX_BODY && typeof traceId === "string");
    for (const [key, value] of attributes) assert.ok(KEYS.has(key) && typeof value === "string");
  }
}

/** A whole request, counted for policies: every record is looked at or refused for a reason, and none counts that is not there. */
function receive(input: Uint8Array, encoding: "protobuf" | "json", request: LogsRequest): void {
  const book = new LogBook(clock);
  const uids = [...new Set(request.resources.map(({ identity }) => identity.instanceId ?? ""))];
  const counts = (): number[] =>
    QUERIES.map((query) => uids.reduce((sum, uid) => sum + (book.count(uid, query, NOW - 3_600_000)?.total ?? assert.fail()), 0));
  assert.deepEqual(
    counts(),
    QUERIES.map(() => 0),
  );
  const sink = {
    logsActive: true,
    logAttributeKeys: () => KEYS,
    recordLog: (uid: string, record: Parameters<LogBook["record"]>[1]) => book.record(uid, record),
  };
  const receiver = new LogReceiver({ sink, clock, limits: LIMITS });
  const all = request.resources.reduce((sum, { records }) => sum + records.length, request.overLimit);
  const { accepted, rejected, message } = receiver.receive(input, encoding);
  assert.equal(accepted + rejected, all);
  assert.equal(rejected > 0, message !== "");
  const [any = 0, ...parts] = counts();
  assert.ok(any <= accepted, `${any} of ${accepted} count`);
  parts.reduce((whole, part) => (assert.ok(part <= whole, `${part} of ${whole}`), part), any);
  for (const uid of uids) {
    const { first, last, total, heardAt, traceIds } = book.count(uid, QUERIES[0] ?? assert.fail(), NOW - 3_600_000) ?? assert.fail();
    assert.equal(total > 0, first !== undefined && last !== undefined);
    assert.ok(total === 0 || ((first ?? NaN) <= (last ?? NaN) && (last ?? NaN) <= NOW && heardAt === NOW));
    for (const id of traceIds) assert.match(id, /^[0-9a-f]{32}$/);
  }
}

function target(name: string, seeds: readonly Uint8Array[], encoding: "protobuf" | "json"): FuzzTarget {
  const decode = encoding === "protobuf" ? decodeLogsProtobuf : decodeLogsJson;
  return {
    name,
    seeds,
    inputs:
      encoding === "protobuf"
        ? fuzzedProtobuf(seeds)
        : fuzzedJson(seeds, ["SEVERITY_NUMBER_ERROR2", "kvlistValue", "observedTimeUnixNano"]),
    check: (input) =>
      decoded(
        encoding === "protobuf" ? CODES : new Set([...CODES, "MALFORMED_JSON"]),
        () => decode(input, LIMITS, KEYS),
        (request) => {
          holds(request);
          receive(input, encoding, request);
        },
      ),
  };
}

export const otlpLogsProtobuf = target("otlp-logs-protobuf", seedsOf("otlp-logs-protobuf"), "protobuf");
export const otlpLogsJson = target("otlp-logs-json", seedsOf("otlp-logs-json"), "json");
