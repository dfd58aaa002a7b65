import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { NightshiftError } from "../api/errors.ts";
import { EvidenceFiles } from "../record/evidence.ts";
import { NO_METRICS } from "../record/metrics.ts";
import type { Receiver } from "../record/paging.ts";
import { Harness } from "../../test/support/harness.ts";
import { dependencyObject } from "../../test/support/objects.ts";
import { platformWith, refusing } from "../../test/support/platform-with.ts";

async function ill(spec: Record<string, unknown> = {}, replicas = 3): Promise<{ h: Harness; replica: string }> {
  const h = new Harness();
  const workload = h.platform.addWorkload("payments", replicas);
  await h.policy(spec);
  return { h, replica: workload.replicas[1]?.ref.name ?? "" };
}

/** The alert stays for as long as the replica that it names is there. */
function resolveWhenReplaced(h: Harness, replica: string): void {
  h.platform.onChange(() => {
    if (h.platform.workload("payments").replicas.every((r) => r.ref.name !== replica)) h.fire("Ill", { replica }, "resolved");
  });
}

const RESTART = ["StartReplacement", "RemoveFromTraffic", "Capture", "Stop"];

describe("one episode", () => {
  it("replaces the replica that is ill, verifies, and says so", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const { status } = h.only();
    assert.deepEqual([status.phase, status.outcome], ["Succeeded", "Remediated"]);
    assert.deepEqual(h.platform.log, RESTART);
    assert.equal(h.platform.workload("payments").replicas.length, 3);
    assert.ok(h.platform.workload("payments").replicas.every((r) => r.ref.name !== replica));
    assert.equal(status.artifacts.length, 1);
    assert.deepEqual(h.pages, []);
    await h.stop();
  });

  it("does nothing about what may mean a replica of that name in another namespace", async () => {
    const { h, replica } = await ill();
    await h.start({
      platform: (platform) =>
        platformWith(platform, {
          workloads: () =>
            platform.workloads().flatMap((each) => {
              const elsewhere = <T extends { readonly ref: object }>(of: T): T => ({
                ...of,
                ref: { ...of.ref, namespace: "other", uid: "u" },
              });
              return [each, { ...elsewhere(each), replicas: each.replicas.map(elsewhere) }];
            }),
        }),
    });
    h.fire("Ill", { replica, namespace: undefined } as unknown as Record<string, string>);
    await h.pass(20_000);
    assert.deepEqual([h.remediations(), h.platform.log], [[], []]);
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.length > 0));
    await h.stop();
  });

  it("puts the decision with all twelve verdicts and the intent on record before the first effect", async () => {
    const { h, replica } = await ill();
    const seen: string[][] = [];
    await h.start({
      platform: (platform) =>
        platformWith(platform, {
          apply: (effect, signal) => {
            seen.push(h.records.map((record) => record.type));
            return platform.apply(effect, signal);
          },
        }),
    });
    h.fire("Ill", { replica });
    await h.until(() => h.ended());
    assert.deepEqual(seen[0], ["Started", "Signal", "Decision", "Intent"]);
    const decision = h.records.find((record) => record.type === "Decision");
    assert.ok(!h.said("Intent").some((message) => message.includes("again")), "an intent was recorded twice without a crash");
    assert.equal((decision?.data?.["verdicts"] as unknown[] | undefined)?.length, 12);
    await h.stop();
  });

  it("keeps what an agent wrote into its status meanwhile, and takes the capture as done once", async () => {
    const { h, replica } = await ill();
    await h.start({
      platform: (platform) =>
        platformWith(platform, {
          apply: async (effect, signal) => {
            const result = await platform.apply(effect, signal);
            if (effect.type === "Capture") {
              const stored = await h.store.get("Remediation", "default", h.only().metadata.name);
              assert.ok(stored);
              const entry = { effectId: effect.id, state: "Done", node: "node-1", startedAt: "2026-01-01T00:00:00Z" } as const;
              await h.store.update({ ...stored, status: { ...stored.status, captures: [...stored.status.captures, entry] } });
            }
            return result;
          },
        }),
    });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const { status } = h.only();
    assert.equal(status.outcome, "Remediated");
    const step = status.attempts[0]?.steps.find((s) => s.type === "capture");
    assert.match(step?.message ?? "", /found done/, "the first try to store its result met the agent's write");
    assert.deepEqual(
      status.captures.map((entry) => entry.effectId),
      [step?.effectId],
    );
    assert.deepEqual(h.platform.log, RESTART);
    await h.stop();
  });

  it("folds an alert that fires again and again into one episode and one action", async () => {
    const { h, replica } = await ill();
    await h.start();
    for (let i = 0; i < 20; i++) {
      h.fire("Ill", { replica }, i % 2 === 0 ? "firing" : "resolved");
      await h.pass(250);
    }
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.remediations().length, 1);
    assert.equal(h.platform.log.filter((type) => type === "Stop").length, 1);
    await h.stop();
  });

  it("never begins a second episode on a target through another policy (S1)", async () => {
    const { h, replica } = await ill();
    await h.policy({ targets: [{ name: "payments" }] }, "second");
    await h.start();
    h.fire("Ill", { replica });
    let most = 0;
    await h.until(() => {
      most = Math.max(most, h.remediations().filter((r) => r.status.endedAt === undefined).length);
      return h.ended();
    });
    assert.equal(most, 1);
    assert.ok(h.said("Decision").some((message) => message.includes("InProgress")));
    assert.equal(h.platform.log.filter((type) => type === "Stop").length, 1);
    await h.stop();
  });
});

