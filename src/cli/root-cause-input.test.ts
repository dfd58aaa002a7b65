import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import * as fc from "fast-check";
import { parseGraph, parseMetrics, readBounded } from "./root-cause-input.ts";

const bytes = (value: unknown): Buffer => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const INCIDENT = { start: 1_700_000_000, end: 1_700_003_600 };
const metrics = (points: unknown, incident: unknown = INCIDENT): ReturnType<typeof parseMetrics> =>
  parseMetrics(bytes({ series: [{ service: "a", metric: "cpu", points }], incident }), "m.json");
const read = (text: string): [number[], number[]] => {
  const [one] = parseMetrics(
    bytes(`{"series":[{"service":"a","metric":"cpu","points":${text}}],"incident":{"start":1,"end":2}}`),
    "m.json",
  ).series;
  return [[...(one?.times ?? [])], [...(one?.values ?? [])]];
};

describe("points", () => {
  test("times are seconds, milliseconds, microseconds, nanoseconds or texts", () => {
    const at = 1_700_000_000_000;
    for (const t of [
      at / 1000,
      at,
      at * 1000,
      String(at / 1000),
      "2023-11-14T22:13:20Z",
      "2023-11-14 22:13:20",
      "2023-11-14T23:13:20+01:00",
    ])
      assert.equal(metrics([[t, 1]]).series[0]?.times[0], at, String(t));
  });
  test("values are numbers or texts of numbers; null, NaN, nothing and an empty text are missing", () => {
    const [one] = metrics([[1, 2.5], [2, "3.5"], [3, null], [4, "NaN"], [5], [6, ""], null]).series;
    assert.deepEqual([...(one?.values ?? [])], [2.5, 3.5, NaN, NaN, NaN, NaN, NaN]);
  });
  test("NaN and Infinity, as Python writes them, are missing, and a text that says so stays one", () => {
    assert.deepEqual(read("[[1, NaN], [2, -Infinity], [3, 4]]"), [
      [1000, 2000, 3000],
      [NaN, NaN, 4],
    ]);
    const text = '{"series":[{"service":"NaN","metric":"cpu","points":[[1,Infinity]]}],"incident":{"start":1,"end":2}}';
    assert.equal(parseMetrics(bytes(text), "m").series[0]?.service, "NaN");
  });
  test("may be null, missing or empty", () => {
    for (const points of [null, undefined, []]) assert.equal(metrics(points).series[0]?.times.length, 0);
  });
  test("read fast are as JSON reads them", () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e15, max: 1e15 }),
      fc.integer(),
      fc.constantFrom(0, -0, 1e-7, 1.5e300, -2.5e-10, 123_456_789.123),
    );
    const blank = fc.constantFrom("", " ", "\n\t", "  ");
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: -1e9, max: 2e9 }), fc.option(number)), { maxLength: 50 }), blank, (points, space) => {
        const text = `${space}[${points.map(([t, v]) => `[${t}${space},${space}${JSON.stringify(v)}]`).join(`${space},${space}`)}${space}]`;
        const [times, values] = read(text);
        assert.deepEqual(
          times,
          points.map(([t]) => t * 1000),
        );
        values.forEach((v, i) => {
          const expected = points[i]?.[1] ?? NaN;
          assert.ok(Object.is(v, expected) || Math.abs(v - expected) <= 1e-14 * Math.abs(expected), `${v} is not ${expected}`);
        });
      }),
      { numRuns: 300 },
    );
  });
  test("a number that is none in JSON is refused", () => {
    for (const bad of ["01", "1.", ".5", "+1", "1e", "0x1", "--1", "1_0"])
      assert.throws(() => read(`[[1, ${bad}]]`), { code: "NOT_JSON", where: "m.json" }, bad);
  });
  test("a service named points does not confuse it", () => {
    const text = '{"series":[{"service":"points","metric":"\\"points","points":[[1,2]]}],"incident":{"start":1,"end":2}}';
    const [one] = parseMetrics(bytes(text), "m").series;
    assert.deepEqual([one?.service, one?.metric, one?.values[0]], ["points", '"points', 2]);
    assert.throws(() => metrics({ "@points": 0 }), { code: "INVALID_METRICS" });
  });
});

describe("the incident", () => {
  test("times may be written otherwise than those of the points", () => {
    assert.deepEqual(metrics([], { start: "2023-11-14T22:13:20Z", end: 1_700_003_600_000 }).incident, {
      start: 1_700_000_000_000,
      end: 1_700_003_600_000,
    });
  });
  test("without an end goes on", () => assert.equal(metrics([], { start: 1, end: null }).incident.end, Infinity));
});

