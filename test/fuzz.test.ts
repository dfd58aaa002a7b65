import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import * as fc from "fast-check";
import { fuzzedJson } from "./fuzz/json.ts";
import { fuzzedProtobuf } from "./fuzz/protobuf.ts";
import { runTarget } from "./fuzz/run.ts";
import { ACCEPTED } from "./fuzz/target.ts";
import { TARGETS } from "./fuzz/targets/index.ts";

const worker = new URL("fuzz/broken-worker.ts", import.meta.url);

describe("the fuzz lane", () => {
  function broken(t: TestContext, target: string, options: { readonly stuckMs?: number } = {}) {
    const directory = mkdtempSync(join(tmpdir(), "nightshift-fuzz-"));
    t.after(() => rmSync(directory, { recursive: true }));
    return runTarget({ target, seed: 1, runs: 2_000, directory, worker, ...options });
  }

  it("finds an input that breaks a property, as small as it can be, and stores it", async (t) => {
    const { failure } = await broken(t, "throws");
    assert.match(failure?.message ?? "", /^TypeError: a quote and a brace/);
    assert.equal(readFileSync(failure?.file ?? "").toString(), '{"');
    assert.match(failure?.replay ?? "", /--target throws --replay .*\.bin$/);
  });

  it("finds an input that never ends, and one that takes all memory", async (t) => {
    const never = await broken(t, "never-ends", { stuckMs: 2_000 });
    assert.match(never.failure?.message ?? "", /did not come to its end in 2 s/);
    assert.match(readFileSync(never.failure?.file ?? "").toString(), /^\{/);
    const large = await broken(t, "takes-all");
    assert.match(large.failure?.message ?? "", /memory limit|out of memory/i);
    assert.match(readFileSync(large.failure?.file ?? "").toString(), /^\{/);
  });

  it("makes the same inputs of the same seed, and others of another", () => {
    for (const target of TARGETS) {
      const made = (seed: number): string[] =>
        fc.sample(target.inputs, { numRuns: 20, seed }).map((input) => Buffer.from(input).toString("hex"));
      assert.deepEqual(made(1), made(1), target.name);
      assert.notDeepEqual(made(1), made(2), target.name);
    }
  });

  it("makes inputs that are understood in part: of each target some are accepted, and of nearly each some are refused", () => {
    for (const target of TARGETS) {
      for (const seed of target.seeds) target.check(seed);
      const outcomes = fc.sample(target.inputs, { numRuns: 60, seed: 7 }).map((input) => target.check(input));
      const accepted = outcomes.filter((outcome) => outcome === ACCEPTED).length;
      assert.ok(accepted > 2, `${target.name}: only ${accepted} of 60 are accepted`);
      if (!target.name.endsWith("-alike")) assert.ok(accepted < 58, `${target.name}: ${accepted} of 60 are accepted`);
    }
  });

  it("changes protobuf and JSON where they are: most of what comes out is still protobuf, or JSON", () => {
    const isJson = (bytes: Uint8Array): boolean => {
      try {
        JSON.parse(Buffer.from(bytes).toString());
        return true;
      } catch {
        return false;
      }
    };
    const json = fc.sample(fuzzedJson([Buffer.from('{"a":[1,{"b":"c"}]}')]), { numRuns: 300, seed: 1 });
    assert.ok(json.filter(isJson).length > 150);
    assert.ok(new Set(json.map((bytes) => Buffer.from(bytes).toString())).size > 150);
    const [seed = assert.fail()] = TARGETS[0]?.seeds ?? [];
    const protobuf = fc.sample(fuzzedProtobuf([seed]), { numRuns: 300, seed: 1 });
    const understood = protobuf.filter((bytes) => TARGETS[0]?.check(bytes) === ACCEPTED).length;
    assert.ok(understood > 60 && understood < 290, String(understood));
  });
});
