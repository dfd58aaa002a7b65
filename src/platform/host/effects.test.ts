import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { unusedPort } from "../../../test/support/ports.ts";
import type { Effect } from "../../ports/platform.ts";
import { ActionCaller, newActionKey } from "../actions.ts";
import { systemClock } from "./clock.ts";
import { Bench, killChild, stackOf, superviseElsewhere, until } from "./fixtures/harness.ts";
import { findByEnvironment } from "../linux/proc.ts";

const never = new AbortController().signal;
const web = { kind: "Workload", namespace: "default", name: "web" };

test("a replacement: started once, takes the place of what it replaces, which is stopped for good", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", replicas: 2 }]));
  const [target] = await bench.ready("web", 2);
  assert.ok(target);
  const start: Effect = { id: "e1", type: "StartReplacement", workload: web, replaces: target.ref };
  assert.deepEqual(await platform.observe(start), { state: "NotApplied" });
  const [first, second] = await Promise.all([platform.apply(start, never), platform.apply(start, never)]);
  assert.deepEqual(first, second, "two calls at once share one run");
  assert.deepEqual(await platform.apply(start, never), first, "and a later one gets the stored result");
  const replicas = await bench.ready("web", 3);
  const replacement = replicas.find((r) => r.ref.uid === first.replica?.uid);
  assert.equal(replacement?.startedBy, "e1");
  assert.equal(replacement?.replaces, target.ref.uid);
  assert.equal(bench.workload("web").desired, 2);
  const stopped = await platform.apply({ id: "e2", type: "Stop", replica: target.ref, gracePeriodMs: 5_000 }, never);
  assert.match(stopped.message, /stopped/);
  assert.deepEqual(findByEnvironment("NIGHTSHIFT_REPLICA_UID", target.ref.uid), []);
  const after = await bench.ready("web", 2);
  assert.ok(after.some((r) => r.ref.uid === first.replica?.uid));
  assert.ok(!after.some((r) => r.ref.uid === target.ref.uid));
  assert.equal(
    after.every((r) => r.restarts === 0),
    true,
    "a stop is no crash",
  );
  // And from now on it is a replica like any other.
  const heir = after.find((r) => r.ref.uid === first.replica?.uid);
  assert.ok(heir);
  await bench.ask(heir, "/exit?code=1");
  await until("its restart", () => bench.workload("web").replicas.find((r) => r.restarts === 1 && r.ready));
  assert.deepEqual(await platform.apply(start, never), first, "the same effect never starts another, though that one is gone");
  assert.equal(bench.workload("web").replicas.length, 2);
});

test("a replacement that is not wanted any more is removed, and nothing takes its place", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const [target] = await bench.ready("web", 1);
  assert.ok(target);
  const { replica } = await platform.apply({ id: "e1", type: "StartReplacement", workload: web, replaces: target.ref }, never);
  assert.ok(replica);
  await bench.ready("web", 2);
  const remove: Effect = { id: "e2", type: "RemoveReplacement", replica };
  assert.deepEqual(await platform.observe(remove), { state: "NotApplied" });
  await platform.apply(remove, never);
  assert.equal((await platform.observe(remove)).state, "Applied");
  const [only] = await bench.ready("web", 1);
  assert.equal(only?.ref.uid, target.ref.uid);
});

test("the replaced one crashes: its replacement takes its place, and it is not started again", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const [target] = await bench.ready("web", 1);
  assert.ok(target);
  const { replica } = await platform.apply({ id: "e1", type: "StartReplacement", workload: web, replaces: target.ref }, never);
  await bench.ready("web", 2);
  await bench.ask(target, "/exit?code=1");
  const [only] = await bench.ready("web", 1);
  assert.equal(only?.ref.uid, replica?.uid);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(
    bench.workload("web").replicas.map((r) => r.ref.uid),
    [replica?.uid],
  );
});

