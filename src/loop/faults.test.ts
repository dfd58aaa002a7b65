import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NightshiftError } from "../api/errors.ts";
import { API_VERSION, type Kind } from "../api/meta.ts";
import type { Remediation } from "../api/remediation.ts";
import { runbookSpecSchema } from "../api/runbook.ts";
import { sleep } from "../ports/clock.ts";
import type { Platform, Replica } from "../ports/platform.ts";
import type { Store, WatchEvent } from "../ports/store.ts";
import type { Receiver } from "../record/paging.ts";
import { Harness } from "../../test/support/harness.ts";
import { platformWith } from "../../test/support/platform-with.ts";

const RESTART = ["StartReplacement", "RemoveFromTraffic", "Capture", "Stop"];
const HOUR = 3_600_000;

async function ill(spec: Record<string, unknown> = {}, replicas = 3): Promise<{ h: Harness; replica: string }> {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", replicas);
  await h.policy(spec);
  return { h, replica: workload.replicas[1]?.ref.name ?? "" };
}

const replicas = (h: Harness): readonly Replica[] => h.platform.workload("payments").replicas;
const named = (h: Harness, name: string): Replica | undefined => replicas(h).find((replica) => replica.ref.name === name);

/** A platform that calls back before each effect. */
const watched =
  (before: (type: string) => void) =>
  (platform: Platform): Platform =>
    platformWith(platform, {
      apply: (effect, signal) => {
        before(effect.type);
        return platform.apply(effect, signal);
      },
    });

describe("an effect is held back as it is about to be carried out", () => {
  for (const [what, code, held] of [
    ["another may lead", "NOT_LEADER", "RemoveFromTraffic"],
    ["what is known has fallen out of date", "STALE_VIEW", "Stop"],
  ] as const)
    it(`${what}: it has not failed, and is done later`, async () => {
      const { h, replica } = await ill();
      let refusals = 2;
      await h.start({
        platform: watched((type) => {
          if (type === held && refusals-- > 0) throw new NightshiftError(code, what);
        }),
      });
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.ended()));
      assert.deepEqual(h.platform.log, RESTART);
      assert.equal(refusals, -1);
      assert.equal(h.only().status.outcome, "Remediated");
      await h.stop();
    });
});

describe("the audit trail is away for a while", () => {
  it("each effect after it has its decision, with every verdict, on record before it", async () => {
    const { h, replica } = await ill();
    const before: string[][] = [];
    await h.start({ platform: watched(() => before.push(h.records.map((record) => record.type))) });
    h.auditFails = new NightshiftError("AUDIT_UNAVAILABLE", "no space left");
    h.fire("Ill", { replica });
    await h.pass(20_000);
    assert.deepEqual(h.platform.log, []);
    h.auditFails = undefined;
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, RESTART);
    assert.deepEqual(
      before[0]?.filter((type) => type === "Signal" || type === "Decision"),
      ["Signal", "Decision"],
    );
    const decision = h.records.find((record) => record.type === "Decision");
    assert.equal((decision?.data?.["verdicts"] as unknown[] | undefined)?.length, 12);
    assert.ok(h.records.length < 30, `what was tried again and again is on record once: ${h.records.length} records`);
    await h.stop();
  });

  it("the end of an episode is on record afterwards", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    h.auditFails = new NightshiftError("AUDIT_UNAVAILABLE", "no space left");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(5_000);
    h.auditFails = undefined;
    h.fire("Other", { replica: "nobody" });
    assert.ok(
      await h.until(() => h.said("Phase").some((message) => message.startsWith("Succeeded, Remediated"))),
      h.said("Phase").join("; "),
    );
    await h.stop();
  });
});

/** The store, with something around the creation of episodes. */
const creating =
  (around: <T>(name: string, create: () => Promise<T>) => Promise<T>) =>
  (store: Store): Store => ({
    get: (kind, namespace, name) => store.get(kind, namespace, name),
    list: (kind, namespace) => store.list(kind, namespace),
    update: (object) => store.update(object),
    delete: (kind, namespace, name, version) => store.delete(kind, namespace, name, version),
    watch: (kind, signal) => store.watch(kind, signal),
    create: (object) => {
      const kind: Kind = object.kind;
      return kind === "Remediation" ? around(object.metadata.name, () => store.create(object)) : store.create(object);
    },
  });