describe("not acting", () => {
  it("in Observe writes its own record and touches nothing (S7)", async () => {
    const { h, replica } = await ill({ mode: "Observe" });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(5_000);
    assert.equal(h.only().status.outcome, "Observed");
    assert.deepEqual(h.platform.log, []);
    assert.ok(h.said("Decision").some((message) => message.startsWith("I would have fixed this now")));
    await h.stop();
  });

  it("tells once how long a signal took to be known, by its source", async () => {
    const { h, replica } = await ill();
    const told: unknown[] = [];
    // What Alertmanager had already when Nightshift began to ask.
    h.fire("Ill", { replica });
    const known = [...h.alerts.values()][0];
    assert.ok(known);
    h.alerts.set(known.fingerprint, { ...known, startsAt: known.startsAt - 90_000 });
    await h.start({}, { metrics: { ...NO_METRICS, detected: (source, seconds) => void told.push([source, seconds]) } });
    await h.pass(5_000);
    assert.deepEqual(told, [["Alertmanager", 90]]);
    await h.stop();
  });

  it("does nothing on a resolved alert (S4)", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.fire("Ill", { replica }, "resolved");
    await h.pass(10_000);
    assert.deepEqual(h.remediations(), []);
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });

  it("does nothing without the audit trail, and acts once it is there again", async () => {
    const { h, replica } = await ill();
    await h.start();
    h.auditFails = new NightshiftError("AUDIT_UNAVAILABLE", "no space left");
    h.fire("Ill", { replica });
    await h.pass(5_000);
    assert.deepEqual(h.platform.log, []);
    assert.ok(h.errors.length > 0);
    h.auditFails = undefined;
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, RESTART);
    await h.stop();
  });

  it("ends as SelfRecovered when the signal resolves while a gate blocks", async () => {
    const { h, replica } = await ill({ paused: { reason: "release day" } });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(3_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "Paused"]);
    h.fire("Ill", { replica }, "resolved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "SelfRecovered");
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });

  it("pages once when a gate blocks for too long, and stays blocked (L2)", async () => {
    const { h, replica } = await ill({ budgets: [{ maxUnavailable: 0 }], escalation: { blockedFor: "30s" }, maxSignalAge: "1h" });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(120_000, 1_000);
    assert.equal(h.pages.length, 1);
    assert.equal(h.only().status.phase, "Blocked");
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });
});

describe("a dependency that is ill", () => {
  it("keeps its dependents untouched, with one live episode and one page for the root cause (S1, S5)", async () => {
    const h = new Harness();
    for (const name of ["storefront", "payments", "bank"]) h.platform.addWorkload(name, 2);
    const spec = { signals: [{ name: "errors", errorRate: { above: "20%", for: "1s" } }], escalation: { blockedFor: "30s" } };
    await h.policy(spec, "payments");
    await h.policy(spec, "storefront");
    for (const [from, to] of [
      ["storefront", "payments"],
      ["payments", "bank"],
    ] as const)
      await h.store.create({
        apiVersion: "nightshift.dev/v1alpha1",
        kind: "ServiceDependency",
        metadata: { name: `${from}-${to}`, namespace: "default" },
        spec: { from: { name: from }, to: { name: to }, unhealthyAbove: "10%", window: "30s" },
      });
    for (const name of ["storefront", "payments", "bank"]) h.telemetry.rates.set(name, { total: 100, failed: 90 });
    await h.start();
    await h.pass(120_000, 500);
    assert.deepEqual(h.platform.log, []);
    assert.equal(h.only().status.reason, "DependencyUnhealthy");
    assert.match(h.only().spec.diagnosis.rootCauseKey, /bank$/);
    assert.match(h.only().spec.diagnosis.summary, /bank/);
    for (const who of ["payments", "storefront"])
      assert.ok(
        h.records.some(
          (r) => r.type === "Decision" && String(r.data?.["signalTarget"]).endsWith(who) && String(r.data?.["dependency"]).endsWith("bank"),
        ),
        `no decision about ${who}`,
      );
    assert.equal(h.pages.length, 1);
    // The other dependent's signal belongs to this episode, once: it does not fire again while it goes on firing.
    assert.ok(h.only().status.signalsFolded <= 2, `${h.only().status.signalsFolded} folded`);
    await h.stop();
  });
});

