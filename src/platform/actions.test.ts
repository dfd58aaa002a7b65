import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, it } from "node:test";
import { type Actions, serveActions } from "../../hints/serve.ts";
import { ActionCaller, type ActionAddress, type InvokeAction, newActionKey } from "./actions.ts";
import { systemClock } from "./host/clock.ts";

const UID = "u1";
const never = new AbortController().signal;
const replica = { kind: "Pod", namespace: "shop", name: "payments-1", uid: UID };
let number = 0;
const effect = (over: Partial<InvokeAction> = {}): InvokeAction => ({
  id: `shop/r/0/${number++}`,
  type: "InvokeAction",
  replica,
  action: "pool-reset",
  intendedAt: Date.now(),
  ...over,
});

describe("a caller and an application", () => {
  const caller = new ActionCaller(newActionKey(), systemClock);
  let actions: Actions;
  let address: ActionAddress;

  beforeEach(async () => {
    actions = await serveActions({ key: caller.publicKey, uid: UID, port: 0, timeoutMs: 60_000 });
    address = { host: "127.0.0.1", port: actions.port, uid: UID };
  });
  afterEach(() => actions.close());

  it("understand each other", async () => {
    actions.onPoolReset(() => "replaced 3 connections");
    const reset = effect();
    assert.deepEqual(await caller.observe(reset, address), { state: "NotApplied" });
    assert.match((await caller.invoke(reset, address, never)).message, /^pool-reset: replaced 3 connections \(\d+ ms\)$/);
    assert.deepEqual(await caller.observe(reset, address), {
      state: "Applied",
      result: { message: "pool-reset: replaced 3 connections" },
    });
  });

  it("wait for what is under way, and tell it from what is not known", async () => {
    let end: () => void = () => undefined;
    actions.onPoolReset(() => new Promise((resolve) => (end = () => resolve("late"))));
    const reset = effect();
    const limit = new AbortController();
    const asked = caller.invoke(reset, address, limit.signal);
    setTimeout(() => limit.abort(), 200);
    await assert.rejects(asked, { code: "EFFECT_UNKNOWN" });
    const observed = caller.observe(reset, address);
    setTimeout(() => end(), 300);
    assert.equal((await observed).state, "Applied");
    const before = effect({ intendedAt: Date.now() - 60_000 });
    assert.equal((await caller.observe(before, address)).state, "Unknown");
    await assert.rejects(caller.invoke(before, address, never), { code: "EFFECT_UNKNOWN" });
  });

  it("refuse another's key, and another replica", async () => {
    actions.onPoolReset(() => undefined);
    const stranger = new ActionCaller(newActionKey(), systemClock);
    const refused = effect();
    await assert.rejects(stranger.invoke(refused, address, never), { code: "ACTION_REFUSED", message: /public key/ });
    assert.deepEqual(await stranger.observe(refused, address), { state: "NotApplied" }, "so that the ladder goes on");
    assert.equal((await stranger.observe(effect(), address)).state, "Unknown");
    await assert.rejects(caller.invoke(effect(), { ...address, uid: "u2" }, never), { code: "ACTION_REFUSED", message: /another replica/ });
  });
});

describe("a caller", () => {
  const caller = new ActionCaller(newActionKey(), systemClock);
  let server: Server;
  let address: ActionAddress;
  let answer: (path: string) => { status: number; body: string; headers?: Record<string, string> };

  beforeEach(async () => {
    server = createServer((request, response) => {
      const { status, body, headers } = answer(request.url ?? "");
      response.writeHead(status, headers).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    address = { host: "127.0.0.1", port: (server.address() as AddressInfo).port, uid: UID };
  });
  afterEach(() => new Promise<void>((resolve) => server.close(() => resolve())));

  it("takes nothing for an answer that is none, follows no redirect, and reads no more than it needs", async () => {
    const paths: string[] = [];
    const answers: ReturnType<typeof answer>[] = [
      { status: 200, body: "" },
      { status: 200, body: "{" },
      { status: 200, body: "null" },
      { status: 200, body: '{"state":"Done"}' },
      { status: 500, body: '{"state":"Applied","message":"x"}' },
      { status: 302, body: "", headers: { location: "/elsewhere" } },
      { status: 200, body: JSON.stringify({ state: "Applied", message: "x".repeat(200_000) }) },
    ];
    for (const each of answers) {
      answer = (path) => {
        paths.push(path);
        return each;
      };
      const reset = effect();
      await assert.rejects(caller.invoke(reset, address, never), { code: "EFFECT_UNKNOWN" }, JSON.stringify(each).slice(0, 80));
      assert.equal((await caller.observe(reset, address)).state, "Unknown");
    }
    assert.deepEqual([...new Set(paths)], ["/nightshift/v1/actions/pool-reset"]);
  });

  it("asks again where the answer was lost, and the replica does it once", async () => {
    let asked = 0;
    answer = () => ({ status: 200, body: (asked += 1) < 3 ? "" : '{"state":"Applied","message":"as before"}' });
    assert.match((await caller.invoke(effect(), address, never)).message, /as before/);
    assert.equal(asked, 3);
  });

  it("knows what it never sent, and nothing of what an earlier process did", async () => {
    const closed = { ...address, port: 1 };
    const reset = effect();
    await assert.rejects(caller.invoke(reset, closed, never), { code: "ACTION_UNREACHABLE" });
    assert.deepEqual(await caller.observe(reset, closed), { state: "NotApplied" });
    const restarted = new ActionCaller(newActionKey(), systemClock);
    assert.equal((await restarted.observe(reset, closed)).state, "Unknown");
    // Sent once, it is no longer known.
    answer = () => ({ status: 200, body: "" });
    await assert.rejects(caller.invoke(reset, address, never), { code: "EFFECT_UNKNOWN" });
    await assert.rejects(caller.invoke(reset, closed, never), { code: "EFFECT_UNKNOWN" });
    assert.equal((await caller.observe(reset, closed)).state, "Unknown");
  });

  it("takes no refusal and no silence after a lost answer for a sign that nothing was done", async () => {
    for (const status of [401, 403]) {
      let asked = 0;
      answer = () => ((asked += 1) === 1 ? { status: 200, body: "" } : { status, body: '{"message":"too late"}' });
      await assert.rejects(caller.invoke(effect(), address, never), { code: "EFFECT_UNKNOWN" }, String(status));
      assert.equal(asked, 2);
    }
    // One that died of it.
    answer = () => {
      server.close();
      return { status: 200, body: "" };
    };
    await assert.rejects(caller.invoke(effect(), address, never), { code: "EFFECT_UNKNOWN", message: /ECONNREFUSED/ });
  });

  it("signs with an Ed25519 key, and nothing else", () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    for (const key of ["", "hello", caller.publicKey, rsa])
      assert.throws(() => new ActionCaller(key, systemClock, "actions.key"), { code: "INVALID_ACTIONS_KEY", where: "actions.key" });
  });
});
