import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { policy } from "../../test/support/harness.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { remediationObject } from "../../test/support/objects.ts";
import { FakeSlack, send } from "../../test/support/slack.ts";
import { until } from "../../test/support/until.ts";
import type { RemediationApproval } from "../api/approval.ts";
import { NightshiftError } from "../api/errors.ts";
import type { Remediation } from "../api/remediation.ts";
import { AlertBook } from "../observe/alertmanager.ts";
import { TelemetryStore } from "../observe/store.ts";
import { systemClock } from "../platform/host/clock.ts";
import { systemRandom } from "../platform/host/random.ts";
import type { Clock } from "../ports/clock.ts";
import { SlackReceiver } from "../record/receivers.ts";
import { NightshiftMetrics } from "./metrics.ts";
import { startServer } from "./server.ts";
import { isResponseUrl, MAX_SLACK_BODY, SLACK_PATH, SlackActions } from "./slack.ts";
import { bearerCheck } from "./token.ts";

const TOKEN = "a-token-for-tests-only-1234567890";
/** What takes seconds takes a hundredth of it. */
const QUICK: Clock = { ...systemClock, after: (ms, fn) => systemClock.after(ms / 100, fn) };
const APPROVERS = [
  { id: "U0JANE", name: "jane" },
  { id: "U0JOE", name: "joe", namespaces: ["shop"] },
];

interface Stage {
  readonly url: string;
  readonly slack: FakeSlack;
  readonly store: MemoryStore;
  readonly secretFile: string;
  readonly logged: string[];
  /** The message with the buttons. */
  ask(): Promise<FakeSlack["messages"][number]>;
  answers(): Promise<readonly RemediationApproval[]>;
  /** Waits for so many words to Slack, and says the last. */
  said(count: number): Promise<string>;
  change(change: (remediation: Remediation) => Remediation): Promise<void>;
}

