// The whole way on one machine: a fault, the question in Slack, a button, the approval, and what comes of it.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { pino } from "pino";
import { isTerminal, type Remediation } from "../src/api/remediation.ts";
import { startNightshift } from "../src/cli/nightshift.ts";
import { stackOf, until } from "../src/platform/host/fixtures/harness.ts";
import { unusedPort } from "./support/ports.ts";
import { FakeSlack, type SlackMessage } from "./support/slack.ts";
import { webhookAlert, webhookBody } from "./support/webhook.ts";

it("a question is answered in Slack: a yes acts, a no ends it, and what was asked is closed", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-slack-"));
  const slack = await FakeSlack.start();
  writeFileSync(join(dir, "signing-secret"), slack.secret);
  writeFileSync(join(dir, "webhook-url"), slack.webhookUrl);
  const names = ["web", "mail"] as const;
  const policies = names.map((name) => ({
    apiVersion: "nightshift.dev/v1alpha1",
    kind: "RemediationPolicy",
    metadata: { name },
    spec: {
      mode: "Approve",
      targets: [{ name }],
      signals: [{ name: "ill", alert: { alertname: "Ill" } }],
      ladder: [{ strategy: "RestartPod" }],
      verify: { stableFor: "1s", timeout: "2m" },
      approval: { timeout: "10m" },
    },
  }));
  writeFileSync(join(dir, "policies.yaml"), policies.map((policy) => JSON.stringify(policy)).join("\n---\n"));
  const nightshift = await startNightshift({
    stack: stackOf(
      // Behind the router, which counts what is in flight.
      names.map((name) => ({ name, replicas: 2, port: unusedPort() })),
      {
        listen: "127.0.0.1:0",
        resources: ["policies.yaml"],
        receivers: [{ name: "team", type: "Slack", urlFile: "webhook-url" }],
        slack: { signingSecretFile: "signing-secret", teams: ["T0HOME"], approvers: [{ id: "U0JANE", name: "jane" }] },
      },
    ),
    stackDir: dir,
    stateDir: join(dir, "state"),
    log: pino({ level: "silent" }),
    slackLoopback: true,
  });
  t.after(async () => {
    await nightshift.stop();
    await slack.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const { store, platform, url } = nightshift;

  const fire = async (replica: string, endsAt?: string): Promise<void> => {
    const alert = webhookAlert({ labels: { replica }, fingerprint: replica, ...(endsAt === undefined ? {} : { endsAt }) });
    const headers = { authorization: `Bearer ${nightshift.token}`, "content-type": "application/json" };
    const response = await fetch(`${url}/webhooks/alertmanager`, { method: "POST", headers, body: webhookBody([alert]) });
    assert.equal(response.status, 200, await response.text());
  };
  const target = (name: string) =>
    until(`${name} to be ready`, () => {
      const workload = platform.workloads().find(({ ref }) => ref.name === name);
      return workload?.replicas.length === 2 && workload.replicas.every(({ ready }) => ready) && workload.replicas[0];
    });
  const asked = (name: string): Promise<SlackMessage> =>
    until(`the question about ${name}`, () => slack.messages.find((message) => JSON.stringify(message).includes(`default/${name}-`)));
  const ended = (name: string): Promise<Remediation> =>
    until(`the end of the episode of ${name}`, async () =>
      (await store.list("Remediation")).find((each) => each.spec.policy.name === name && isTerminal(each)),
    );

  const web = await target("web");
  const stop = platform.onChange(() => {
    if (platform.workloads().some((w) => w.replicas.some((r) => r.ref.uid === web.ref.uid && r.phase !== "Exited"))) return;
    stop();
    void fire(web.ref.name, new Date().toISOString());
  });
  await fire(web.ref.name);
  const question = await asked("web");
  assert.equal(await slack.press(url, question, "approve", { user: "U0MALLORY" }), 200);
  assert.equal(await slack.press(url, question, "approve", { secret: "not-the-secret-0123456789" }), 401);
  assert.deepEqual(await store.list("RemediationApproval"), []);
  assert.equal(await slack.press(url, question, "approve", { reason: "known leak" }), 200);
  const healed = await ended("web");
  assert.deepEqual([healed.status.outcome, healed.status.phase], ["Remediated", "Succeeded"], JSON.stringify(healed.status));
  assert.match(
    healed.status.gates.find(({ gate }) => gate === "AwaitingApproval")?.message ?? "",
    /^approved by slack:U0JANE \(jane\) at /,
  );
  assert.ok(platform.workloads().every((w) => w.replicas.every((r) => r.ref.uid !== web.ref.uid || r.phase === "Exited")));

  const mail = await target("mail");
  await fire(mail.ref.name);
  assert.equal(await slack.press(url, await asked("mail"), "deny", { reason: "release in ten minutes" }), 200);
  const denied = await ended("mail");
  assert.deepEqual(
    [denied.status.phase, denied.status.reason, denied.status.message, denied.status.attempts],
    ["Cancelled", "Denied", "denied by slack:U0JANE (jane): release in ten minutes", []],
  );
  assert.equal((await target("mail")).ref.uid, mail.ref.uid, "it was not touched");

  assert.deepEqual(
    (await store.list("RemediationApproval"))
      .map(({ spec }) => [spec.decision, spec.by, spec.via, spec.reason])
      .toSorted(([a = ""], [b = ""]) => a.localeCompare(b)),
    [
      ["Approved", "slack:U0JANE (jane)", "Slack", "known leak"],
      ["Denied", "slack:U0JANE (jane)", "Slack", "release in ten minutes"],
    ],
  );
  await until(
    "both messages to say what came of it",
    () => slack.updates.filter((update) => update.replace_original === true).length === 2,
  );
  await until("both questions to be closed", () => slack.messages.filter(({ text }) => text.startsWith("Answered: ")).length === 2);
});
