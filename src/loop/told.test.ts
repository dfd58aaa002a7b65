// What people were asked and told is on record, so that a restart neither asks twice nor leaves anything open.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NightshiftError } from "../api/errors.ts";
import type { Store } from "../ports/store.ts";
import type { Receiver } from "../record/paging.ts";
import { Harness } from "../../test/support/harness.ts";

async function ill(spec: Record<string, unknown>): Promise<{ readonly h: Harness; readonly replica: string }> {
  const h = new Harness();
  h.platform.addWorkload("payments", 3);
  await h.policy({ maxSignalAge: "1h", ...spec });
  return { h, replica: h.platform.workload("payments").replicas[0]?.ref.name ?? "" };
}

/** Nothing that this store's user does after its end reaches it. */
function mortal(store: Store): { readonly store: Store; kill(): void } {
  let dead = false;
  const alive = <T>(call: () => Promise<T>): Promise<T> => (dead ? new Promise<T>(() => undefined) : call());
  return {
    kill: () => void (dead = true),
    store: {
      get: (kind, namespace, name) => store.get(kind, namespace, name),
      list: (kind, namespace) => store.list(kind, namespace),
      watch: (kind, signal) => store.watch(kind, signal),
      create: (object) => alive(() => store.create(object)),
      update: (object) => alive(() => store.update(object)),
      delete: (kind, namespace, name, version) => alive(() => store.delete(kind, namespace, name, version)),
    },
  };
}

describe("a question for approval, over a restart", () => {
  it("is not asked again, and closed by whoever comes after", async () => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "1h" } });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(3_000);
    assert.deepEqual([h.pages.length, h.only().status.question?.state], [1, "Sent"]);
    await h.stop();
    await h.start();
    await h.pass(60_000);
    assert.equal(h.pages.length, 1, "asked once");
    await h.stop();
    h.fire("Ill", { replica }, "resolved");
    await h.start();
    assert.ok(await h.until(() => h.ended()));
    await h.pass(5_000);
    assert.deepEqual(
      h.resolved.map(({ dedupKey, question }) => [dedupKey, question?.name]),
      [[h.pages[0]?.dedupKey, h.only().metadata.name]],
    );
    assert.match(h.resolved[0]?.summary ?? "", /^needs no answer any more: Succeeded/);
    assert.equal(h.only().status.question?.state, "Resolved");
    await h.stop();
    await h.start();
    await h.pass(60_000);
    assert.equal(h.resolved.length, 1, "closed once");
    await h.stop();
  });

  it("that was on its way as its process died is asked under the same key, and closed", async () => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "1h" } });
    const life = mortal(h.store);
    const receiver: Receiver = {
      name: "oncall",
      send: async (page) => {
        h.pages.push(page);
        life.kill();
      },
      resolve: async (page) => void h.resolved.push(page),
    };
    await h.start({ store: () => life.store }, { receivers: [receiver] });
    h.fire("Ill", { replica });
    await h.pass(3_000);
    assert.equal(h.pages.length, 1);
    // It never comes back: nothing of it goes on.
    h.loop = undefined;
    await h.start({}, { receivers: [receiver] });
    await h.pass(5_000);
    assert.deepEqual([...new Set(h.pages.map(({ dedupKey }) => dedupKey))], [h.pages[0]?.dedupKey]);
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(2_000);
    assert.equal(h.resolved.length, 1);
    await h.stop();
  });

  it("is closed with those that had it, whoever the policy names by then", async () => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "1h" }, escalation: { receivers: ["first"] } });
    const got: string[] = [];
    const receiver = (name: string): Receiver => ({
      name,
      send: async () => void got.push(`${name} asked`),
      resolve: async () => void got.push(`${name} closed`),
    });
    await h.start({}, { receivers: [receiver("first"), receiver("second")] });
    h.fire("Ill", { replica });
    await h.pass(3_000);
    const policy = (await h.store.get("RemediationPolicy", "default", "payments"))!;
    await h.store.update({ ...policy, spec: { ...policy.spec, escalation: { ...policy.spec.escalation, receivers: ["second"] } } });
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(2_000);
    assert.deepEqual(got, ["first asked", "first closed"]);
    await h.stop();
  });

  it("stands while its signal's source is away for a moment, however long it has waited", async () => {
    const { h, replica } = await ill({
      mode: "Approve",
      approval: { timeout: "1h" },
      maxSignalAge: "30s",
      escalation: { blockedFor: "40s" },
    });
    await h.start();
    for (let heard = 0; heard < 8; heard++) {
      h.fire("Ill", { replica });
      await h.pass(10_000);
    }
    assert.deepEqual([h.only().status.phase, h.pages.length], ["AwaitingApproval", 1]);
    await h.pass(30_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "StaleSignal"]);
    h.fire("Ill", { replica });
    await h.pass(2_000);
    assert.deepEqual([h.only().status.phase, h.only().status.question?.state], ["AwaitingApproval", "Sent"]);
    await h.pass(60_000);
    assert.equal(h.only().status.phase, "Blocked");
    await h.pass(20_000);
    assert.deepEqual([h.only().status.outcome, h.only().status.reason], ["Inconclusive", "StaleSignal"]);
    await h.stop();
  });

  it("that did not arrive is asked of whoever the policy has, where its receivers are no longer configured", async () => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "1h" } });
    h.receiverFails = new NightshiftError("PAGE_NOT_DELIVERED", "no answer");
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(3_000);
    assert.deepEqual([h.only().status.question?.state, h.only().status.question?.sentTo], ["Pending", ["oncall"]]);
    await h.stop();
    const got: string[] = [];
    const receiver: Receiver = {
      name: "renamed",
      send: async () => void got.push("asked"),
      resolve: async () => void got.push("closed"),
    };
    await h.start({}, { receivers: [receiver] });
    const { revision } = h.only().status;
    await h.pass(60_000);
    assert.deepEqual([got, h.only().status.question?.state], [["asked"], "Sent"]);
    assert.ok(h.only().status.revision - revision < 10, "it is not stored over and over");
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(5_000);
    assert.deepEqual(got, ["asked", "closed"]);
    await h.stop();
  });
});