/** A listener, a Slack, and an episode that waits for an answer. */
async function stage(t: TestContext, more: { readonly metrics?: NightshiftMetrics; readonly clock?: Clock } = {}): Promise<Stage> {
  const { metrics = new NightshiftMetrics(), clock = systemClock } = more;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-slack-"));
  const slack = await FakeSlack.start();
  const secretFile = join(dir, "signing-secret");
  writeFileSync(secretFile, `${slack.secret}\n`);
  const store = new MemoryStore(systemClock, systemRandom);
  const asked = remediationObject("payments-leak-4c1f");
  await store.create<"Remediation">({ ...asked, status: { ...asked.status, phase: "AwaitingApproval" } });
  const logged: string[] = [];
  const log = {
    info(): void {},
    warn: (_data: object, message: string): void => void logged.push(message),
    error: (_data: object, message: string): void => void logged.push(message),
  };
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    authenticate: ({ authorization }) => bearerCheck(TOKEN)(authorization),
    telemetry: new TelemetryStore(systemClock),
    alertBook: new AlertBook(systemClock),
    metrics,
    readiness: () => ({ ready: true, checks: {} }),
    slack: new SlackActions({ secretFile, teams: ["T0HOME"], approvers: APPROVERS, store: () => store, clock, log, loopback: true }),
    log,
    clock,
  });
  t.after(async () => {
    await server.close();
    await slack.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  return {
    url: server.url,
    slack,
    store,
    secretFile,
    logged,
    ask: async () => {
      const { metadata, spec } = (await store.get("Remediation", "default", asked.metadata.name)) ?? assert.fail();
      await new SlackReceiver({ name: "team", url: slack.webhookUrl, buttons: true }).send(
        {
          dedupKey: "k",
          severity: "Info",
          summary: "payments-1 leaks. May RestartPod be carried out?",
          remediation: "default/payments-leak-4c1f",
          policy: "default/leak",
          target: "Process/default/payments-1",
          details: ["it leaks"],
          question: {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid ?? "",
            targetUid: spec.remediationTarget.uid,
          },
          at: Date.now(),
        },
        new AbortController().signal,
      );
      return slack.question() ?? assert.fail("no buttons");
    },
    answers: () => store.list("RemediationApproval"),
    said: async (count) => {
      await until(() => assert.ok(slack.updates.length >= count, `${slack.updates.length} of ${count}`));
      return slack.updates.at(-1)?.text ?? "";
    },
    change: async (change) => {
      const found = (await store.get("Remediation", "default", asked.metadata.name)) ?? assert.fail();
      await store.update<"Remediation">(change(found));
    },
  };
}

describe("a button in Slack", () => {
  it("makes an approval with who, when, why and where, and the message says so in the place of its buttons", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    const before = Date.now();
    assert.equal(await s.slack.press(s.url, message, "approve", { reason: " known\u001b[31m  leak " }), 200);
    const [answer, ...more] = await s.answers();
    assert.deepEqual(more, []);
    const { at, ...spec } = answer?.spec ?? assert.fail();
    assert.deepEqual(spec, {
      remediation: "payments-leak-4c1f",
      targetUid: "u-1",
      decision: "Approved",
      by: "slack:U0JANE (jane)",
      via: "Slack",
      reason: "known [31m leak",
    });
    assert.ok(Date.parse(at) >= before && Date.parse(at) <= Date.now());
    assert.match(await s.said(1), /^\*Approved\* by slack:U0JANE \(jane\) at 20.*: known \[31m leak$/);
    const [update] = s.slack.updates;
    assert.equal(update?.replace_original, true);
    assert.deepEqual(
      update?.blocks?.map(({ type }) => type),
      [...(message.blocks ?? []).map(({ type }) => type).filter((type) => type !== "input" && type !== "actions"), "section"],
    );
  });

  it("denies, too", async (t) => {
    const s = await stage(t);
    assert.equal(await s.slack.press(s.url, await s.ask(), "deny"), 200);
    const [answer] = await s.answers();
    assert.deepEqual([answer?.spec.decision, answer?.spec.reason], ["Denied", undefined]);
    assert.match(await s.said(1), /^\*Denied\* by slack:U0JANE \(jane\)/);
  });

  it("that is clicked twice, at once or by two, makes one approval", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    const clicks = await Promise.all([
      s.slack.press(s.url, message, "approve"),
      s.slack.press(s.url, message, "approve", { reason: "again" }),
      s.slack.press(s.url, message, "approve", { reason: "and again" }),
    ]);
    assert.deepEqual(clicks, [200, 200, 200]);
    assert.equal((await s.answers()).length, 1);
    await s.said(3);
    const [answer] = await s.answers();
    // It has begun meanwhile: who said yes is what the late one is told.
    await s.change((remediation) => ({ ...remediation, status: { ...remediation.status, phase: "Executing" } }));
    assert.equal(await s.slack.press(s.url, message, "approve", { reason: "late" }), 200);
    assert.ok((await s.said(4)).includes(`at ${answer?.spec.at}`), "what was stored first");
    assert.equal((await s.answers()).length, 1);
    // A no is in time until it is over, and is another answer.
    assert.equal(await s.slack.press(s.url, message, "deny"), 200);
    assert.equal((await s.answers()).length, 2);
  });

  it("is nobody's whom the configuration does not name, for that namespace", async (t) => {
    const metrics = new NightshiftMetrics();
    const s = await stage(t, { metrics });
    const message = await s.ask();
    assert.equal(await s.slack.press(s.url, message, "approve", { user: "U0MALLORY" }), 200);
    assert.match(await s.said(1), /^No: Nightshift does not know you \(U0MALLORY of T0HOME, see slack.approvers\). Nothing was answered/);
    assert.equal(await s.slack.press(s.url, message, "deny", { user: "U0JOE" }), 200);
    assert.match(await s.said(2), /^No: you may not answer for namespace default/);
    // Slack's ids are unique within a workspace only, and a channel may be shared with another company's.
    assert.equal(await s.slack.press(s.url, message, "approve", { team: "T0OTHER" }), 200);
    assert.match(await s.said(3), /^No: Nightshift does not know you \(U0JANE of T0OTHER/);
    for (const update of s.slack.updates) assert.deepEqual([update.response_type, update.replace_original], ["ephemeral", false]);
    assert.deepEqual(await s.answers(), []);
    assert.match(await metrics.registry.metrics(), /nightshift_refused_total{listener="slack",reason="SLACK_NOT_APPROVER"} 3/);
  });

  it("that comes too late, or is about another target, says so and answers nothing", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    const value = (change: object): object => {
      const button = message.blocks?.flatMap(({ elements = [] }) => elements)[0];
      const question = JSON.parse(button?.value ?? "") as object;
      return { actions: [{ action_id: "nightshift.approve", value: JSON.stringify({ ...question, ...change }) }] };
    };
    const says = async (payload: object, text: RegExp): Promise<void> => {
      const count = s.slack.updates.length + 1;
      assert.equal(await s.slack.press(s.url, message, "approve", { payload }), 200);
      assert.match(await s.said(count), text);
      assert.deepEqual(await s.answers(), []);
    };
    await says(value({ targetUid: "u-2" }), /^The target has changed since this was asked/);
    await says(value({ uid: "another" }), /^The target has changed since this was asked/);
    await says(value({ name: "payments-leak-0000" }), /^There is no such remediation any more/);
    const { spec } = policy({ approval: { timeout: "1ms" } });
    await s.store.create<"RemediationPolicy">({ ...policy({}, "leak"), spec });
    await says({}, /^Too late: an answer was due within 1ms/);
    await s.store.delete("RemediationPolicy", "default", "leak");
    await s.change((remediation) => ({
      ...remediation,
      status: { ...remediation.status, phase: "Escalated", message: "nobody <!channel> answered within 5m" },
    }));
    await says({}, /^Too late: it waits for no answer: it is Escalated \(nobody &lt;!channel&gt; answered within 5m\)/);
  });

  it("is heard in time where the store is slow, and the message says what came of it later", async (t) => {
    const s = await stage(t, { clock: QUICK });
    let release = (): void => {};
    const slow = new Promise<void>((resolve) => (release = resolve));
    s.store.beforeWrite = () => slow;
    assert.equal(await s.slack.press(s.url, await s.ask(), "approve"), 200);
    assert.deepEqual([await s.answers(), s.slack.updates], [[], []]);
    release();
    assert.match(await s.said(1), /^\*Approved\*/);
    assert.equal((await s.answers()).length, 1);
  });

  it("whose answer cannot be stored keeps its buttons, and says to try again", async (t) => {
    const s = await stage(t);
    s.store.beforeWrite = () => {
      throw new NightshiftError("STORE_UNAVAILABLE", "the API server is away");
    };
    const message = await s.ask();
    assert.equal(await s.slack.press(s.url, message, "approve"), 200);
    assert.match(await s.said(1), /could not be stored. Please try again/);
    assert.equal(s.slack.updates[0]?.replace_original, false);
    s.store.beforeWrite = undefined;
    assert.equal(await s.slack.press(s.url, message, "approve", { reason: "again" }), 200);
    assert.equal((await s.answers()).length, 1);
  });

  it("a message that cannot be brought up to date is tried again, and no redirect is followed", async (t) => {
    const s = await stage(t, { clock: QUICK });
    const message = await s.ask();
    s.slack.statuses.push(503, 503);
    await s.slack.press(s.url, message, "approve");
    await s.said(3);
    s.slack.statuses.push(302);
    await s.slack.press(s.url, message, "deny");
    await s.said(4);
    await until(() => assert.deepEqual(s.logged, ["a message in Slack could not be brought up to date"]));
    assert.equal(s.slack.updates.length, 4);
  });
});

