import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { anyOf, bearerCheck, derivedToken, MIN_TOKEN_LENGTH, mountedTokenCheck, readOrCreateToken } from "./token.ts";

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

const asked = (token: string): { authorization: string; method: string; path: string } => ({
  authorization: `Bearer ${token}`,
  method: "POST",
  path: "/v1/metrics",
});

describe("a derived token", () => {
  it("is the same each time, another for another purpose or token, long enough, and shows nothing of the first", () => {
    const token = "a".repeat(43);
    const derived = derivedToken(token, "otlp");
    assert.equal(derivedToken(token, "otlp"), derived);
    assert.equal(new Set([token, derived, derivedToken(token, "other"), derivedToken("b".repeat(43), "otlp")]).size, 4);
    assert.ok(derived.length >= MIN_TOKEN_LENGTH && !derived.includes(token));
    assert.equal(bearerCheck(token)(`Bearer ${derived}`), false);
  });
});

describe("a mounted token", () => {
  it("is followed through a link, read again after a rotation, and closed while it is missing or weak", async () => {
    const dir = await mkdtemp(join(tmpdir(), "nightshift-token-"));
    try {
      const clock = new ManualClock();
      await writeFile(join(dir, "..data"), "first-token-1234567890\n", { mode: 0o644 });
      await symlink(join(dir, "..data"), join(dir, "token"));
      const check = mountedTokenCheck(join(dir, "token"), clock);
      assert.equal(await check(asked("first-token-1234567890")), true);
      assert.equal(await check(asked("second-token-123456789")), false);
      await writeFile(join(dir, "..data"), "second-token-123456789\n");
      await clock.advance(5_000);
      assert.equal(await check(asked("second-token-123456789")), true);
      assert.equal(await check(asked("first-token-1234567890")), false);
      for (const text of ["", "short"]) {
        await writeFile(join(dir, "..data"), text);
        await clock.advance(5_000);
        await assert.rejects(async () => check(asked(text)), { code: "AUTH_UNAVAILABLE" });
        assert.equal(await check(asked(text)), false);
        assert.equal(await check(asked("second-token-123456789")), false);
      }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});

describe("several ways in", () => {
  const no = (): boolean => false;
  const cannotTell = (): never => {
    throw new Error("cannot tell");
  };
  it("let in what one of them lets in, also when another cannot tell", async () => {
    assert.equal(await anyOf(no, () => true)(asked("x")), true);
    assert.equal(await anyOf(cannotTell, async () => true)(asked("x")), true);
    assert.equal(await anyOf(no, no)(asked("x")), false);
    assert.equal(await anyOf()(asked("x")), false);
  });
  it("fail when none lets in and one could not tell", async () => {
    await assert.rejects(async () => anyOf(no, cannotTell, no)(asked("x")), /cannot tell/);
  });
});
