import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Remediation } from "../api/remediation.ts";
import type { Platform } from "../ports/platform.ts";
import type { Store } from "../ports/store.ts";
import { Harness } from "../../test/support/harness.ts";
import { platformWith } from "../../test/support/platform-with.ts";

/** Once it has struck, nothing that this incarnation does reaches the world any more, and nothing comes back to it. */
class Crash {
  readonly #at: number;
  #calls = 0;
  struck = false;

  constructor(at: number) {
    this.#at = at;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Before the call (even) or after it (odd) the process dies. */
  async around<T>(call: () => Promise<T>): Promise<T> {
    if (this.struck) return new Promise<T>(() => {});
    const n = this.#calls++;
    if (this.#at === 2 * n) {
      this.struck = true;
      return new Promise<T>(() => {});
    }
    const result = await call();
    if (this.#at === 2 * n + 1) {
      this.struck = true;
      return new Promise<T>(() => {});
    }
    return result;
  }

  store(store: Store): Store {
    return {
      get: (kind, namespace, name) => store.get(kind, namespace, name),
      list: (kind, namespace) => store.list(kind, namespace),
      watch: (kind, signal) => store.watch(kind, signal),
      create: (object) => this.around(() => store.create(object)),
      update: (object) => this.around(() => store.update(object)),
      delete: (kind, namespace, name, version) => this.around(() => store.delete(kind, namespace, name, version)),
    };
  }

  platform(platform: Platform): Platform {
    return platformWith(platform, {
      onChange: (listener) =>
        platform.onChange((workload) => {
          if (!this.struck) listener(workload);
        }),
      apply: (effect, signal) => this.around(() => platform.apply(effect, signal)),
    });
  }
}

async function story(at: number, prepare: (h: Harness) => void = () => {}): Promise<{ h: Harness; crash: Crash; final: Remediation }> {
  const h = new Harness();
  const replica = h.platform.addWorkload("payments", 3).replicas[1]?.ref.name ?? "";
  prepare(h);
  await h.policy();
  h.platform.onChange(() => {
    if (h.platform.workload("payments").replicas.every((r) => r.ref.name !== replica)) h.fire("Ill", { replica }, "resolved");
  });
  const crash = new Crash(at);
  const done = (): boolean => {
    // A person was paged and has mended it by hand.
    if (h.pages.length > 0) h.fire("Ill", { replica }, "resolved");
    return h.ended() && h.remediations().every((r) => r.status.page?.state !== "Pending");
  };
  await h.start({ store: (store) => crash.store(store), platform: (platform) => crash.platform(platform) });
  h.fire("Ill", { replica });
  await h.until(() => crash.struck || done(), 200_000);
  if (crash.struck) {
    // kill -9: the dead one is not stopped, it just never gets another answer.
    await h.start();
    // Alertmanager repeats what still fires.
    if (h.platform.workload("payments").replicas.some((r) => r.ref.name === replica)) h.fire("Ill", { replica });
    assert.ok(await h.until(done, 300_000), `no end after a crash at ${at}`);
  }
  const final = h.remediations().find((r) => r.status.attempts.length > 0);
  assert.ok(final !== undefined);
  return { h, crash, final };
}

/** How many points there are at which a story can be cut. */
async function points(prepare?: (h: Harness) => void): Promise<number> {
  const { crash } = await story(Number.POSITIVE_INFINITY, prepare);
  return crash.calls * 2;
}

function check(h: Harness, at: number): void {
  for (const [id, times] of h.platform.applied) assert.equal(times, 1, `effect ${id} took effect ${times} times after a crash at ${at}`);
  const counts = new Map<string, number>();
  for (const type of h.platform.log) counts.set(type, (counts.get(type) ?? 0) + 1);
  for (const [type, times] of counts) assert.equal(times, 1, `${type} happened ${times} times after a crash at ${at}`);
  const { replicas, desired } = h.platform.workload("payments");
  assert.equal(replicas.length, desired, `replicas after a crash at ${at}`);
  assert.ok(
    replicas.every((replica) => replica.inTraffic),
    `a replica was left out of traffic after a crash at ${at} (L3)`,
  );
}

describe("a crash at every point, then a restart", () => {
  it("ends in the same final state, each effect once (S2, S9)", async () => {
    const n = await points();
    assert.ok(n >= 20, `only ${n} points`);
    for (let at = 0; at < n; at++) {
      const { h, final } = await story(at);
      assert.deepEqual([final.status.phase, final.status.outcome], ["Succeeded", "Remediated"], `crash at ${at}`);
      assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "Capture", "Stop"], `crash at ${at}`);
      check(h, at);
      await h.stop();
    }
  });