describe("evidence that is more than a Remediation keeps", () => {
  it("is kept whole, and the Remediation says how much there is and where", async () => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-evidence-"));
    for (const shelf of [new EvidenceFiles(dir), undefined]) {
      const h = new Harness();
      h.platform.addWorkload("payments", 3);
      for (let i = 0; i < 60; i++) {
        h.platform.addWorkload(`service-${i}`, 1);
        h.telemetry.rates.set(`service-${i}`, { total: 100, failed: 0 });
        const dependency = dependencyObject(`payments-${i}`);
        await h.store.create({ ...dependency, spec: { ...dependency.spec, to: { name: `service-${i}` } } });
      }
      await h.policy({ mode: "Observe" });
      await h.start({}, shelf === undefined ? {} : { shelf });
      h.fire("Ill", { replica: "payments-1" });
      assert.ok(await h.until(() => h.remediations().length > 0));
      const { evidence, allEvidence } = h.only().spec.diagnosis;
      const decided = h.records.find(({ type }) => type === "Decision")?.data?.["evidence"] as readonly unknown[];
      assert.ok(decided.length > 60 && evidence.length <= 40, `${decided.length} pieces, ${evidence.length} kept`);
      assert.equal(allEvidence?.pieces, decided.length);
      if (shelf === undefined) assert.match(allEvidence?.problem ?? "", /nothing keeps it here/);
      else assert.deepEqual(shelf.read(allEvidence.sha256), decided);
      await h.stop();
    }
    rmSync(dir, { recursive: true });
  });
});

describe("a dependency that is well again", () => {
  /** What becomes of the episode when nothing is heard any more of what has failed. */
  const silence = async (called: string) => {
    const h = await story(called);
    h.telemetry.rates.delete(called);
    await h.pass(5_000, 500);
    const { status } = h.only();
    await h.stop();
    return { status, acted: h.platform.log.length > 0 };
  };
  const story = async (called = "bank"): Promise<Harness> => {
    const h = new Harness();
    for (const name of ["payments", "bank"]) h.platform.addWorkload(name, 2);
    await h.policy({
      signals: [{ name: "errors", errorRate: { above: "20%", for: "1s" } }],
      ladder: [{ strategy: "RollingRestart" }],
      escalation: { blockedFor: "10m" },
    });
    await h.store.create({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "ServiceDependency",
      metadata: { name: "payments-bank", namespace: "default" },
      spec: { from: { name: "payments" }, to: { name: called }, unhealthyAbove: "10%", window: "30s" },
    });
    for (const name of ["payments", called]) h.telemetry.rates.set(name, { total: 100, failed: 90 });
    await h.start();
    await h.pass(60_000, 500);
    assert.deepEqual([h.only().status.reason, h.platform.log], ["DependencyUnhealthy", []]);
    return h;
  };

  it("leaves a dependent that never reconnects to be healed, in the same episode, with what is wrong now on record", async () => {
    const h = await story();
    h.telemetry.rates.set("bank", { total: 100, failed: 0 });
    await h.pass(5_000, 500);
    const { spec, status } = h.only();
    assert.ok(h.platform.log.length > 0, "it is acted on");
    assert.equal(spec.diagnosis.cause, "DependencyFailure");
    assert.equal(status.diagnosis?.cause, "HighErrorRate");
    assert.match(status.diagnosis?.evidence.map(({ message }) => message).join() ?? "", /bank is healthy/);
    h.telemetry.rates.set("payments", { total: 100, failed: 0 });
    await h.pass(120_000, 500);
    assert.equal(h.only().status.outcome, "Remediated");
    await h.stop();
  });

  it("leaves one that is well with it alone", async () => {
    const h = await story();
    for (const name of ["payments", "bank"]) h.telemetry.rates.set(name, { total: 100, failed: 0 });
    await h.pass(60_000, 500);
    assert.deepEqual([h.only().status.outcome, h.platform.log], ["SelfRecovered", []]);
    await h.stop();
  });

  it("is not believed to be well for lack of data, unless its replicas are known to run", async () => {
    const here = await silence("bank");
    assert.match(here.status.diagnosis?.evidence.map(({ message }) => message).join() ?? "", /bank is unknown/);
    assert.equal(here.acted, true);
    const elsewhere = await silence("visa");
    assert.deepEqual([elsewhere.acted, elsewhere.status.reason], [false, "NoData"]);
    assert.match(elsewhere.status.message ?? "", /whether it is well again is not known: visa is unknown/);
  });
});