test("a replacement that crashes is not started again: whoever asked for it sees that it is gone", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const [target] = await bench.ready("web", 1);
  assert.ok(target);
  const { replica } = await platform.apply({ id: "e1", type: "StartReplacement", workload: web, replaces: target.ref }, never);
  assert.ok(replica);
  await bench.ready("web", 2);
  await bench.ask({ ref: { ...replica, uid: replica.uid ?? "" } }, "/exit?code=1");
  const [only] = await bench.ready("web", 1);
  assert.equal(only?.ref.uid, target.ref.uid);
});

test("out of traffic stays out, also over a restart of Nightshift, until it is put back", async () => {
  await using bench = new Bench();
  const port = unusedPort();
  const stack = stackOf([{ name: "web", replicas: 2, port }]);
  let platform = await bench.start(stack);
  const [target] = await bench.ready("web", 2);
  assert.ok(target);
  const hits = async (): Promise<number> => {
    let count = 0;
    for (let i = 0; i < 30; i++) if ((await (await fetch(`http://127.0.0.1:${port}/`)).text()) === target.ref.uid) count += 1;
    return count;
  };
  assert.ok((await hits()) > 0);
  const remove: Effect = { id: "e1", type: "RemoveFromTraffic", replica: target.ref };
  assert.deepEqual(await platform.observe(remove), { state: "NotApplied" });
  await platform.apply(remove, never);
  assert.equal((await platform.observe(remove)).state, "Applied");
  assert.equal(await hits(), 0);
  assert.equal(bench.workload("web").replicas.find((r) => r.ref.uid === target.ref.uid)?.inFlight, 0);
  await bench.leave();
  platform = await bench.start(stack);
  await bench.ready("web", 2);
  assert.equal(await hits(), 0);
  assert.equal(bench.workload("web").replicas.find((r) => r.ref.uid === target.ref.uid)?.inTraffic, false);
  await platform.apply({ id: "e2", type: "RestoreTraffic", replica: target.ref }, never);
  assert.ok((await hits()) > 0);
});

test("requests in flight are counted exactly, and a stop that cuts them says how many", async () => {
  await using bench = new Bench();
  const port = unusedPort();
  const platform = await bench.start(stackOf([{ name: "web", port, stopGracePeriod: "300ms", env: { IGNORE_SIGTERM: "1" } }]));
  const [target] = await bench.ready("web", 1);
  assert.ok(target);
  // POST: the router sends a GET that was cut to another replica.
  const slow = Array.from({ length: 3 }, () => fetch(`http://127.0.0.1:${port}/slow?ms=60000`, { method: "POST" }).then((r) => r.status));
  await until("three in flight", () => bench.workload("web").replicas[0]?.inFlight === 3);
  const begun = performance.now();
  const { cut } = await platform.apply({ id: "e1", type: "Stop", replica: target.ref, gracePeriodMs: 300 }, never);
  assert.equal(cut, 3);
  assert.ok(performance.now() - begun >= 290, "SIGKILL comes after the grace period, not before");
  assert.match(bench.output("web"), /SIGTERM ignored/);
  assert.deepEqual(findByEnvironment("NIGHTSHIFT_REPLICA_UID", target.ref.uid), []);
  for (const answer of await Promise.allSettled(slow)) if (answer.status === "fulfilled") assert.ok(answer.value >= 500);
  const [next] = await bench.ready("web", 1);
  assert.equal(next?.restarts, 0, "the workload gets another one, at once");
});

test("a stop without enough time is reported, and the process ends all the same", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", stopGracePeriod: "300ms", env: { IGNORE_SIGTERM: "1" } }]));
  const [target] = await bench.ready("web", 1);
  assert.ok(target);
  const stop: Effect = { id: "e1", type: "Stop", replica: target.ref, gracePeriodMs: 1_000 };
  await assert.rejects(platform.apply(stop, AbortSignal.timeout(100)), { code: "EFFECT_TIMEOUT" });
  await until("its end", async () => (await platform.observe(stop)).state === "Applied");
  assert.match((await platform.apply(stop, never)).message, /is gone/);
});

