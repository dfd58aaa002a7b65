import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { check, FAMILIES, mutate } from "./mutants/mutant.ts";
import { MUTANTS } from "./mutants/mutants.ts";
import { readFound, readSeeds, tablePath, tableText } from "./mutants/table.ts";

test("an edit changes the one place that it names, and is refused where that is gone or not the only one", () => {
  const edit = { file: "f.ts", find: "a > b", replace: "a < b" };
  assert.equal(mutate("if (a > b) c();", edit, "m"), "if (a < b) c();");
  assert.throws(() => mutate("if (a >= b) c();", edit, "m"), /mutant m: its text occurs 0 times in f\.ts/);
  assert.throws(() => mutate("a > b; a > b", edit, "m"), /occurs 2 times/);
});

test("every mutant is of the source as it is, changes it, and has a name of its own", () => {
  assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  for (const mutant of MUTANTS) check(mutant);
});

test("there are mutants of every family, and each of them was found", () => {
  const found = readFound();
  assert.deepEqual([...new Set(MUTANTS.map(({ family }) => family))], [...FAMILIES]);
  assert.deepEqual(
    MUTANTS.map(({ name }) => name).filter((name) => found[name] === undefined),
    [],
    "search them: npm run mutants -- --write NAME...",
  );
});

test("the table has what was found", () => {
  assert.equal(readFileSync(tablePath, "utf8"), tableText(readFound(), readSeeds()), "write it anew: npm run mutants -- --write NAME...");
});