describe("approval", () => {
  const answer = async (h: Harness, decision: "Approved" | "Denied"): Promise<void> => {
    const { metadata } = h.only();
    await h.store.create({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationApproval",
      metadata: { name: `${metadata.name}-1`, namespace: metadata.namespace },
      spec: { remediation: metadata.name, decision, by: "ada", at: new Date(h.clock.now()).toISOString() },
    });
  };

  it("asks, waits, and acts after a yes", async () => {
    const { h, replica } = await ill({ mode: "Approve" });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(3_000);
    assert.equal(h.only().status.phase, "AwaitingApproval");
    assert.deepEqual(h.platform.log, []);
    assert.deepEqual(
      h.pages.map((page) => page.severity),
      ["Info"],
    );
    assert.equal(h.resolved.length, 0);
    await answer(h, "Approved");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "Remediated");
    // The question is closed under its own key: what it opened at a receiver does not stay open.
    const [closed, ...more] = h.resolved;
    assert.deepEqual(more, []);
    assert.deepEqual([closed?.dedupKey, closed?.severity], [h.pages[0]?.dedupKey, "Info"]);
    assert.match(closed?.summary ?? "", /^needs no answer any more: approved by ada at /);
    const { metadata, spec } = h.only();
    assert.deepEqual(h.pages[0]?.question, {
      namespace: "default",
      name: metadata.name,
      uid: metadata.uid,
      targetUid: spec.remediationTarget.uid,
    });
    await h.stop();
  });

  it("ends after a no", async () => {
    const { h, replica } = await ill({ mode: "Approve" });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(3_000);
    await answer(h, "Denied");
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Cancelled", "Denied"]);
    assert.deepEqual(h.platform.log, []);
    assert.deepEqual(
      h.resolved.map(({ summary }) => summary),
      ["needs no answer any more: Cancelled, denied by ada"],
    );
    await h.stop();
  });

  it("pages when nobody answers", async () => {
    const { h, replica } = await ill({ mode: "Approve", approval: { timeout: "30s" }, maxSignalAge: "1h" });
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended() && h.pages.some((page) => page.severity === "Page")));
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Escalated", "ApprovalTimeout"]);
    await h.stop();
  });
});

