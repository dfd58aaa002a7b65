// The whole way on a real API server: a question in Slack, a button, the approval that the operator's own account writes under the
// chart's roles and admission policies, and what comes of it.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import type { RemediationApproval } from "../../src/api/approval.ts";
import { messageOf } from "../../src/api/errors.ts";
import { API_VERSION } from "../../src/api/meta.ts";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import { operatorConfigSchema } from "../../src/cli/operator-config.ts";
import { type RunningOperator, startOperator } from "../../src/cli/operator.ts";
import { kubeconfigAccess } from "../../src/platform/kubernetes/access.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { FakeSlack, type SlackMessage } from "../support/slack.ts";
import { webhookAlert, webhookBody } from "../support/webhook.ts";
import { deployment, FAKE, OWN, service, SHOP } from "./support.ts";

const CHART = resolve(import.meta.dirname, "../../deploy/chart");
const TOKEN = "a-token-for-tests-only-1234567890";

describe("an approval in Slack on a real API server", { skip: lacking({ nodes: false, tools: ["kube", "kwok", "helm"] }) }, () => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-slack-"));
  const lines: string[] = [];
  let cluster: Cluster;
  let slack: FakeSlack;
  let operator: RunningOperator;

  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3, tools: ["helm"] });
    slack = await FakeSlack.start();
    for (const namespace of [SHOP, OWN]) await cluster.kubectl(["create", "namespace", namespace]);
    await cluster.exec(
      ["helm", "install", "nightshift", CHART, "-n", OWN].concat([
        "--set",
        "receivers[0].name=team,receivers[0].type=Slack,receivers[0].urlFile=/etc/nightshift/receivers/url,receiverSecret=slack",
        "--set",
        "slack.signingSecretFile=/etc/nightshift/receivers/secret,slack.teams={T0HOME},slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane",
      ]),
    );
    // The operator is this process, as the account that the chart made.
    await cluster.kubectl(["scale", "deployment", "nightshift", "--replicas=0", "-n", OWN]);
    const names = ["web", "mail"];
    await cluster.apply(names.flatMap((name) => [deployment(name, 3, FAKE), service(name)]));
    await cluster.apply([
      {
        apiVersion: API_VERSION,
        kind: "Runbook",
        metadata: { name: "quick", namespace: SHOP },
        spec: { steps: [{ startReplacement: {} }, { awaitReady: {} }, { removeFromTraffic: {} }, { stop: { gracePeriod: "1s" } }] },
      },
      ...names.map((name) => ({
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name, namespace: SHOP },
        spec: {
          mode: "Approve",
          targets: [{ name }],
          signals: [{ name: "ill", alert: { alertname: "Ill" } }],
          maxSignalAge: "1h",
          ladder: [{ runbook: "quick" }],
          verify: { stableFor: "1s", timeout: "2m" },
          approval: { timeout: "30m" },
        },
      })),
    ]);
    for (const [file, text] of Object.entries({ url: slack.webhookUrl, secret: slack.secret, token: TOKEN }))
      writeFileSync(join(dir, file), text);
    const { outer } = cluster.kubeconfigFor(await cluster.token(OWN, "nightshift"), "nightshift");
    operator = await startOperator({
      access: await kubeconfigAccess([outer]),
      namespace: OWN,
      lease: "nightshift",
      podName: undefined,
      listen: { host: "127.0.0.1", port: 0 },
      tokenFile: join(dir, "token"),
      stateDir: join(dir, "state"),
      config: operatorConfigSchema.parse({
        receivers: [{ name: "team", type: "Slack", urlFile: "url" }],
        slack: { signingSecretFile: "secret", teams: ["T0HOME"], approvers: [{ id: "U0JANE", name: "jane" }] },
      }),
      configDir: dir,
      log: pino({ level: "debug" }, { write: (line: string) => void lines.push(line) }),
      slackLoopback: true,
    });
    await operator.leading;
  });
  after(async () => {
    await operator?.stop();
    await slack?.stop();
    await cluster?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const fire = async (pod: string, endsAt?: string): Promise<void> => {
    const alert = webhookAlert({ labels: { namespace: SHOP, pod }, fingerprint: pod, ...(endsAt === undefined ? {} : { endsAt }) });
    const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
    const response = await fetch(`${operator.url}/webhooks/alertmanager`, { method: "POST", headers, body: webhookBody([alert]) });
    assert.equal(response.status, 200, await response.text());
  };
  const log = (): string => lines.slice(-20).join("");
  const target = (name: string): Promise<string> =>
    cluster.until(`pods of ${name}`, async () => {
      const workload = operator.platform.workloads().find(({ ref }) => ref.name === name);
      return workload?.replicas.length === 3 && workload.replicas.every(({ ready }) => ready) && workload.replicas[0]?.ref.name;
    });
  const asked = (name: string): Promise<SlackMessage> =>
    cluster
      .until(`the question about ${name}`, async () => slack.messages.find((each) => JSON.stringify(each).includes(`${SHOP}/${name}-`)))
      .catch((error: unknown) => assert.fail(`${messageOf(error)}\n${log()}`));
  const ended = (name: string): Promise<Remediation> =>
    cluster
      .until(`the end of the episode of ${name}`, async () => {
        const { items } = await cluster.request<{ items: Remediation[] }>("GET", `/apis/${API_VERSION}/namespaces/${SHOP}/remediations`);
        return items.find((each) => each.spec.policy.name === name && isTerminal(each));
      })
      .catch((error: unknown) => assert.fail(`${messageOf(error)}\n${log()}`));
  const answers = async (): Promise<readonly RemediationApproval["spec"][]> => {
    const { items } = await cluster.request<{ items: RemediationApproval[] }>(
      "GET",
      `/apis/${API_VERSION}/namespaces/${SHOP}/remediationapprovals`,
    );
    return items.map(({ spec }) => spec);
  };

  it("a yes acts, once, and only of those that the configuration names", async () => {
    const pod = await target("web");
    await fire(pod);
    const question = await asked("web");
    assert.equal(await slack.press(operator.url, question, "approve", { user: "U0MALLORY" }), 200);
    assert.equal(await slack.press(operator.url, question, "approve", { secret: "not-the-secret-0123456789" }), 401);
    assert.deepEqual(await answers(), []);
    const stop = operator.platform.onChange(() => {
      if (operator.platform.workloads().some((w) => w.replicas.some((r) => r.ref.name === pod && r.phase !== "Exited"))) return;
      stop();
      void fire(pod, new Date().toISOString());
    });
    const clicks = [1, 2].map((n) => slack.press(operator.url, question, "approve", { reason: `known, ${n}` }));
    assert.deepEqual(await Promise.all(clicks), [200, 200]);
    const healed = await ended("web");
    assert.deepEqual([healed.status.phase, healed.status.outcome], ["Succeeded", "Remediated"], JSON.stringify(healed.status));
    const [answer, ...others] = await answers();
    assert.deepEqual(others, []);
    assert.deepEqual([answer?.decision, answer?.by, answer?.via], ["Approved", "slack:U0JANE (jane)", "Slack"]);
    assert.match(answer?.reason ?? "", /^known, [12]$/);
    assert.ok(slack.updates.some(({ text }) => text.startsWith("*Approved* by slack:U0JANE (jane)")));
  });

  it("a no ends it, and nothing is touched", async () => {
    const pod = await target("mail");
    await fire(pod);
    assert.equal(await slack.press(operator.url, await asked("mail"), "deny", { reason: "release" }), 200);
    const denied = await ended("mail");
    assert.deepEqual(
      [denied.status.phase, denied.status.reason, denied.status.message],
      ["Cancelled", "Denied", "denied by slack:U0JANE (jane): release"],
    );
    assert.equal(await target("mail"), pod);
  });

  it("the account itself can answer for nobody else", async () => {
    await assert.rejects(
      operator.store.create<"RemediationApproval">({
        apiVersion: API_VERSION,
        kind: "RemediationApproval",
        metadata: { name: "own", namespace: SHOP },
        spec: { remediation: "any", decision: "Approved", by: "slack:U0MALLORY (jane)", via: "Slack", at: new Date().toISOString() },
      }),
      (error) => /nightshift does not answer what it asks/.test(messageOf(error)),
    );
  });
});