describe("what Notify tells", () => {
  const NOTIFY = { ladder: [{ strategy: "Notify", message: "look at it" }], verify: { stableFor: "2s", timeout: "5s" } };

  it("is one incident of the episode, and over when its signal has been gone for the policy's rest", async () => {
    const { h, replica } = await ill({ ...NOTIFY, cooldown: "1m" });
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const { metadata, status } = h.only();
    assert.deepEqual(
      h.pages.map(({ dedupKey, severity, summary }) => [dedupKey, severity, summary]),
      [[`default/${metadata.name}/notice`, "Info", "look at it"]],
    );
    assert.deepEqual([status.outcome, status.notice?.state], ["Ineffective", "Sent"]);
    await h.stop();
    await h.start();
    h.fire("Ill", { replica }, "resolved");
    await h.pass(30_000);
    assert.equal(h.resolved.length, 0, "one that flaps is one incident");
    assert.ok(await h.until(() => h.resolved.length > 0, 60_000));
    assert.deepEqual(
      h.resolved.map(({ dedupKey, summary }) => [dedupKey, summary]),
      [[h.pages[0]?.dedupKey, "over: look at it"]],
    );
    await h.pass(60_000);
    assert.deepEqual([h.pages.length, h.resolved.length], [1, 1]);
    await h.stop();
  });

  it("is over at once when a later rung of the episode heals", async () => {
    const { h, replica } = await ill({ ...NOTIFY, ladder: [...NOTIFY.ladder, { strategy: "RestartPod" }] });
    await h.start();
    h.fire("Ill", { replica });
    h.platform.onChange(() => {
      if (h.platform.workload("payments").replicas.every((r) => r.ref.name !== replica)) h.fire("Ill", { replica }, "resolved");
    });
    assert.ok(await h.until(() => h.ended()));
    await h.pass(3_000);
    assert.equal(h.only().status.outcome, "Remediated");
    assert.deepEqual([h.pages.length, h.resolved.length], [1, 1]);
    await h.stop();
  });

  it("is told until the step's time is up, and its receivers that have it are told the end, too", async () => {
    const { h, replica } = await ill(NOTIFY);
    const got: string[] = [];
    let away = true;
    const receivers: Receiver[] = [
      { name: "first", send: async () => void got.push("first"), resolve: async () => void got.push("first closed") },
      {
        name: "second",
        send: async () => {
          if (away) throw new NightshiftError("PAGE_NOT_DELIVERED", "no answer");
          got.push("second");
        },
        resolve: async () => void got.push("second closed"),
      },
    ];
    await h.start({}, { receivers });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const [episode] = h.remediations();
    assert.match(episode?.status.attempts[0]?.message ?? "", /nobody could be told: second: no answer/);
    assert.ok(got.includes("first"));
    away = false;
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => got.includes("first closed") && got.includes("second closed"), 600_000));
    await h.stop();
  });
});