describe("what goes wrong on the way", () => {
  it("takes the replacement away again when it never becomes ready; the old one stays in traffic (L3)", async () => {
    const { h, replica } = await ill();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length > 0, 300_000));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    assert.equal(h.platform.workload("payments").replicas.length, 3);
    assert.ok(h.platform.workload("payments").replicas.every((r) => r.inTraffic));
    assert.equal(h.remediations().find((r) => r.status.page !== undefined)?.status.phase, "Escalated");
    await h.stop();
  });

  it("does not stop the replica when its required capture failed; it goes back into traffic (S8)", async () => {
    const { h, replica } = await ill();
    h.platform.failing.set("Capture", "no space left on device");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length > 0));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "RestoreTraffic", "RemoveReplacement"]);
    assert.ok(h.platform.workload("payments").replicas.some((r) => r.ref.name === replica && r.inTraffic));
    await h.stop();
  });

  it("tries nothing again once a person was paged for it, as long as the fault lasts", async () => {
    const { h, replica } = await ill({ maxSignalAge: "24h" });
    h.platform.failing.set("Capture", "no space left on device");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length > 0));
    const done = [...h.platform.log];
    await h.pass(30 * 60_000, 1_000);
    assert.deepEqual(h.platform.log, done);
    assert.equal(h.pages.length, 1);
    assert.ok(h.remediations().some((r) => r.status.reason === "CircuitOpen"));
    await h.stop();
  });

  it("goes on without a capture that is not required", async () => {
    const { h, replica } = await ill({ ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot", required: false }] }] });
    h.platform.failing.set("Capture", "no space left on device");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveFromTraffic", "Stop"]);
    await h.stop();
  });

  it("cancels and undoes when the policy is deleted during the episode", async () => {
    const { h, replica } = await ill();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    await h.store.delete("RemediationPolicy", "default", "payments");
    // Long before the replacement would have to be ready: a step that only waits does not outlive its policy.
    await h.pass(5_000);
    assert.equal(h.only().status.phase, "Cancelled");
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    await h.stop();
  });

  it("applies the limits of an edited policy from the next step on", async () => {
    const { h, replica } = await ill();
    h.platform.replacementsBecomeReady = false;
    await h.start();
    h.fire("Ill", { replica });
    await h.until(() => h.platform.log.includes("StartReplacement"));
    const stored = await h.store.get("RemediationPolicy", "default", "payments");
    assert.ok(stored !== undefined);
    await h.store.update({ ...stored, spec: { ...stored.spec, paused: { reason: "hands off" } } });
    const started = h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "";
    h.platform.change("payments", started, { ready: true, everReady: true });
    assert.ok(await h.until(() => h.remediations().some((r) => r.status.phase === "Cancelled")));
    assert.match(h.remediations().find((r) => r.status.phase === "Cancelled")?.status.message ?? "", /hands off/);
    assert.deepEqual(h.platform.log, ["StartReplacement", "RemoveReplacement"]);
    await h.stop();
  });

  it("ends when somebody else restarted the target, and fights nobody", async () => {
    const { h, replica } = await ill({ paused: { reason: "wait" } });
    await h.start();
    h.fire("Ill", { replica });
    await h.pass(2_000);
    const gone = h.platform.workload("payments").replicas.find((r) => r.ref.name === replica);
    h.platform.remove("payments", gone?.ref.uid ?? "");
    h.platform.addReplica("payments");
    assert.ok(await h.until(() => h.ended()));
    assert.equal(h.only().status.outcome, "SelfRecovered");
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });

  it("escalates what cannot be known after a crash, and does not try it again (S9)", async () => {
    const { h, replica } = await ill({ ladder: [{ strategy: "RunJob", command: ["true"] }] });
    h.platform.failing.set("RunJob", "the connection was lost");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended() && h.pages.length > 0));
    assert.equal(h.only().status.outcome, "Inconclusive");
    assert.deepEqual(h.platform.log, []);
    await h.stop();
  });
});