describe("nobody confirms the creation of an episode", () => {
  it("it is carried on all the same, once, as soon as that is known", async () => {
    const { h, replica } = await ill();
    let lost = 0;
    await h.start({
      store: creating(async (_name, create) => {
        const created = await create();
        if (lost > 0) return created;
        lost += 1;
        // The watch has told of it long before.
        await sleep(h.clock, 4_000);
        throw new NightshiftError("STORE_UNAVAILABLE", "no answer in time");
      }),
    });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended(), 60_000), JSON.stringify(h.remediations()[0]?.status));
    assert.equal(lost, 1);
    assert.deepEqual(h.platform.log, RESTART);
    assert.equal(h.only().status.outcome, "Remediated");
    await h.stop();
  });

  it("it is tried again under the same name, so that one that arrives late is no second episode", async () => {
    const { h } = await ill({ signals: [{ name: "errors", errorRate: { above: "5%", for: "10s" } }] });
    h.telemetry.rates.set("payments", { total: 100, failed: 50 });
    const names: string[] = [];
    const late: string[] = [];
    await h.start({
      store: creating(async (name, create) => {
        names.push(name);
        if (names.length > 1) return create();
        void sleep(h.clock, 20_000)
          .then(create)
          .catch((error: unknown) => late.push((error as NightshiftError).code));
        await sleep(h.clock, 4_000);
        throw new NightshiftError("STORE_UNAVAILABLE", "no answer in time");
      }),
    });
    assert.ok(await h.until(() => late.length > 0, 60_000));
    assert.deepEqual(late, ["ALREADY_EXISTS"]);
    assert.equal(names.length, 2);
    assert.equal(names[0], names[1]);
    assert.equal(h.remediations().length, 1);
    await h.stop();
  });
});

describe("nobody confirms that an episode that waited has begun, and another has its turn to decide first", () => {
  it("it has one attempt", async () => {
    const { h, replica } = await ill({ paused: { reason: "release day" } });
    h.platform.addWorkload("orders", 3);
    await h.policy({ targets: [{ name: "orders" }] }, "orders");
    let lost = 0;
    await h.start({
      store: (store) => ({
        ...creating(async (name, create) => {
          if (name.startsWith("orders-")) await sleep(h.clock, 10_000);
          return create();
        })(store),
        // The watch tells of it long after its sender has tried again.
        watch: (kind, signal) => later(store.watch(kind, signal), h, 3_000),
        update: async (object) => {
          const stored = await store.update(object);
          const isBegun = (object as unknown as { readonly status?: { readonly phase?: string } }).status?.phase === "Executing";
          if (!isBegun || lost > 0) return stored;
          lost += 1;
          h.fire("Ill", { replica: h.platform.workload("orders").replicas[0]?.ref.name ?? "" });
          throw new NightshiftError("STORE_UNAVAILABLE", "no answer in time");
        },
      }),
    });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.reason === "Paused"));
    const stored = (await h.store.get("RemediationPolicy", "default", "payments")) ?? assert.fail();
    const { paused: _paused, ...spec } = stored.spec;
    await h.store.update({ ...stored, spec });
    assert.ok(await h.until(() => h.remediations().length === 2 && h.ended()));
    assert.equal(lost, 1);
    const about = h.remediations().find((each) => each.spec.policy.name === "payments");
    assert.equal(about?.status.outcome, "Remediated");
    assert.equal(about.status.attempts.length, 1);
    await h.stop();
  });
});

/** What a watch tells, so much later. */
async function* later<K extends Kind>(events: AsyncIterable<WatchEvent<K>>, { clock }: Harness, ms: number): AsyncGenerator<WatchEvent<K>> {
  for await (const event of events) {
    if (event.type === "Modified") await sleep(clock, ms);
    yield event;
  }
}

describe("nobody confirms that the result of a step is stored", () => {
  it("it is on the audit trail all the same", async () => {
    const { h, replica } = await ill();
    const lost: string[] = [];
    await h.start({
      store: (store) => ({
        ...creating((_name, create) => create())(store),
        update: async (object) => {
          const stored = await store.update(object);
          const kind: Kind = object.kind;
          const { status } = object as unknown as { readonly status: { readonly attempts?: Remediation["status"]["attempts"] } };
          const done = kind === "Remediation" ? status.attempts?.[0]?.steps.findLast(({ state }) => state === "Done") : undefined;
          if (done === undefined || lost.includes(done.effectId)) return stored;
          lost.push(done.effectId);
          throw new NightshiftError("STORE_UNAVAILABLE", "no answer in time");
        },
      }),
    });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "Remediated");
    const steps = h.only().status.attempts.flatMap((attempt) => attempt.steps.map(({ effectId }) => effectId));
    assert.deepEqual(lost, steps);
    const told = h.records.filter(({ type }) => type === "Result").map(({ data }) => data?.["effectId"]);
    assert.deepEqual([...new Set(told)], steps);
    await h.stop();
  });
});