test("scaling is kept over restarts, until the stack file says another number", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  await bench.ready("web", 1);
  const scale: Effect = { id: "e1", type: "Scale", workload: web, replicas: 3 };
  assert.deepEqual(await platform.observe(scale), { state: "NotApplied" });
  await platform.apply(scale, never);
  assert.equal((await platform.observe(scale)).state, "Applied");
  await bench.ready("web", 3);
  await bench.leave();
  await bench.start(stackOf([{ name: "web" }]));
  await bench.ready("web", 3);
  await bench.leave();
  await bench.start(stackOf([{ name: "web", replicas: 2 }]));
  await bench.ready("web", 2);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(bench.workload("web").replicas.length, 2);
});

test("a job runs once, without a shell, and must exit with 0", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web", env: { GREETING: "hello" } }]));
  const job = (id: string, code: string): Effect => ({
    id,
    type: "RunJob",
    workload: web,
    command: [process.execPath, "-e", `require("fs").appendFileSync("ran", process.env.GREETING + "$HOME "); ${code}`],
  });
  await platform.apply(job("e1", ""), never);
  await platform.apply(job("e1", ""), never);
  assert.equal(readFileSync(join(bench.stateDir, "ran"), "utf8"), "hello$HOME ");
  await assert.rejects(platform.apply(job("e2", "process.exit(4)"), never), { code: "JOB_FAILED", message: /exited with 4/ });
  await assert.rejects(platform.apply(job("e2", "process.exit(4)"), never), { code: "JOB_FAILED" });
  assert.equal(readFileSync(join(bench.stateDir, "ran"), "utf8"), "hello$HOME hello$HOME ", "a job that failed is not run again");
  await assert.rejects(platform.apply(job("e3", "setInterval(() => 0, 1000)"), AbortSignal.timeout(300)), {
    code: "JOB_FAILED",
    message: /its time was up/,
  });
  assert.deepEqual(findByEnvironment("NIGHTSHIFT_EFFECT_ID", "e3"), []);
});

test("an action is done by the replica itself, once, and it is asked what became of it", async () => {
  await using bench = new Bench();
  const key = newActionKey();
  const actions = new ActionCaller(key, systemClock);
  let platform = await bench.start(stackOf([{ name: "web", actions: true }, { name: "mute" }]), { actions });
  assert.ok(platform.effects.has("InvokeAction"));
  const [replica] = await bench.ready("web", 1);
  const [mute] = await bench.ready("mute", 1);
  assert.ok(replica !== undefined && mute !== undefined);
  assert.deepEqual([replica.servesActions, mute.servesActions], [true, undefined]);
  const ask = (id: string, action: string, of = replica): Effect => ({
    id,
    type: "InvokeAction",
    replica: of.ref,
    action,
    intendedAt: Date.now(),
  });
  const reset = ask("e1", "pool-reset");
  assert.deepEqual(await platform.observe(reset), { state: "NotApplied" });
  assert.match((await platform.apply(reset, never)).message, /^pool-reset: reset 1/);
  assert.match((await platform.apply(reset, never)).message, /^pool-reset: reset 1/);
  assert.equal((await platform.observe(reset)).state, "Applied");
  await assert.rejects(platform.apply(ask("e2", "fail"), never), { code: "ACTION_FAILED", message: /the database is down/ });
  await assert.rejects(platform.apply(ask("e3", "unheard-of"), never), { code: "ACTION_REFUSED", message: /not served here: pool-reset/ });
  await assert.rejects(platform.apply(ask("e4", "pool-reset", mute), never), { code: "NO_ACTIONS" });
  for (const id of ["e2", "e3", "e4"])
    assert.deepEqual(await platform.observe(ask(id, "fail", id === "e4" ? mute : replica)), { state: "NotApplied" });

  // What a Nightshift that has died had asked for is found with the replica that it left.
  bench.store?.database.prepare("UPDATE host_effects SET ended_at = NULL, json = NULL WHERE id = 'e1'").run();
  await bench.leave();
  platform = await bench.start(stackOf([{ name: "web", actions: true }, { name: "mute" }]), {
    actions: new ActionCaller(key, systemClock),
  });
  assert.match((await platform.apply(reset, never)).message, /reset 1/);
  assert.match((await platform.apply(ask("e5", "pool-reset"), never)).message, /reset 2/);

  // One that dies of it: nobody knows how far it came, and it is gone with the process.
  const death = ask("e6", "die");
  await assert.rejects(platform.apply(death, never), { code: "EFFECT_UNKNOWN" });
});