describe("what is refused names the place and what to write instead", () => {
  for (const [text, where, message] of [
    ["[]", "g.json", /expected an object with edges, found \[\]/],
    ["{}", "g.json: edges", /is missing/],
    ['{"edges":{"a":["b"]}}', "g.json: edges", /expected a list/],
    ['{"edges":[["a","b"]]}', "g.json: edges[0]", /expected an object with from and to, found \["a","b"\]/],
    ['{"edges":[{"from":"a","to":"b"},{"source":"a","target":"b"}]}', "g.json: edges[1].from", /is missing; the edge has source, target/],
    ['{"edges":[{"from":"a","to":7}]}', "g.json: edges[0].to", /expected the name of a service, found 7/],
    ['{"edges":[{"from":"","to":"b"}]}', "g.json: edges[0].from", /expected the name/],
  ] as const)
    test(`graph ${text}`, () =>
      assert.throws(() => parseGraph(bytes(text), "g.json"), { code: "INVALID_GRAPH", where, message, fix: /\{"from": "a", "to": "b"\}/ }));
  for (const [value, where, message] of [
    [[], "m.json", /expected an object with series and incident/],
    [{ incident: INCIDENT }, "m.json: series", /is missing/],
    [{ series: [3], incident: INCIDENT }, "m.json: series[0]", /expected an object, found 3/],
    [{ series: [{ metric: "cpu" }], incident: INCIDENT }, "m.json: series[0].service", /is missing/],
    [{ series: [{ service: "a", metric: 3 }], incident: INCIDENT }, "m.json: series[0].metric", /expected a text, found 3/],
    [{ series: [{ service: "a", metric: "m", unit: 3 }], incident: INCIDENT }, "m.json: series[0].unit", /expected a text/],
    [{ series: [{ service: "a", metric: "m", points: 5 }], incident: INCIDENT }, "m.json: series[0].points", /expected a list/],
    [
      { series: [{ service: "a", metric: "m", points: [{ t: 1, v: 2 }] }], incident: INCIDENT },
      "m.json: series[0].points[0]",
      /expected \[time, value\]/,
    ],
    [
      { series: [{ service: "a", metric: "m", points: [[1, 2, 3]] }], incident: INCIDENT },
      "m.json: series[0].points[0]",
      /expected \[time, value\]/,
    ],
    [
      { series: [{ service: "a", metric: "m", points: [["soon", 2]] }], incident: INCIDENT },
      "m.json: series[0].points[0][0]",
      /expected a time, found "soon"/,
    ],
    [
      { series: [{ service: "a", metric: "m", points: [[1, "much"]] }], incident: INCIDENT },
      "m.json: series[0].points[0][1]",
      /expected a number or null/,
    ],
    [{ series: [] }, "m.json: incident", /is missing/],
    [{ series: [], incident: { end: 3 } }, "m.json: incident.start", /is missing/],
    [{ series: [], incident: { start: 5, end: 3 } }, "m.json: incident.end", /lies before/],
  ] as const)
    test(`metrics ${JSON.stringify(value)}`, () =>
      assert.throws(() => parseMetrics(bytes(value), "m.json"), { code: "INVALID_METRICS", where, message, fix: /^Write / }));
  test("what is no JSON", () => assert.throws(() => parseGraph(bytes("edges: []"), "g.json"), { code: "NOT_JSON", where: "g.json" }));
});

describe("reading files", () => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-root-cause-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "x.json");
  test("whole, with a byte order mark", async () => {
    writeFileSync(file, '\uFEFF{"edges":[]}');
    assert.deepEqual(parseGraph(await readBounded(file), file), []);
  });
  test("up to a bound, and from what has no size", async () => {
    writeFileSync(file, "x".repeat(100));
    assert.equal((await readBounded(file, 100)).length, 100);
    await assert.rejects(readBounded(file, 99), { code: "INPUT_TOO_LARGE", where: file });
    await assert.rejects(readBounded("/dev/zero", 200_000), { code: "INPUT_TOO_LARGE" });
  });
  test("that are not there, or no files", async () => {
    await assert.rejects(readBounded(join(dir, "none.json")), { code: "NO_SUCH_FILE" });
    await assert.rejects(readBounded(dir), { code: "FILE_UNREADABLE" });
  });
});