describe("the API server is slow, and others have their turn first", () => {
  it("what has ceased meanwhile begins no episode", async () => {
    const { h, replica } = await ill();
    h.platform.addWorkload("orders", 3);
    await h.policy({ targets: [{ name: "orders" }] }, "orders");
    await h.start({
      store: creating(async (name, create) => {
        if (name.startsWith("orders-")) await sleep(h.clock, 10_000);
        return create();
      }),
    });
    h.fire("Ill", { replica: h.platform.workload("orders").replicas[0]?.ref.name ?? "" });
    await h.pass(1_000);
    h.fire("Ill", { replica });
    await h.pass(1_000);
    h.fire("Ill", { replica }, "resolved");
    await h.pass(20_000);
    assert.deepEqual(
      h.remediations().map(({ spec }) => spec.policy.name),
      ["orders"],
    );
    assert.equal(named(h, replica)?.ready, true);
    await h.stop();
  });

  it("what a person has said meanwhile holds for an episode that waits", async () => {
    const { h, replica } = await ill({ paused: { reason: "release day" } });
    h.platform.addWorkload("orders", 3);
    await h.policy({ targets: [{ name: "orders" }] }, "orders");
    await h.start({
      store: creating(async (name, create) => {
        if (name.startsWith("orders-")) await sleep(h.clock, 10_000);
        return create();
      }),
    });
    const pause = async (reason: string | undefined): Promise<void> => {
      const stored = (await h.store.get("RemediationPolicy", "default", "payments")) ?? assert.fail();
      const { paused: _paused, ...spec } = stored.spec;
      await h.store.update({ ...stored, spec: reason === undefined ? spec : { ...spec, paused: { reason } } });
    };
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.reason === "Paused"));
    h.fire("Ill", { replica: h.platform.workload("orders").replicas[0]?.ref.name ?? "" });
    await h.pass(250);
    await pause(undefined);
    await h.pass(2_000);
    await pause("hands off");
    await h.pass(30_000);
    const about = h.remediations().find(({ spec }) => spec.policy.name === "payments");
    assert.equal(about?.status.phase, "Blocked", JSON.stringify(about?.status));
    await h.stop();
  });
});

describe("the store is away for a while", () => {
  it("nothing happens without an intent that is stored, and it happens once afterwards", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.store.beforeWrite = () => {
      throw new NightshiftError("STORE_UNAVAILABLE", "database or disk is full");
    };
    h.fire("Ill", { replica });
    await h.pass(20_000);
    assert.deepEqual(h.platform.log, []);
    h.store.beforeWrite = undefined;
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, RESTART);
    assert.equal(h.only().status.outcome, "Remediated");
    await h.stop();
  });

  it("in the midst of an episode: each effect once, and the end is the same", async () => {
    for (let write = 1; write <= 8; write++) {
      const { h, replica } = await ill();
      let left = write;
      let failing = 0;
      h.store.beforeWrite = ({ kind }) => {
        if (kind !== "Remediation" || --left > 0 || failing++ > 3) return;
        throw new NightshiftError("STORE_UNAVAILABLE", "database or disk is full");
      };
      await h.start();
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.ended()), `write ${write}`);
      assert.deepEqual(h.platform.log, RESTART, `write ${write}`);
      assert.ok([...h.platform.applied.values()].every((count) => count === 1));
      await h.stop();
    }
  });
});

