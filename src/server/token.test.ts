import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { bearerCheck, readOrCreateToken } from "./token.ts";

describe("the token's file", () => {
  let dir = "";
  before(async () => void (dir = await mkdtemp(join(tmpdir(), "nightshift-token-"))));
  after(() => rm(dir, { recursive: true, force: true }));

  it("is made once, for its owner only, and read after that", async () => {
    const path = join(dir, "state", "token");
    const token = await readOrCreateToken(path);
    assert.match(token, /^[\w-]{43}$/);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.equal(await readOrCreateToken(path), token);
    assert.deepEqual(await readdir(join(dir, "state")), ["token"], "nothing else is left");
  });

  it("is the same for all that make it at once", async () => {
    const path = join(dir, "race");
    const tokens = await Promise.all(Array.from({ length: 20 }, () => readOrCreateToken(path)));
    assert.equal(new Set(tokens).size, 1);
    assert.equal((await readFile(path, "utf8")).trim(), tokens[0]);
  });

  it("is refused when others may read it, when it is short, and when it is a link", async () => {
    const exposed = join(dir, "exposed");
    await writeFile(exposed, "x".repeat(40));
    await chmod(exposed, 0o644);
    await assert.rejects(readOrCreateToken(exposed), { code: "TOKEN_EXPOSED" });
    await chmod(exposed, 0o640);
    await assert.rejects(readOrCreateToken(exposed), { code: "TOKEN_EXPOSED" });
    const short = join(dir, "short");
    await writeFile(short, "abc\n", { mode: 0o600 });
    await assert.rejects(readOrCreateToken(short), { code: "TOKEN_WEAK" });
    const empty = join(dir, "empty");
    await writeFile(empty, "", { mode: 0o600 });
    await assert.rejects(readOrCreateToken(empty), { code: "TOKEN_WEAK" });
    await symlink(join(dir, "race"), join(dir, "link"));
    await assert.rejects(readOrCreateToken(join(dir, "link")), { code: "TOKEN_UNREADABLE" });
    await assert.rejects(readOrCreateToken(dir), { code: /TOKEN_/ });
  });

  it("an empty or short token never opens a door", () => {
    assert.throws(() => bearerCheck(""), { code: "TOKEN_WEAK" });
    const check = bearerCheck("0123456789abcdef");
    assert.equal(check("Bearer 0123456789abcdef"), true);
    for (const given of [undefined, "", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcdef x", "0123456789abcdef"])
      assert.equal(check(given), false, given);
  });
});