test("a replica that should serve actions and does not is known not to have been asked", async () => {
  await using bench = new Bench();
  const actions = new ActionCaller(newActionKey(), systemClock);
  const platform = await bench.start(stackOf([{ name: "web", actions: true, env: { SERVE_ACTIONS: "no" } }]), { actions });
  const [replica] = await bench.ready("web", 1);
  assert.ok(replica !== undefined);
  const reset: Effect = { id: "e1", type: "InvokeAction", replica: replica.ref, action: "pool-reset", intendedAt: Date.now() };
  await assert.rejects(platform.apply(reset, never), { code: "ACTION_UNREACHABLE", message: /ECONNREFUSED/ });
  assert.deepEqual(await platform.observe(reset), { state: "NotApplied" });
});

test("what is not there is refused", async () => {
  await using bench = new Bench();
  const platform = await bench.start(stackOf([{ name: "web" }]));
  const ghost = { kind: "Process", namespace: "default", name: "web-ghost", uid: "ghost" };
  await assert.rejects(platform.apply({ id: "e1", type: "RemoveFromTraffic", replica: ghost }, never), { code: "NOT_FOUND" });
  await assert.rejects(platform.apply({ id: "e2", type: "StartReplacement", workload: web, replaces: ghost }, never), {
    code: "NOT_FOUND",
  });
  await assert.rejects(platform.apply({ id: "e3", type: "Scale", workload: { ...web, name: "none" }, replicas: 1 }, never), {
    code: "NOT_FOUND",
  });
});

test("no request fails while a replica is replaced under load", async () => {
  await using bench = new Bench();
  const port = unusedPort();
  const platform = await bench.start(stackOf([{ name: "web", replicas: 2, port }]));
  const [target] = await bench.ready("web", 2);
  assert.ok(target);
  const load = new AbortController();
  let requests = 0;
  const failures: string[] = [];
  const clients = Array.from({ length: 8 }, async () => {
    while (!load.signal.aborted) {
      try {
        const response = await fetch(`http://127.0.0.1:${port}/slow?ms=5`, { method: "POST", body: "x" });
        await response.text();
        if (response.status !== 200) failures.push(String(response.status));
      } catch (error) {
        failures.push(String(error));
      }
      requests += 1;
    }
  });
  await platform.apply({ id: "e1", type: "StartReplacement", workload: web, replaces: target.ref }, never);
  await bench.ready("web", 3);
  await platform.apply({ id: "e2", type: "RemoveFromTraffic", replica: target.ref }, never);
  await until("nothing in flight", () => bench.workload("web").replicas.find((r) => r.ref.uid === target.ref.uid)?.inFlight === 0);
  const { cut } = await platform.apply({ id: "e3", type: "Stop", replica: target.ref, gracePeriodMs: 5_000 }, never);
  const mark = requests;
  await until("more requests", () => requests > mark + 100);
  load.abort();
  await Promise.all(clients);
  assert.equal(cut, 0);
  assert.deepEqual(failures, []);
  const stats = await until("the telemetry", () => {
    const seen = bench.telemetry.requests(web, 0);
    return seen !== undefined && seen.total >= requests && seen;
  });
  assert.equal(stats.total, requests, "each of the router's seconds is counted once");
});