describe("strikes", () => {
  it("three attempts that do not help, then no more, and exactly one page (S6)", async () => {
    const { h } = await ill({ verify: { stableFor: "2s", timeout: "5s" }, cooldown: "2s", maxSignalAge: "24h" });
    await h.start();
    // Every replacement is as ill as the one before it.
    const fireOnNewest = (): void => {
      const newest = h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "";
      h.fire("Ill", { replica: newest });
    };
    fireOnNewest();
    h.platform.onChange(fireOnNewest);
    await h.pass(300_000, 500);
    assert.equal(h.platform.log.filter((type) => type === "Stop").length, 3);
    assert.equal(h.pages.length, 1);
    assert.equal(h.pages[0]?.severity, "Page");
    await h.stop();
  });

  it("a person closes the circuit: it is tried again from then on, once for all that fired meanwhile, and paged for anew", async () => {
    const { h } = await ill({
      verify: { stableFor: "2s", timeout: "5s" },
      cooldown: "2s",
      maxSignalAge: "24h",
      attempts: { max: 2, window: "6h" },
      escalation: { blockedFor: "24h" },
    });
    await h.start();
    const fireOnNewest = (): void => h.fire("Ill", { replica: h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "" });
    const stops = (): number => h.platform.log.filter((type) => type === "Stop").length;
    fireOnNewest();
    h.platform.onChange(fireOnNewest);
    assert.ok(await h.until(() => h.pages.length === 1));
    for (let i = 0; i < 40; i++) {
      fireOnNewest();
      await h.pass(30_000, 10_000);
    }
    assert.deepEqual([stops(), h.pages.length], [2, 1]);
    const escalated = h.remediations().find((r) => r.status.phase === "Escalated");
    await h.store.create<"RemediationApproval">({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationApproval",
      metadata: { name: "closed", namespace: "default" },
      spec: {
        remediation: escalated?.metadata.name ?? "",
        decision: "CircuitClosed",
        by: "ada",
        at: new Date(h.clock.now()).toISOString(),
        reason: "a fix is out",
      },
    });
    await h.pass(3_000);
    assert.ok(stops() <= 3, "one at a time");
    await h.pass(300_000, 500);
    assert.deepEqual([stops(), h.pages.length], [4, 2]);
    await h.stop();
  });

  it("an alert that fires and resolves every 15 s during a recovery of 30 s gives one action, and so does one that goes on", async () => {
    const spec = { ladder: [{ strategy: "RunJob", command: ["heal"] }], verify: { stableFor: "20s", timeout: "2m" }, cooldown: "10m" };
    for (const lasts of [30, 480]) {
      const { h } = await ill(spec);
      await h.start();
      for (let at = 0; at <= lasts; at += 15) {
        h.fire("Ill", { workload: "payments" }, at % 30 === 0 ? "firing" : "resolved");
        await h.pass(15_000);
      }
      h.fire("Ill", { workload: "payments" }, "resolved");
      await h.pass(60_000);
      assert.deepEqual(h.platform.log, ["RunJob"], `for ${lasts} s`);
      const { signalsFolded, outcome } = h.only().status;
      assert.ok(signalsFolded > 0, "what fires again while it is verified is part of the episode");
      assert.equal(outcome, lasts === 30 ? "Remediated" : "Ineffective");
      await h.stop();
    }
  });

  const jobs = { ladder: [{ strategy: "RunJob", command: ["a"] }, { strategy: "RestartPod" }], cooldown: "1s", attempts: { max: 9 } };
  const verify = { stableFor: "2s", timeout: "5s" };
  for (const firstRung of ["LeastDisruptive", "WhatWorkedLast"] as const)
    it(`with firstRung ${firstRung} a second episode begins ${firstRung === "WhatWorkedLast" ? "with what worked in the first, and then goes on from the top" : "from the top again"}`, async () => {
      const { h } = await ill({ ...jobs, verify, firstRung });
      await h.start();
      const name = (i: number): string => h.platform.workload("payments").replicas[i]?.ref.name ?? "";
      const tried = (): (string | undefined)[][] => h.remediations().map((r) => r.status.attempts.map(({ what }) => what));
      const first = name(0);
      h.fire("Ill", { replica: first });
      resolveWhenReplaced(h, first);
      assert.ok(await h.until(() => h.ended()));
      assert.deepEqual(tried(), [["RunJob", "RestartPod"]]);
      await h.pass(5_000);
      // This time a restart does not help: the replacement is ill, too.
      const second = name(0);
      h.fire("Ill", { replica: second });
      h.platform.onChange(() => h.fire("Ill", { replica: h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "" }));
      assert.ok(await h.until(() => (tried()[1]?.length ?? 0) === 2));
      assert.deepEqual(tried()[1], firstRung === "WhatWorkedLast" ? ["RestartPod", "RunJob"] : ["RunJob", "RestartPod"]);
      await h.stop();
    });

  it("verifies each rung by its own measure", async () => {
    const { h, replica } = await ill({
      ladder: [
        { strategy: "RunJob", command: ["a"], verify: { timeout: "50s" } },
        { strategy: "RunJob", command: ["b"] },
      ],
      verify,
    });
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const [a, b] = h.only().status.attempts.map((attempt) => Date.parse(attempt.endedAt ?? "") - Date.parse(attempt.startedAt));
    assert.ok(a !== undefined && b !== undefined && a >= 50_000 && a < 60_000 && b >= 5_000 && b < 15_000, `${a} and ${b} ms`);
    await h.stop();
  });

  it("climbs the ladder inside one episode", async () => {
    const { h, replica } = await ill({
      ladder: [{ strategy: "Notify", message: "look" }, { strategy: "RestartPod" }],
      verify: { stableFor: "2s", timeout: "5s" },
    });
    await h.start();
    h.fire("Ill", { replica });
    resolveWhenReplaced(h, replica);
    assert.ok(await h.until(() => h.ended()));
    assert.deepEqual(
      h.only().status.attempts.map((attempt) => [attempt.what, attempt.outcome]),
      [
        ["Notify", "Ineffective"],
        ["RestartPod", "Effective"],
      ],
    );
    await h.stop();
  });
});

