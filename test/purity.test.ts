import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, it } from "node:test";

const root = resolve(import.meta.dirname, "..");

const IMPURE: Readonly<Record<string, string>> = {
  Date: "export const x = Date.now();",
  "Math.random": "export const x = Math.random();",
  setTimeout: "export const x = setTimeout(() => 1, 1);",
  "node:fs": 'import { readFileSync } from "node:fs";\nexport const x = readFileSync("x");',
  process: "export const x = process.env;",
  console: 'export const x = (): void => console.log("x");',
  performance: "export const x = performance.now();",
  crypto: "export const x = crypto.randomUUID();",
};

describe("the lint rule that keeps api, orient and decide pure", () => {
  for (const room of ["api", "orient", "decide"])
    for (const [what, code] of Object.entries(IMPURE))
      it(`refuses ${what} in ${room}`, () => {
        const dir = mkdtempSync(join(tmpdir(), "nightshift-purity-"));
        try {
          cpSync(join(root, ".oxlintrc.json"), join(dir, ".oxlintrc.json"));
          mkdirSync(join(dir, "src", room), { recursive: true });
          writeFileSync(join(dir, "src", room, "x.ts"), `${code}\n`);
          const lint = spawnSync(join(root, "node_modules/.bin/oxlint"), ["--deny-warnings", "src"], { cwd: dir, encoding: "utf8" });
          assert.match(lint.stdout, /no-restricted-(globals|properties|imports)/);
          assert.notEqual(lint.status, 0);
        } finally {
          rmSync(dir, { recursive: true, force: true });
        }
      });
});