describe("what Slack has not signed", () => {
  it("is refused: unsigned, with another secret, changed, stale, of the future", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    const now = Date.now();
    const cases: Readonly<Record<string, Parameters<FakeSlack["press"]>[3]>> = {
      "no signature": { alter: ({ headers }) => void delete headers["x-slack-signature"] },
      "no timestamp": { alter: ({ headers }) => void delete headers["x-slack-request-timestamp"] },
      "an empty signature": { alter: ({ headers }) => void (headers["x-slack-signature"] = "v0=") },
      "the first bytes of it": {
        alter: ({ headers }) => void (headers["x-slack-signature"] = (headers["x-slack-signature"] ?? "").slice(0, 20)),
      },
      "another version": {
        alter: ({ headers }) => void (headers["x-slack-signature"] = (headers["x-slack-signature"] ?? "").replace("v0", "v1")),
      },
      "another secret": { secret: "another-secret-0123456789" },
      "another body": { alter: (request) => void (request.body = request.body.replace("U0JANE", "U0JACK")) },
      "another time": {
        alter: ({ headers }) => void (headers["x-slack-request-timestamp"] = String(Math.floor(now / 1_000) - 60)),
      },
      "five minutes and some ago": { at: now - 310_000 },
      "in more than five minutes": { at: now + 310_000 },
      "a time that is none": { alter: ({ headers }) => void (headers["x-slack-request-timestamp"] = "NaN") },
      "the bearer token instead": {
        alter: ({ headers }) => {
          delete headers["x-slack-signature"];
          headers["authorization"] = `Bearer ${TOKEN}`;
        },
      },
    };
    for (const [name, click] of Object.entries(cases)) assert.equal(await s.slack.press(s.url, message, "approve", click), 401, name);
    assert.deepEqual([await s.answers(), s.slack.updates], [[], []]);
  });

  it("is refused a second time, also in other letters", async (t) => {
    const s = await stage(t);
    const request = s.slack.request(await s.ask(), "deny");
    assert.equal(await send(s.url, request), 200);
    assert.equal(await send(s.url, request), 401);
    const signature = request.headers["x-slack-signature"] ?? "";
    const headers = { ...request.headers, "x-slack-signature": `v0=${signature.slice(3).toUpperCase()}` };
    assert.equal(await send(s.url, { ...request, headers }), 401);
    assert.equal((await s.answers()).length, 1);
  });

  it("is not read where it is large, and what is no click of ours is none", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    const press = (payload: object): Promise<number> => s.slack.press(s.url, message, "approve", { payload });
    assert.equal(await press({ padding: "x".repeat(MAX_SLACK_BODY) }), 413);
    assert.equal(await press({ type: "view_submission" }), 400);
    assert.equal(await press({ actions: [{ action_id: "somebody.elses", value: "{}" }] }), 400);
    assert.equal(await press({ actions: [{ action_id: "nightshift.approve", value: "x" }] }), 400);
    assert.equal(await press({ user: { id: "U0JANE) of ours", team_id: "T0HOME" } }), 400);
    assert.equal(await press({ user: { id: "U0JANE" } }), 400);
    assert.equal(await press({ response_url: `${s.url}/metrics`.replace("127.0.0.1", "localhost") }), 400);
    assert.equal(await press({ response_url: "http://169.254.169.254/latest/meta-data" }), 400);
    assert.deepEqual([await s.answers(), s.slack.updates], [[], []]);
  });

  it("nobody gets in while the secret is missing or weak; another one is taken without a restart", async (t) => {
    const s = await stage(t);
    const message = await s.ask();
    rmSync(s.secretFile);
    assert.equal(await s.slack.press(s.url, message, "approve"), 503);
    writeFileSync(s.secretFile, "short");
    assert.equal(await s.slack.press(s.url, message, "approve", { secret: "short" }), 503);
    writeFileSync(s.secretFile, s.slack.secret);
    assert.equal(await s.slack.press(s.url, message, "approve"), 200);
  });

  it("has no address where it is not configured", async (t) => {
    const server = await startServer({
      listen: { host: "127.0.0.1", port: 0 },
      authenticate: ({ authorization }) => bearerCheck(TOKEN)(authorization),
      telemetry: new TelemetryStore(systemClock),
      alertBook: new AlertBook(systemClock),
      metrics: new NightshiftMetrics(),
      readiness: () => ({ ready: true, checks: {} }),
      log: { info() {}, warn() {}, error() {} },
      clock: systemClock,
    });
    t.after(() => server.close());
    for (const [headers, status] of [
      [{}, 401],
      [{ authorization: `Bearer ${TOKEN}` }, 404],
    ] as const) {
      const response = await fetch(`${server.url}${SLACK_PATH}`, { method: "POST", headers, body: "payload={}" });
      await response.body?.cancel();
      assert.equal(response.status, status);
    }
  });
});

describe("an address to answer to", () => {
  it("is Slack's, over TLS", () => {
    for (const good of ["https://hooks.slack.com/actions/T/1/x", "https://hooks.slack-gov.com/actions/T/1/x"])
      assert.ok(isResponseUrl(good, false), good);
    for (const bad of [
      "http://hooks.slack.com/actions",
      "https://hooks.slack.com:8443/actions",
      "https://hooks.slack.com.example.com/actions",
      "https://hooks.slack.com@example.com/actions",
      "https://user:word@hooks.slack.com/actions",
      "https://example.com/?https://hooks.slack.com",
      "https://slack.com/actions",
      "https://127.0.0.1/actions",
      "http://127.0.0.1/actions",
      "http://[::1]/actions",
      "file:///etc/passwd",
      "hooks.slack.com",
      "",
    ])
      assert.ok(!isResponseUrl(bad, false), bad);
    assert.ok(isResponseUrl("http://127.0.0.1:8080/actions", true));
    for (const bad of ["http://localhost/a", "http://127.0.0.1@example.com/", "http://2130706433.example.com/", "http://10.0.0.1/"])
      assert.ok(!isResponseUrl(bad, true), bad);
  });
});