describe("receivers that are slow or away", () => {
  it("one that hangs while it is asked for an approval holds no other decision up", async () => {
    const { h, replica } = await ill({ mode: "Approve" });
    h.platform.addWorkload("orders", 3);
    await h.policy({ targets: [{ name: "orders" }] }, "orders");
    let asked = 0;
    await h.start(
      {},
      {
        receivers: [
          {
            name: "oncall",
            send: () => {
              asked++;
              return new Promise(() => {});
            },
          },
        ],
      },
    );
    h.fire("Ill", { replica });
    await h.pass(1_000);
    assert.equal(asked, 1);
    const other = h.platform.workload("orders").replicas[0]?.ref.name ?? "";
    h.fire("Ill", { replica: other });
    assert.ok(await h.until(() => h.platform.log.length === RESTART.length, 30_000), "the other workload is healed meanwhile");
  });

  it("asks for an approval until a receiver confirms, under one key", async () => {
    const { h, replica } = await ill({ mode: "Approve", maxSignalAge: "1h" });
    h.receiverFails = new NightshiftError("PAGE_NOT_DELIVERED", "no answer");
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(30_000);
    assert.equal(h.pages.length, 0);
    h.receiverFails = undefined;
    assert.ok(await h.until(() => h.pages.length > 0), "asked once it can be");
    await h.pass(60_000);
    assert.equal(h.pages.length, 1);
    assert.match(h.pages[0]?.dedupKey ?? "", /\/approval$/);
    assert.ok(h.said("Page").length <= 2, `said once that nobody could be asked: ${h.said("Page").join("; ")}`);
    await h.stop();
  });
});

describe("a question for approval", () => {
  const receiver = (name: string, got: { asked: number; closed: number; away: boolean }): Receiver => {
    const take = (what: "asked" | "closed") => async (): Promise<void> => {
      if (got.away) throw new NightshiftError("PAGE_NOT_DELIVERED", "no answer");
      got[what]++;
    };
    return { name, send: take("asked"), resolve: take("closed") };
  };

  it("is told again only to those that have not confirmed it, and closed with all that have, however late", async () => {
    const { h, replica } = await ill({ mode: "Approve", maxSignalAge: "1h" });
    const [first, second] = [
      { asked: 0, closed: 0, away: false },
      { asked: 0, closed: 0, away: true },
    ];
    await h.start({}, { receivers: [receiver("first", first), receiver("second", second)] });
    h.fire("Ill", { replica });
    await h.pass(60_000);
    assert.deepEqual([first.asked, second.asked], [1, 0]);
    second.away = false;
    assert.ok(await h.until(() => second.asked === 1), "asked once it can be");
    second.away = true;
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    await h.pass(10_000);
    assert.deepEqual([first.closed, second.closed], [1, 0]);
    second.away = false;
    assert.ok(await h.until(() => second.closed === 1), "told once it can be");
    await h.pass(60_000);
    assert.deepEqual(
      [first, second],
      [
        { asked: 1, closed: 1, away: false },
        { asked: 1, closed: 1, away: false },
      ],
    );
    await h.stop();
  });

  it("that is answered while it is still on its way is closed when it has arrived", async () => {
    const { h, replica } = await ill({ mode: "Approve", maxSignalAge: "1h" });
    let arrive = (): void => {};
    let closed = 0;
    const slow: Receiver = {
      name: "slow",
      send: () => new Promise((resolve) => (arrive = resolve)),
      resolve: async () => void closed++,
    };
    await h.start({}, { receivers: [slow] });
    h.fire("Ill", { replica });
    await h.pass(2_000);
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(closed, 0);
    arrive();
    await h.pass(2_000);
    assert.equal(closed, 1);
    await h.stop();
  });
});

describe("two replicas of one workload are ill", () => {
  it("they are healed one after the other, and the one that waits does not make the other's cure ineffective", async () => {
    const { h } = await ill({ maxSignalAge: "24h", verify: { stableFor: "5s", timeout: "15s" }, cooldown: "5s" });
    await h.start();
    const [first, second] = replicas(h).map((replica) => replica.ref.name);
    assert.ok(first && second);
    h.fire("Ill", { replica: first });
    h.fire("Ill", { replica: second });
    h.platform.onChange(() => {
      for (const name of [first, second])
        if (named(h, name) === undefined && [...h.alerts.values()].some((a) => a.status === "firing" && a.labels["replica"] === name))
          h.fire("Ill", { replica: name }, "resolved");
    });
    assert.ok(await h.until(() => h.remediations().length === 2 && h.ended(), 300_000));
    assert.deepEqual(
      h.remediations().map((r) => r.status.outcome),
      ["Remediated", "Remediated"],
    );
    assert.deepEqual(h.platform.log, [...RESTART, ...RESTART]);
    assert.deepEqual(h.pages, []);
    await h.stop();
  });

  it("a replacement that is ill of the same makes the cure ineffective", async () => {
    const { h, replica } = await ill({ maxSignalAge: "24h", verify: { stableFor: "5s", timeout: "15s" } });
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    h.fire("Ill", { replica }, "resolved");
    const replacement = replicas(h).find((r) => r.startedBy !== undefined)?.ref.name ?? "";
    h.fire("Ill", { replica: replacement });
    assert.ok(await h.until(() => h.remediations()[0]?.status.endedAt !== undefined));
    assert.equal(h.remediations()[0]?.status.outcome, "Ineffective");
    await h.stop();
  });
});

