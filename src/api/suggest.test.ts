import assert from "node:assert/strict";
import { test } from "node:test";
import { closest, editDistance } from "./suggest.ts";

test("counts insertions, deletions, replacements and swaps", () => {
  for (const [a, b, n] of [
    ["", "abc", 3],
    ["abc", "abc", 0],
    ["abc", "abd", 1],
    ["abc", "ab", 1],
    ["abc", "acb", 1],
    ["kitten", "sitting", 3],
  ] as const) {
    assert.equal(editDistance(a, b), n, `${a} ${b}`);
    assert.equal(editDistance(b, a), n, `${b} ${a}`);
  }
});

test("names what was probably meant, or nothing", () => {
  const words = ["cooldown", "windows", "mode"];
  assert.equal(closest("coldown", words), "cooldown");
  assert.equal(closest("Mode", words), "mode");
  assert.equal(closest("mdoe", words), "mode");
  assert.equal(closest("zzz", words), undefined);
  assert.equal(closest("x", []), undefined);
  assert.equal(closest("a".repeat(1_000_000), words), undefined);
});