describe("a page", () => {
  const HOPELESS = {
    escalation: { blockedFor: "20s" },
    attempts: { max: 1, window: "1h", reset: "1h" },
    verify: { stableFor: "2s", timeout: "5s" },
    cooldown: "10s",
  };

  it("is over when its own signal is, though there is no data for another one of its policy", async () => {
    const signals = [
      { name: "ill", alert: { alertname: "Ill" } },
      { name: "errors", errorRate: { above: "5%", for: "10s" } },
    ];
    const { h, replica } = await ill({ ...HOPELESS, signals });
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.some(({ severity }) => severity === "Page")));
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.resolved.length > 0));
    await h.stop();
  });

  it("is over where its policy is gone, and the next of its key is paged for anew", async () => {
    const { h, replica } = await ill(HOPELESS);
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    await h.store.delete("RemediationPolicy", "default", "payments");
    await h.pass(5_000);
    assert.equal(h.resolved.length, 0, "it may come back in a moment");
    assert.ok(await h.until(() => h.resolved.length === 1));
    await h.policy({ ...HOPELESS, maxSignalAge: "1h" });
    assert.ok(await h.until(() => h.pages.length === 2, 600_000));
    assert.equal(h.pages[1]?.dedupKey, h.pages[0]?.dedupKey);
    await h.stop();
  });

  it("stays open where its policy was made anew and the fault goes on", async () => {
    const { h, replica } = await ill(HOPELESS);
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    await h.store.delete("RemediationPolicy", "default", "payments");
    await h.policy({ ...HOPELESS, maxSignalAge: "1h" });
    await h.pass(60_000);
    assert.deepEqual([h.pages.length, h.resolved.length], [1, 0]);
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.resolved.length === 1));
    await h.stop();
  });

  it("that one of its receivers never confirms is over for the others all the same", async () => {
    const { h, replica } = await ill(HOPELESS);
    h.platform.failing.set("StartReplacement", "fork failed");
    const ends: string[] = [];
    const receivers: Receiver[] = ["oncall", "gone"].map((name) => ({
      name,
      send: async (page) => {
        if (name === "gone") throw new NightshiftError("PAGE_NOT_DELIVERED", "HTTP 404");
        h.pages.push(page);
      },
      resolve: async () => {
        if (name === "gone") throw new NightshiftError("PAGE_NOT_DELIVERED", "HTTP 404");
        ends.push(name);
      },
    }));
    await h.start({}, { receivers });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    h.fire("Ill", { replica }, "resolved");
    await h.pass(600_000, 1_000);
    assert.deepEqual([h.pages.length, ends], [1, ["oncall"]]);
    await h.stop();
  });

  it("that nobody was there to be told of keeps none of the next incident from anybody", async () => {
    const { h, replica } = await ill(HOPELESS);
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start({}, { receivers: [] });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    assert.ok(h.remediations().some(({ status }) => status.page?.state === "NoReceiver"));
    h.fire("Ill", { replica }, "resolved");
    await h.pass(120_000);
    await h.stop();
    await h.start();
    await h.pass(4_000_000, 10_000);
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.some(({ severity }) => severity === "Page"), 600_000));
    await h.stop();
  });
});
