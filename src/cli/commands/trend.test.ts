import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { analyseTrend } from "../../orient/trend.ts";
import { FloorBuffer, readSeries, type TrendReport } from "./trend.ts";

const MAIN = `
  const { Command } = await import("commander");
  const { register } = await import(${JSON.stringify(new URL("./trend.ts", import.meta.url).href)});
  const program = new Command();
  register(program);
  await program.parseAsync(["node", "nightshift", "trend", ...process.argv.slice(1)]);
`;

/** Runs the command in a process of its own. */
async function trend(args: readonly string[], input: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", MAIN, "--", ...args], { cwd: import.meta.dirname, stdio: "pipe" });
  // It may end before it has read everything: that is what a bad line does.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: code as number, stdout, stderr };
}

const lines = (count: number, f: (t: number) => number, step = 1): string[] =>
  Array.from({ length: count }, (_, i) => JSON.stringify({ t: 1_700_000_000 + i * step, v: f(i * step) }));
const leak = lines(30, (t) => 60e6 + 3e6 * t);

describe("nightshift trend", () => {
  test("a leak: exit 0, the five fields and nothing else", async () => {
    const { code, stdout } = await trend(["--limit", "256Mi", "--json"], leak.join("\n"));
    assert.equal(code, 0);
    const report = JSON.parse(stdout) as TrendReport;
    assert.deepEqual(Object.keys(report), ["leaking", "slopePerSecond", "secondsToLimit", "confidence", "reason"]);
    assert.equal(report.leaking, true);
    assert.ok(Math.abs(report.slopePerSecond - 3e6) < 1e3);
    assert.ok(Math.abs((report.secondsToLimit ?? 0) - (256 * 2 ** 20 - 147e6) / 3e6) < 1);
  });
  test("no leak: exit 0, secondsToLimit is null", async () => {
    const { code, stdout } = await trend(["--limit", "268435456", "--json"], lines(100, () => 60e6).join("\n"));
    assert.equal(code, 0);
    const report = JSON.parse(stdout) as TrendReport;
    assert.deepEqual([report.leaking, report.secondsToLimit, report.slopePerSecond], [false, null, 0]);
  });
  test("nothing on stdin is no leak", async () => {
    const { code, stdout } = await trend(["--limit", "1Gi", "--json"], "");
    assert.deepEqual([code, (JSON.parse(stdout) as TrendReport).reason], [0, "there are no samples"]);
  });
  test("for people: the verdict, slope, limit and confidence", async () => {
    const { stdout } = await trend(["--limit", "256Mi"], leak.join("\n"));
    assert.match(
      stdout,
      /^LEAK: the floor grows by 3\.0 MB\/s.*\n {2}slope +3\.0 MB\/s\n {2}limit +268\.4 MB, reached in \d+ s\n {2}confidence +99\.9%/,
    );
    assert.match((await trend(["--limit", "256Mi"], "")).stdout, /^no leak: there are no samples\n/);
  });
  test("unordered lines, duplicates, further fields, blank lines, CRLF and a byte order mark do not matter", async () => {
    const odd = [...leak.slice(15), "", ...leak.slice(0, 20), '{"t": 1700000000, "v": 60000000, "pod": {"name": "x"}}'];
    const { code, stdout } = await trend(["--limit", "256Mi", "--json"], `\uFEFF${odd.join("\r\n")}\r\n`);
    assert.equal(code, 0);
    assert.equal(stdout, (await trend(["--limit", "256Mi", "--json"], leak.join("\n"))).stdout);
  });
  for (const [what, line, message] of [
    ["no JSON", "t=1 v=2", /not JSON: t=1 v=2/],
    ["NaN", '{"t": 1, "v": NaN}', /not JSON/],
    ["a cut line", '{"t": 1, "v"', /not JSON/],
    ["no object", "[1, 2]", /expected an object/],
    ["a missing field", '{"t": 1}', /v is missing/],
    ["null", '{"t": 1, "v": null}', /v is null/],
    ["a text", '{"t": "1", "v": 2}', /t is "1"/],
    ["infinity", '{"t": 1, "v": 1e999}', /v is .*too large/],
  ] as const)
    test(`${what} is refused by its line's number`, async () => {
      const input = [...leak.slice(0, 4), line, ...leak.slice(4)].join("\n");
      await assert.rejects(readSeries(Readable.from([input]) as AsyncIterable<string>), {
        code: "BAD_LINE",
        where: "stdin, line 5",
        message,
      });
    });
  test("a bad line: exit 2, its number on stderr, nothing on stdout", async () => {
    const { code, stderr, stdout } = await trend(["--limit", "256Mi"], [...leak, "{"].join("\n"));
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^nightshift: stdin, line 31: not JSON: \{ \[BAD_LINE\]/);
  });
  test("a limit that is none is refused", async () => {
    for (const limit of ["256MiB", "0"]) {
      const { code, stderr } = await trend([`--limit=${limit}`], leak.join("\n"));
      assert.deepEqual([code, /--limit: not a limit.*\[INVALID_LIMIT\]/.test(stderr)], [2, true], limit);
    }
  });
});

describe("reading", () => {
  test("lines may be cut anywhere between chunks", async () => {
    const all = leak.join("\n");
    for (const size of [1, 7, 64]) {
      const chunks = Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
      assert.equal((await readSeries(Readable.from(chunks) as AsyncIterable<string>)).points.length, 30);
    }
  });
  test("a line without end is refused before it fills the memory", async () => {
    async function* endless(): AsyncGenerator<string> {
      for (;;) yield "1".repeat(10_000);
    }
    await assert.rejects(readSeries(endless()), { code: "BAD_LINE", where: "stdin, line 1" });
  });
  test("memory is bounded, the floor survives, and so does the verdict", () => {
    for (const [growth, leaking] of [
      [1000, true],
      [0, false],
    ] as const) {
      const buffer = new FloorBuffer(2000);
      for (let t = 0; t < 100_000; t++) {
        buffer.add({ t: t * 1000, v: 60e6 + growth * t + 200e3 * (t % 50) });
        assert.ok(buffer.points.length < 2000);
      }
      const low = Math.min(...buffer.points.map((p) => p.v));
      assert.equal(low, 60e6);
      assert.equal(analyseTrend(buffer.points, { limit: 512e6 }).leaking, leaking);
    }
  });
});