describe("a replacement that was ready is not ready any more, while the old one still serves", () => {
  /** An episode that rests between the replacement's readiness and the old one's way out of traffic. */
  async function resting(rung: object = {}) {
    const { h, replica } = await ill({ ladder: [{ runbook: "renew", ...rung }] });
    await h.store.create({
      apiVersion: API_VERSION,
      kind: "Runbook",
      metadata: { name: "renew", namespace: "default" },
      spec: runbookSpecSchema.parse({
        steps: [{ startReplacement: {} }, { awaitReady: {} }, { wait: { for: "10s" } }, { removeFromTraffic: {} }, { stop: {} }],
      }),
    });
    const replacement = (): Replica => {
      const found = replicas(h).find((r) => r.startedBy !== undefined);
      assert.ok(found !== undefined);
      return found;
    };
    const turn = (ready: boolean): void => h.platform.change("payments", replacement().ref.name, { ready });
    const begin = async (wrap: Parameters<Harness["start"]>[0] = {}): Promise<void> => {
      await h.start(wrap);
      h.fire("Ill", { replica });
    };
    const rests = (): Promise<boolean> =>
      h.until(() => h.remediations()[0]?.status.attempts[0]?.steps.some((s) => s.type === "wait" && s.state === "Intended") === true);
    return { h, replica, replacement, turn, begin, rests };
  }

  it("is waited for, as after an outage of the control plane, and nothing is done meanwhile", async () => {
    const { h, replica, turn, begin, rests } = await resting();
    await begin();
    assert.ok(await rests());
    turn(false);
    await h.pass(120_000, 1_000);
    assert.deepEqual([h.only().status.phase, h.platform.log], ["Executing", ["StartReplacement"]]);
    assert.equal(named(h, replica)?.inTraffic, true);
    turn(true);
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "Remediated");
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "Stop"]);
    await h.stop();
  });

  it("is waited for also where the step had begun, and had no effect yet", async () => {
    const { h, turn, begin } = await resting();
    let tries = 0;
    const failOnce = watched((type) => {
      if (type !== "RemoveFromTraffic" || (tries += 1) > 1) return;
      turn(false);
      throw new NightshiftError("NOT_LEADER", "another may lead");
    });
    await begin({ platform: failOnce });
    assert.ok(await h.until(() => tries === 1));
    await h.pass(60_000, 1_000);
    assert.deepEqual([tries, h.only().status.phase, h.platform.log], [1, "Executing", ["StartReplacement"]]);
    turn(true);
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "Stop"]);
    await h.stop();
  });

  it("ends the attempt with the rung's time also where the step had begun: it is never done on a replacement that is not ready", async () => {
    const { h, turn, begin } = await resting({ timeout: "2m" });
    const notLeader = watched((type) => {
      if (type !== "RemoveFromTraffic") return;
      turn(false);
      throw new NightshiftError("NOT_LEADER", "another may lead");
    });
    await begin({ platform: notLeader });
    assert.ok(await h.until(() => h.platform.log.includes("RemoveReplacement"), 180_000));
    assert.match(h.remediations()[0]?.status.attempts[0]?.message ?? "", /is no longer ready/);
    assert.ok(!h.platform.log.includes("RemoveFromTraffic"));
    await h.stop();
  });

  it("is waited for as long as the rung has time, and then the attempt is taken back", async () => {
    const { h, replica, turn, begin, rests } = await resting({ timeout: "2m" });
    await begin();
    assert.ok(await rests());
    turn(false);
    assert.ok(await h.until(() => h.platform.log.includes("RemoveReplacement"), 180_000));
    assert.match(h.remediations()[0]?.status.attempts[0]?.message ?? "", /the rung's time was up before step removeFromTraffic/);
    assert.ok(!h.platform.log.includes("RemoveFromTraffic"));
    assert.equal(named(h, replica)?.inTraffic, true);
    await h.stop();
  });

  it("is not waited for once a person wants the hands off", async () => {
    const { h, turn, begin, rests } = await resting();
    await begin();
    assert.ok(await rests());
    turn(false);
    await h.pass(30_000, 1_000);
    const stored = await h.store.get("RemediationPolicy", "default", "payments");
    assert.ok(stored !== undefined);
    await h.store.update({ ...stored, spec: { ...stored.spec, paused: { reason: "hands off" } } });
    assert.ok(await h.until(() => h.remediations().some((r) => r.status.phase === "Cancelled"), 10_000));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    await h.stop();
  });

  it("is not waited for once it is gone", async () => {
    const { h, replacement, begin, rests } = await resting();
    await begin();
    assert.ok(await rests());
    h.platform.remove("payments", replacement().ref.uid);
    assert.ok(await h.until(() => h.remediations()[0]?.status.attempts[0]?.outcome === "Failed", 20_000));
    assert.match(h.remediations()[0]?.status.attempts[0]?.message ?? "", /the replacement payments-\d+ is gone/);
    await h.stop();
  });

  it("is not waited for where the old one no longer serves: it is put back at once", async () => {
    const { h, replica, turn, begin } = await resting();
    await begin({
      platform: watched((type) => {
        if (type === "RemoveFromTraffic") turn(false);
      }),
    });
    assert.ok(await h.until(() => h.platform.log.includes("RestoreTraffic"), 60_000));
    assert.ok(!h.platform.log.includes("Stop"));
    assert.equal(named(h, replica)?.inTraffic, true);
    await h.stop();
  });
});