describe("the next rung", () => {
  const ladder = [{ strategy: "RestartPod" }, { strategy: "RunJob", command: ["heal"] }];
  for (const recovers of [true, false])
    it(`after one that could not be carried out is ${recovers ? "not begun for what has recovered meanwhile" : "begun for what goes on"}`, async () => {
      const { h, replica } = await ill({ ladder });
      await h.start(refusing("StartReplacement", () => (recovers ? h.fire("Ill", { replica }, "resolved") : undefined)));
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.ended(), 900_000));
      const { phase, outcome, reason, message } = h.only().status;
      assert.equal(h.platform.log.includes("RunJob"), !recovers);
      if (recovers) {
        assert.deepEqual([phase, outcome, reason], ["Succeeded", "SelfRecovered", "SignalResolved"]);
        assert.match(message ?? "", /the signal resolved after attempt 1, RestartPod, which failed/);
        assert.deepEqual(h.pages, []);
      }
      await h.stop();
    });

  it("of what recovers and falls ill again is begun then", async () => {
    const { h, replica } = await ill({ ladder });
    await h.start(refusing("StartReplacement", () => h.fire("Ill", { replica }, "resolved")));
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.remediations()[0]?.status.reason === "SignalResolved"));
    assert.equal(h.only().status.phase, "Blocked");
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.platform.log.includes("RunJob")));
    assert.equal(h.only().status.attempts.length, 2);
    await h.stop();
  });

  it("that was held back is begun for what replaced the target and is as ill, in the same episode", async () => {
    const { h, replica } = await ill({ ladder, verify: { stableFor: "2s", timeout: "5s" }, maxSignalAge: "1h" });
    await h.start();
    h.fire("Ill", { replica });
    const newest = (): string => h.platform.workload("payments").replicas.at(-1)?.ref.name ?? "";
    h.platform.onChange(() => {
      if (h.platform.log.includes("Stop")) h.fire("Ill", { replica: newest() });
    });
    assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
    const paused = async (now: boolean): Promise<void> => {
      const policy = await h.store.get("RemediationPolicy", "default", "payments");
      assert.ok(policy);
      const { paused: _paused, ...spec } = policy.spec;
      await h.store.update({ ...policy, spec: now ? { ...spec, paused: { reason: "wait" } } : spec });
    };
    await paused(true);
    assert.ok(await h.until(() => h.only().status.phase === "Blocked"));
    await h.pass(60_000);
    assert.deepEqual([h.only().status.phase, h.only().status.reason], ["Blocked", "Paused"]);
    await paused(false);
    assert.ok(await h.until(() => h.platform.log.includes("RunJob")));
    assert.deepEqual(
      h.only().status.attempts.map(({ what }) => what),
      ["RestartPod", "RunJob"],
    );
    await h.stop();
  });

  it("is not begun for what is well when the time of the verification ends: it may have been for too short, and is waited for", async () => {
    for (const staysWell of [true, false]) {
      const jobs = [
        { strategy: "RunJob", command: ["a"] },
        { strategy: "RunJob", command: ["b"] },
      ];
      const { h, replica } = await ill({ ladder: jobs, verify: { stableFor: "20s", timeout: "30s" } });
      await h.start();
      h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.remediations()[0]?.status.phase === "Verifying"));
      await h.pass(25_000);
      h.fire("Ill", { replica }, "resolved");
      await h.pass(10_000);
      assert.equal(h.only().status.phase, "Verifying");
      if (!staysWell) h.fire("Ill", { replica });
      assert.ok(await h.until(() => h.only().status.phase !== "Verifying"));
      assert.deepEqual([h.only().status.outcome, h.only().status.attempts.length], staysWell ? ["Remediated", 1] : [undefined, 2]);
      await h.stop();
    }
  });
});

