import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { request } from "node:http";
import { after, before, beforeEach, afterEach, describe, it } from "node:test";
import { type ActionAnswer, ACTIONS_PATH, AHEAD_MS, HEADERS, LATE_MS, signedText, type SignedRequest } from "./protocol.ts";
import { type Actions, serveActions } from "./serve.ts";

const UID = "0f5a7c1e";
const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();

let keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
let actions: Actions;
let number = 0;

/** A request of Nightshift's, with what is wrong about it. */
interface Ask extends Partial<SignedRequest> {
  readonly key?: KeyObject;
  /** What is sent in the place of what was signed. */
  readonly sent?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly body?: string;
}

function ask({ key = keys.privateKey, sent = {}, path, body, ...rest }: Ask = {}): Promise<{
  status: number;
  text: string;
  answer: ActionAnswer;
}> {
  const now = Date.now();
  const wanted: SignedRequest = {
    method: "POST",
    action: "pool-reset",
    target: UID,
    effect: `prod/r-1/0/${number++}`,
    intended: now,
    time: now,
    ...rest,
  };
  const headers = {
    [HEADERS.target]: wanted.target,
    [HEADERS.effect]: wanted.effect,
    [HEADERS.intended]: String(wanted.intended),
    [HEADERS.time]: String(wanted.time),
    [HEADERS.signature]: sign(null, Buffer.from(signedText(wanted)), key).toString("base64"),
    ...sent,
  };
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: "127.0.0.1",
        port: actions.port,
        method: sent["method"] ?? wanted.method,
        path: path ?? `${ACTIONS_PATH}${wanted.action}`,
        headers,
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, text, answer: (text === "" ? {} : JSON.parse(text)) as ActionAnswer }),
        );
      },
    );
    call.on("error", reject);
    call.end(body);
  });
}

before(() => {
  keys = generateKeyPairSync("ed25519");
});

beforeEach(async () => {
  actions = await serveActions({ key: pem(keys.publicKey), uid: UID, port: 0, timeoutMs: 2_000 });
});

afterEach(() => actions.close());

describe("who is let in", () => {
  let calls = 0;
  beforeEach(() => {
    calls = 0;
    actions.onPoolReset(() => void (calls += 1));
  });

  it("does what Nightshift's signature is under, and says what was done", async () => {
    actions.on("reload", () => "read 3 files");
    const { status, answer } = await ask({ action: "reload" });
    assert.equal(status, 200);
    assert.equal(answer.state, "Applied");
    assert.equal(answer.message, "read 3 files");
  });

  it("tells nobody else anything", async () => {
    const other = generateKeyPairSync("ed25519");
    const wrong: Record<string, Ask> = {
      "another's key": { key: other.privateKey },
      "no signature": { sent: { [HEADERS.signature]: "" } },
      "a signature that is none": { sent: { [HEADERS.signature]: "AAAA" } },
      "another method": { sent: { method: "PUT" } },
      "what was signed for a look": { method: "GET", sent: { method: "POST" } },
      "another action": { path: `${ACTIONS_PATH}cache-flush` },
      "another path": { path: "/" },
      "a path with more": { path: `${ACTIONS_PATH}pool-reset?x=1` },
      "another effect": { sent: { [HEADERS.effect]: "prod/r-2/0/0" } },
      "another time": { sent: { [HEADERS.time]: String(Date.now() + 5) } },
      "another target": { sent: { [HEADERS.target]: "another" } },
      "another decision": { sent: { [HEADERS.intended]: "1" } },
      "a time that is none": { sent: { [HEADERS.time]: "soon" } },
    };
    for (const [what, each] of Object.entries(wrong)) {
      const { status, text } = await ask(each);
      assert.deepEqual([status, text], [401, ""], what);
    }
    assert.equal(calls, 0);
  });

  it("reads no body", async () => {
    assert.equal((await ask({ body: "x" })).status, 413);
    assert.equal(calls, 0);
  });

  it("refuses what was signed for another replica, or at another time", async () => {
    assert.equal((await ask({ target: "another" })).status, 403);
    for (const off of [-LATE_MS - 500, AHEAD_MS + 2_000])
      assert.equal((await ask({ time: Date.now() + off, intended: Date.now() + off })).status, 403);
    assert.equal(calls, 0);
  });

  it("takes any of several keys, and refuses a private one or another kind", async () => {
    const next = generateKeyPairSync("ed25519");
    const both = await serveActions({ key: pem(keys.publicKey) + pem(next.publicKey), uid: UID, port: 0 });
    await both.close();
    const secret = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await assert.rejects(serveActions({ key: secret, uid: UID, port: 0 }), { code: "INVALID_KEY" });
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    await assert.rejects(serveActions({ key: pem(rsa.publicKey), uid: UID, port: 0 }), { code: "INVALID_KEY" });
    await assert.rejects(serveActions({ key: "hello", uid: UID, port: 0 }), { code: "INVALID_KEY" });
  });

  it("does not begin without a key, a uid or a port", async () => {
    await assert.rejects(serveActions({ uid: UID, port: 0 }), { code: "NO_KEY" });
    await assert.rejects(serveActions({ key: pem(keys.publicKey), port: 0 }), { code: "NO_TARGET" });
    await assert.rejects(serveActions({ key: pem(keys.publicKey), uid: UID }), { code: "NO_PORT" });
  });
});

