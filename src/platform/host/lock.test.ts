import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { lockState } from "./lock.ts";

function directory(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-lock-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

it("is held by one, named by its pid, and free once released", (t) => {
  const dir = directory(t);
  const first = lockState(dir);
  assert.throws(() => lockState(dir), { code: "STATE_IN_USE", message: new RegExp(`pid ${process.pid}\\b`) });
  first.release();
  lockState(dir).release();
});

it("is for its owner only: whoever could read it could hold it", (t) => {
  const dir = directory(t);
  const lock = lockState(join(dir, "state"));
  assert.equal(statSync(join(dir, "state")).mode & 0o777, 0o700);
  assert.equal(statSync(join(dir, "state", "nightshift.lock")).mode & 0o777, 0o600);
  lock.release();
});

it("a directory that cannot be locked is told as such", (t) => {
  const dir = directory(t);
  mkdirSync(join(dir, "nightshift.lock"));
  assert.throws(() => lockState(dir), { code: "STATE_UNUSABLE", where: join(dir, "nightshift.lock") });
});