describe("the clock jumps", () => {
  for (const [what, jump] of [
    ["a day ahead", 24 * HOUR],
    ["a day back", -24 * HOUR],
  ] as const) {
    it(`${what} while the replacement starts: it gets its time, and not more`, async () => {
      const { h, replica } = await ill({ maxSignalAge: "48h" });
      h.platform.replacementsBecomeReady = false;
      await h.start();
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.platform.log.length === 1));
      h.clock.jump(h.clock.now() + jump);
      await h.pass(5_000);
      assert.equal(h.only().status.phase, "Executing", "five seconds are not its time");
      const replacement = replicas(h).find((r) => r.startedBy !== undefined)?.ref.name ?? "";
      h.platform.change("payments", replacement, { ready: true, everReady: true });
      assert.ok(await h.until(() => h.platform.log.length === RESTART.length));
      h.fire("Ill", { replica }, "resolved");
      assert.ok(await h.until(() => h.ended(), 60_000), `verified within its own time: ${h.only().status.message ?? ""}`);
      assert.equal(h.only().status.outcome, "Remediated");
      await h.stop();
    });

    it(`${what} while requests are waited for that never end: the stop is not put off`, async () => {
      const { h, replica } = await ill({ maxSignalAge: "48h" });
      await h.start();
      h.fire("Ill", { replica });
      h.platform.change("payments", replica, { inFlight: 1 });
      const waits = (): boolean =>
        h.only().status.attempts[0]?.steps.some((step) => step.type === "awaitInFlight" && step.state === "Intended") ?? false;
      assert.ok(await h.until(() => h.platform.log.includes("RemoveFromTraffic") && waits()));
      h.clock.jump(h.clock.now() + jump);
      assert.ok(await h.until(() => h.platform.log.includes("Stop"), 60_000), "the default is 30 s");
      await h.stop();
    });

    it(`${what} while the cure is verified: it must be well for as long as the policy says`, async () => {
      const { h, replica } = await ill({ maxSignalAge: "48h", verify: { stableFor: "20s", timeout: "40s" } });
      await h.start();
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
      h.fire("Ill", { replica }, "resolved");
      await h.pass(2_000);
      h.clock.jump(h.clock.now() + jump);
      await h.pass(10_000);
      assert.equal(h.only().status.phase, "Verifying");
      assert.ok(await h.until(() => h.ended(), 30_000), "20 s, not a day");
      assert.equal(h.only().status.outcome, "Remediated");
      await h.stop();
    });
  }
});

describe("a client that never finishes its request", () => {
  it("is cut by the stop at the end of the wait, and that is on record", async () => {
    const { h, replica } = await ill({ maxSignalAge: "1h" });
    await h.start();
    h.platform.change("payments", replica, { inFlight: 2 });
    h.fire("Ill", { replica });
    await h.pass(20_000);
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic"]);
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("Stop")));
    assert.ok(h.said("Result").some((message) => message.includes("2 requests still in flight after 30 s: the stop will cut them")));
    await h.stop();
  });
});