describe("paging", () => {
  it("goes on trying until the receiver confirms, also over a restart (L4)", async () => {
    const { h, replica } = await ill();
    h.platform.failing.set("StartReplacement", "fork failed");
    h.receiverFails = new NightshiftError("NOT_DELIVERED", "503");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.ended()));
    const { name } = h.only().metadata;
    const page = (): string | undefined => h.remediations().find((r) => r.metadata.name === name)?.status.page?.state;
    await h.pass(10_000);
    assert.equal(page(), "Pending");
    await h.stop();
    h.receiverFails = undefined;
    await h.start();
    assert.ok(await h.until(() => h.pages.length > 0, 600_000));
    await h.pass(60_000);
    assert.equal(h.pages.length, 1);
    assert.equal(page(), "Sent");
    await h.stop();
  });

  const paged = async (spec: Record<string, unknown> = {}) => {
    const { h, replica } = await ill({ attempts: { max: 1 }, maxSignalAge: "24h", ...spec });
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    return { h, replica };
  };

  it("the receivers are told that it is over once the signal has been gone for the cooldown; then another fault is another page", async () => {
    const { h, replica } = await paged({ cooldown: "1m", escalation: { blockedFor: "1m" } });
    await h.pass(120_000);
    h.fire("Ill", { replica }, "resolved");
    await h.pass(30_000);
    h.fire("Ill", { replica });
    await h.pass(50_000);
    h.fire("Ill", { replica }, "resolved");
    await h.pass(55_000);
    assert.equal(h.resolved.length, 0, "a signal that flaps is one incident");
    assert.ok(await h.until(() => h.resolved.length > 0, 30_000));
    assert.equal(h.resolved[0]?.dedupKey, h.pages[0]?.dedupKey);
    await h.pass(60_000);
    assert.deepEqual([h.resolved.length, h.pages.length], [1, 1]);
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 2, 300_000));
    await h.stop();
  });

  it("that it is over is tried until the receiver confirms, also over a restart, and not without data", async () => {
    const { h, replica } = await paged();
    h.receiverFails = new NightshiftError("NOT_DELIVERED", "503");
    h.fire("Ill", { replica }, "resolved");
    const state = (): string | undefined => h.remediations().find((r) => r.status.page !== undefined)?.status.page?.state;
    assert.ok(await h.until(() => state() === "Resolving"));
    await h.stop();
    h.receiverFails = undefined;
    await h.start();
    assert.ok(await h.until(() => state() === "Resolved", 600_000));
    assert.equal(h.resolved.length, 1);
    await h.stop();
  });

  it("an alert that has not been heard of since a start is no end of its incident", async () => {
    const { h } = await paged();
    await h.stop();
    h.alerts.clear();
    await h.start();
    await h.pass(120_000);
    assert.deepEqual(h.resolved, []);
    await h.stop();
  });

  it("an alert that expired keeps its incident open for as long as its replica is there: nobody has said that it is over", async () => {
    const { h, replica } = await ill({ attempts: { max: 1 }, maxSignalAge: "24h", escalation: { blockedFor: "1m" } });
    const labels = { replica, workload: "payments" };
    h.platform.failing.set("StartReplacement", "fork failed");
    await h.start();
    h.fire("Ill", labels);
    assert.ok(await h.until(() => h.pages.length === 1));
    h.fire("Ill", labels, "expired");
    await h.pass(300_000, 1_000);
    assert.equal(h.resolved.length, 0);
    h.platform.remove("payments", h.platform.workload("payments").replicas.find(({ ref }) => ref.name === replica)?.ref.uid ?? "");
    assert.ok(await h.until(() => h.resolved.length === 1, 60_000));
    await h.stop();
  });

  it("where it heals, the receivers are told at once", async () => {
    const { h, replica } = await ill({ budgets: [{ maxUnavailable: 0 }], escalation: { blockedFor: "5s" }, maxSignalAge: "24h" });
    resolveWhenReplaced(h, replica);
    await h.start();
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => h.pages.length === 1));
    const policy = await h.store.get("RemediationPolicy", "default", "payments");
    assert.ok(policy);
    await h.store.update({
      ...policy,
      spec: { ...policy.spec, budgets: [{ maxUnavailable: 1, timeZone: "UTC", whenRoundsToZero: "Block" }] },
    });
    assert.ok(await h.until(() => h.ended()));
    await h.pass(3_000);
    assert.deepEqual([h.only().status.outcome, h.resolved.length, h.pages.length], ["Remediated", 1, 1]);
    await h.stop();
  });

  it("a receiver that has confirmed is not told again because another has not", async () => {
    const { h, replica } = await ill();
    h.platform.failing.set("StartReplacement", "fork failed");
    const told: string[] = [];
    let fails = true;
    const receiver = (name: string): Receiver => ({
      name,
      send: async () => {
        told.push(name);
        if (name === "b" && fails) throw new NightshiftError("NOT_DELIVERED", "503");
      },
    });
    await h.start({}, { receivers: [receiver("a"), receiver("b")] });
    h.fire("Ill", { replica });
    assert.ok(await h.until(() => told.length >= 3));
    fails = false;
    assert.ok(await h.until(() => h.remediations().some((r) => r.status.page?.state === "Sent"), 600_000));
    assert.equal(told.filter((name) => name === "a").length, 1);
    await h.stop();
  });
});