describe("what is done", () => {
  it("is done once for an id, however often it is asked for", async () => {
    let calls = 0;
    actions.onPoolReset(async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return `call ${(calls += 1)}`;
    });
    const effect = "prod/r-9/0/0";
    const [first, second] = await Promise.all([ask({ effect }), ask({ effect })]);
    const third = await ask({ effect });
    const look = await ask({ effect, method: "GET" });
    for (const { answer } of [first, second, third, look]) assert.deepEqual([answer.state, answer.message], ["Applied", "call 1"]);
    assert.equal(calls, 1);
  });

  it("is not begun by a look", async () => {
    let calls = 0;
    actions.onCacheFlush(() => void (calls += 1));
    assert.equal((await ask({ action: "cache-flush", method: "GET" })).answer.state, "NotApplied");
    assert.equal(calls, 0);
  });

  it("is one at a time", async () => {
    let end: () => void = () => undefined;
    actions.onPoolReset(() => new Promise((resolve) => (end = () => resolve("done"))));
    actions.onCacheFlush(() => undefined);
    const effect = "prod/r-8/0/0";
    const first = ask({ effect });
    while ((await ask({ effect, method: "GET" })).answer.state !== "Running") await new Promise((resolve) => setTimeout(resolve, 5));
    const other = await ask({ action: "cache-flush" });
    assert.equal(other.answer.state, "NotApplied");
    assert.match(other.answer.message, /pool-reset is still under way/);
    end();
    assert.equal((await first).answer.state, "Applied");
    assert.equal((await ask({ action: "cache-flush" })).answer.state, "Applied");
  });

  it("fails with what its handler threw, and is not tried again", async () => {
    let calls = 0;
    actions.onPoolReset(() => {
      calls += 1;
      throw new Error("the database is down");
    });
    const effect = "prod/r-7/0/0";
    for (const method of ["POST", "POST", "GET"] as const) {
      const { answer } = await ask({ effect, method });
      assert.deepEqual([answer.state, answer.message], ["Failed", "the database is down"]);
    }
    assert.equal(calls, 1);
  });

  it("is known to be done, however much its handler says of it", async () => {
    actions.on("talk", () => "x".repeat(100_000));
    actions.on("fail", () => {
      throw new Error("y".repeat(100_000));
    });
    for (const [action, state] of [
      ["talk", "Applied"],
      ["fail", "Failed"],
    ] as const) {
      const { answer } = await ask({ action, effect: `prod/${action}/0/0` });
      assert.deepEqual([answer.state, answer.message.length], [state, 1_000]);
    }
  });

  it("fails when its time is up, and nothing is begun before it has really ended", async () => {
    let aborted = false;
    let end: () => void = () => undefined;
    actions.onPoolReset(({ signal }) => {
      signal.addEventListener("abort", () => (aborted = true));
      return new Promise((resolve) => (end = () => resolve("late")));
    });
    const { answer } = await ask();
    assert.equal(answer.state, "Failed");
    assert.match(answer.message, /did not end within 2000 ms/);
    assert.ok(aborted);
    assert.match((await ask()).answer.message, /still under way/);
    end();
  });

  it("is said not to be known where the process began after it was decided", async () => {
    let calls = 0;
    actions.onPoolReset(() => void (calls += 1));
    const intended = Date.now() - 60_000;
    for (const method of ["POST", "GET"] as const) assert.equal((await ask({ intended, method })).answer.state, "Unknown");
    // Both times are by Nightshift's clock: that it is ahead of this one changes nothing.
    const ahead = Date.now() + 1_000;
    assert.equal((await ask({ time: ahead, intended: ahead - 60_000 })).answer.state, "Unknown");
    assert.equal((await ask({ time: ahead, intended: ahead })).answer.state, "Applied");
    assert.equal(calls, 1);
  });

  it("is what it has a handler for", async () => {
    actions.onPoolReset(() => undefined);
    const { answer } = await ask({ action: "cache-flush" });
    assert.equal(answer.state, "NotApplied");
    assert.match(answer.message, /pool-reset/);
    assert.throws(() => actions.onPoolReset(() => undefined), { code: "ACTION_TAKEN" });
    assert.throws(() => actions.on("../x", () => undefined), { code: "INVALID_ACTION" });
  });
});

after(() => assert.ok(number > 0));
