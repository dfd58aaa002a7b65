import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Hint } from "../observe/hints.ts";
import { type HintWish, judgeHint } from "./hint.ts";

const NOW = 1_700_000_000_000;
const hint = (more: Partial<Hint> = {}): Hint => ({
  action: "pool-reset",
  saturationType: "connections",
  added: 1,
  delta: true,
  single: false,
  since: NOW - 11_000,
  t: NOW - 1_000,
  receivedAt: NOW - 900,
  traceIds: [],
  ...more,
});
const wish = (more: Partial<HintWish> = {}): HintWish => ({
  action: "pool-reset",
  saturationType: undefined,
  activeForMs: 120_000,
  bareValue: "Inconclusive",
  maxAgeMs: 300_000,
  ...more,
});
const bare = (added: number, more: Partial<Hint> = {}): Hint => hint({ action: undefined, added, ...more });
const state = (of: Hint, for_: HintWish = wish()): string => judgeHint(of, for_, NOW).state;
const why = (of: Hint, for_: HintWish = wish()): string => {
  const verdict = judgeHint(of, for_, NOW);
  return verdict.state === "Unclear" ? verdict.why : "";
};

describe("a hint that names its action", () => {
  it("asks for that action alone, whatever its number and temporality", () => {
    assert.equal(state(hint()), "Asks");
    assert.equal(state(hint({ added: 17, delta: false })), "Asks");
    assert.equal(state(hint({ action: "cache-flush" })), "Silent");
    assert.equal(state(hint({ action: "" })), "Silent");
  });

  it("asks for a saturation type where the policy names one", () => {
    assert.equal(state(hint(), wish({ saturationType: "connections" })), "Asks");
    assert.equal(state(hint(), wish({ saturationType: "memory" })), "Silent");
    assert.equal(state(hint({ saturationType: undefined }), wish({ saturationType: "memory" })), "Silent");
  });

  it("is over when it is not repeated, and never older than maxSignalAge", () => {
    assert.equal(state(hint({ t: NOW - 120_000 })), "Asks");
    assert.equal(state(hint({ t: NOW - 120_001 })), "Silent");
    assert.equal(state(hint({ t: NOW - 6_000 }), wish({ maxAgeMs: 5_000 })), "Silent");
  });

  it("is not clear where it may have been added too long ago, and over where it has become so", () => {
    const gap = hint({ since: NOW - 900_000, t: NOW - 1_000, receivedAt: NOW - 900 });
    assert.equal(state(gap), "Unclear");
    assert.match(why(gap), /too long ago to act on; the sender should export more often/);
    assert.equal(state(hint({ since: NOW - 310_000, t: NOW - 100_000, receivedAt: NOW - 100_000 })), "Silent");
  });
});

describe("a number without an action", () => {
  it("of differences, 1 can be one addition only", () => {
    assert.equal(state(bare(1)), "Asks");
    assert.equal(state(bare(1), wish({ action: "cache-flush" })), "Silent");
  });

  it("2 and 3 may be sums: nobody knows, and the fix is named", () => {
    for (const added of [2, 3])
      for (const action of ["pool-reset", "cache-flush", "restart"]) {
        assert.equal(state(bare(added), wish({ action })), "Unclear", `${added} for ${action}`);
        assert.match(
          why(bare(added), wish({ action })),
          /may be a sum of several additions; the sender should give the attribute remediation\.action/,
        );
      }
  });

  it("an exemplar of the whole shows one addition", () => {
    assert.equal(state(bare(2, { single: true }), wish({ action: "cache-flush" })), "Asks");
    assert.equal(state(bare(2, { single: true })), "Silent");
    assert.equal(state(bare(3, { single: true }), wish({ action: "restart" })), "Asks");
  });

  it("a policy may know that its sender adds once an export", () => {
    const single = { bareValue: "SingleAddition" } as const;
    assert.equal(state(bare(2), wish({ ...single, action: "cache-flush" })), "Asks");
    assert.equal(state(bare(2), wish(single)), "Silent");
    assert.equal(state(bare(4), wish(single)), "Unclear");
    assert.equal(state(bare(0.5), wish(single)), "Unclear");
  });

  it("of a cumulative counter it is never clear, whatever the policy says", () => {
    for (const added of [1, 2, 3])
      for (const bareValue of ["Inconclusive", "SingleAddition"] as const)
        assert.equal(state(bare(added, { delta: false, single: true }), wish({ bareValue })), "Unclear", String(added));
    assert.match(why(bare(1, { delta: false })), /cumulative temporality, grew by 1/);
  });

  it("says nothing to a policy whose action no number stands for", () => {
    assert.equal(state(bare(2), wish({ action: "own-action" })), "Silent");
    assert.equal(state(bare(2, { delta: false }), wish({ action: "own-action" })), "Silent");
  });

  it("is over like any other", () => {
    assert.equal(state(bare(2, { t: NOW - 200_000 })), "Silent");
  });
});