  it("and so does the way back, when a required capture fails: everything undone, one page", async () => {
    const prepare = (h: Harness): void => void h.platform.failing.set("Capture", "no space left on device");
    const n = await points(prepare);
    assert.ok(n >= 20, `only ${n} points`);
    for (let at = 0; at < n; at++) {
      const { h, final } = await story(at, prepare);
      assert.equal(final.status.phase, "Escalated", `crash at ${at}`);
      assert.ok(!h.platform.log.includes("Stop"), `crash at ${at}: stopped without its capture (S8)`);
      assert.equal(new Set(h.pages.map((page) => page.dedupKey)).size, 1, `crash at ${at}`);
      check(h, at);
      await h.stop();
    }
  });
});

describe("an alert that was heard of before a restart only", () => {
  const begun = async (labels: Record<string, string>): Promise<Harness> => {
    const h = new Harness();
    h.platform.addWorkload("payments", 3);
    await h.policy({ ladder: [{ strategy: "RollingRestart" }] });
    await h.start();
    h.fire("Ill", labels);
    return h;
  };
  const restart = async (h: Harness): Promise<void> => {
    await h.stop();
    h.alerts.clear();
    await h.start();
  };

  it("does not count as healed: a person is asked where it is not heard of again", async () => {
    const h = await begun({ deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await restart(h);
    assert.ok(await h.until(() => h.ended(), 300_000));
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome, status.reason], ["Escalated", "Inconclusive", "NoData"]);
    assert.match(status.message ?? "", /has not been heard of since nightshift started/);
    assert.equal(h.pages.length, 1);
    await h.stop();
  });

  it("is verified once it is heard of: resolved", async () => {
    const h = await begun({ deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await restart(h);
    h.fire("Ill", { deployment: "payments" }, "resolved");
    assert.ok(await h.until(() => h.ended(), 300_000));
    assert.equal(h.only().status.outcome, "Remediated");
    assert.deepEqual(h.pages, []);
    await h.stop();
  });

  it("is verified where Alertmanager was asked and does not have it", async () => {
    const h = await begun({ deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await restart(h);
    h.settled = { suppressed: [] };
    assert.ok(await h.until(() => h.ended(), 300_000));
    assert.equal(h.only().status.outcome, "Remediated");
    assert.deepEqual(h.pages, []);
    await h.stop();
  });

  it("does not count as healed where it is silenced, as by whoever looks at it", async () => {
    const h = await begun({ deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    const silenced = [...h.alerts.values()];
    assert.equal(silenced.length, 1);
    await restart(h);
    h.settled = { suppressed: silenced };
    assert.ok(await h.until(() => h.ended(), 300_000));
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome, status.reason], ["Escalated", "Inconclusive", "NoData"]);
    assert.match(status.message ?? "", /is silenced or inhibited in Alertmanager/);
    await h.stop();
  });

  it("keeps what waits waiting: it has not recovered for lack of news", async () => {
    const h = new Harness();
    h.platform.addWorkload("payments", 3);
    await h.policy({ mode: "Approve", ladder: [{ strategy: "RollingRestart" }] });
    await h.start();
    h.fire("Ill", { deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "AwaitingApproval"));
    await restart(h);
    await h.pass(30_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "NoData"]);
    h.fire("Ill", { deployment: "payments" });
    assert.ok(await h.until(() => h.only().status.phase === "AwaitingApproval"));
    await h.stop();
  });
});

describe("a verification whose time ran out while nobody looked", () => {
  const away = async (what: (h: Harness) => void): Promise<Harness> => {
    const h = new Harness();
    h.platform.addWorkload("payments", 3);
    const spec = {
      verify: { stableFor: "20s", timeout: "2m" },
      ladder: [{ strategy: "RollingRestart" }, { strategy: "RunJob", command: ["heal"] }],
    };
    await h.policy(spec);
    await h.start();
    h.fire("Ill", { deployment: "payments" });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    await h.stop();
    h.alerts.clear();
    await h.pass(600_000);
    await h.start();
    what(h);
    assert.ok(await h.until(() => h.ended(), 300_000));
    return h;
  };

  it("is looked at for as long as it has to be well: what has helped is not followed by the next rung", async () => {
    const h = await away((back) => void (back.settled = { suppressed: [] }));
    assert.deepEqual([h.only().status.outcome, h.only().status.attempts.length, h.pages], ["Remediated", 1, []]);
    await h.stop();
  });
  it("waits for what is yet to be heard of after a start", async () => {
    const h = await away((back) => back.clock.after(30_000, () => void (back.settled = { suppressed: [] })));
    assert.deepEqual([h.only().status.outcome, h.only().status.attempts.length, h.pages], ["Remediated", 1, []]);
    await h.stop();
  });
  it("has not helped where what it was for still fires: the next rung follows", async () => {
    const h = await away((back) => back.fire("Ill", { deployment: "payments" }));
    assert.ok(h.only().status.attempts.length > 1);
    await h.stop();
  });
});