/** Kills Nightshift at every write of an effect in turn, before and after it, and checks the world and what is said of it. */
async function killedEverywhere(
  effect: Effect,
  check: (bench: Bench, applied: boolean, state: "Applied" | "NotApplied" | "Unknown", actual: Effect) => Promise<void>,
): Promise<number> {
  let deaths = 0;
  for (let dieAt = 1; ; dieAt++) {
    let survived = false;
    for (const when of ["Before", "After"]) {
      await using bench = new Bench();
      const stack = stackOf([{ name: "web", replicas: 2 }]);
      const other = await superviseElsewhere({ stack, stateDir: bench.stateDir, effect, dieAt, when }, "applied");
      survived = other.applied;
      if (!survived) deaths += 1;
      await killChild(other.child);
      await bench.start(stack);
      const actual = JSON.parse(
        JSON.stringify(effect).replaceAll("$TARGET", other.target.name).replaceAll("$UID", other.target.uid),
      ) as Effect;
      const { state } = await bench.platform!.observe(actual);
      if (survived) assert.equal(state, "Applied");
      await check(bench, survived, state, actual);
      if (survived) break;
    }
    if (survived) return deaths;
  }
}

test("a replacement is started at most once, wherever Nightshift is killed", async () => {
  const effect: Effect = {
    id: "kill-1",
    type: "StartReplacement",
    workload: web,
    replaces: { kind: "Process", namespace: "default", name: "$TARGET", uid: "$UID" },
  };
  const deaths = await killedEverywhere(effect, async (bench, _survived, state, actual) => {
    assert.notEqual(state, "Unknown");
    const result = await bench.platform!.apply(actual, never);
    const replicas = await bench.ready("web", 3);
    assert.deepEqual(
      replicas.filter((r) => r.startedBy === "kill-1").map((r) => r.ref),
      [result.replica],
    );
    assert.equal(findByEnvironment("NIGHTSHIFT_EFFECT_ID", "kill-1").length, 1);
  });
  assert.ok(deaths >= 6, `only ${deaths} deaths: the test missed writes`);
});

test("a stop is finished, wherever Nightshift is killed", async () => {
  const effect: Effect = {
    id: "kill-2",
    type: "Stop",
    replica: { kind: "Process", namespace: "default", name: "$TARGET", uid: "$UID" },
    gracePeriodMs: 5_000,
  };
  const deaths = await killedEverywhere(effect, async (bench, _survived, _state, actual) => {
    await bench.platform!.apply(actual, never).catch((error: unknown) => assert.equal((error as { code?: string }).code, "NOT_FOUND"));
    const uid = (actual as { replica: { uid: string } }).replica.uid;
    await until("its end", () => findByEnvironment("NIGHTSHIFT_REPLICA_UID", uid).length === 0);
    assert.ok(!(await bench.ready("web", 2)).some((r) => r.ref.uid === uid));
  });
  assert.ok(deaths >= 4, `only ${deaths} deaths: the test missed writes`);
});

test("a job runs at most once, wherever Nightshift is killed, and what is not known is said", async () => {
  const marker = join(process.env["TMPDIR"] ?? "/tmp", `nightshift-job-${process.pid}`);
  const effect: Effect = {
    id: "kill-3",
    type: "RunJob",
    workload: web,
    command: [process.execPath, "-e", `require("fs").appendFileSync(${JSON.stringify(marker)}, "x")`],
  };
  await killedEverywhere(effect, async (bench, survived, state, actual) => {
    const again = bench.platform!.apply(actual, never);
    if (state === "Unknown") await assert.rejects(again, { code: "EFFECT_UNKNOWN" });
    else await again;
    if (survived || state !== "Unknown") await until("the job", () => existsSync(marker));
    await until("no job", () => findByEnvironment("NIGHTSHIFT_EFFECT_ID", "kill-3").length === 0);
    assert.ok(!existsSync(marker) || readFileSync(marker, "utf8") === "x");
    rmSync(marker, { force: true });
  });
});
