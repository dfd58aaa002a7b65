import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, it } from "node:test";
import { AlertBook, decodeAlerts } from "../src/observe/alertmanager.ts";
import { AlertmanagerPoll } from "../src/observe/alertmanager-poll.ts";
import { TelemetryStore } from "../src/observe/store.ts";
import { systemClock } from "../src/platform/host/clock.ts";
import { systemRandom } from "../src/platform/host/random.ts";
import type { Clock } from "../src/ports/clock.ts";
import { NightshiftMetrics } from "../src/server/metrics.ts";
import { startServer } from "../src/server/server.ts";
import { bearerCheck } from "../src/server/token.ts";
import { unusedPort } from "./support/ports.ts";

const BINARY = "/usr/bin/prometheus-alertmanager";
const TOKEN = "a-token-for-tests-only-1234567890";
const PROMETHEUS = "/usr/bin/prometheus";
const missing = existsSync(BINARY) ? false : "no Alertmanager here: scripts/apt-install.sh prometheus-alertmanager";

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1_200; i++) {
    if (await condition()) return;
    await delay(50);
  }
  assert.fail(`never happened: ${what}`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exit;
}

/** A real Alertmanager with one receiver `nightshift` that sends to `webhook`, and another for what is about `other`. */
async function alertmanager(dir: string, webhook: string): Promise<{ child: ChildProcess; api: string }> {
  await writeFile(
    join(dir, "alertmanager.yml"),
    `route:
  receiver: nightshift
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
  routes:
    - receiver: other
      matchers: [workload="other"]
receivers:
  - name: nightshift
    webhook_configs:
      - url: ${webhook}
        send_resolved: true
        http_config: { authorization: { type: Bearer, credentials: ${TOKEN} } }
  - name: other
`,
  );
  const port = unusedPort();
  const child = spawn(
    BINARY,
    [
      `--config.file=${join(dir, "alertmanager.yml")}`,
      `--storage.path=${join(dir, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--cluster.listen-address=",
      "--web.route-prefix=/am",
    ],
    { stdio: "ignore" },
  );
  const api = `http://127.0.0.1:${port}/am`;
  const isReady = (): Promise<boolean> =>
    fetch(`${api}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until(isReady, "Alertmanager is ready");
  return { child, api };
}

async function post(url: string, body: unknown): Promise<void> {
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.equal(response.status, 200, await response.text());
}

const memoryHigh = (workload: string, times: object): object => ({
  labels: { alertname: "MemoryHigh", workload },
  annotations: { summary: "memory grows" },
  ...times,
});

describe("the real Alertmanager", { skip: missing }, () => {
  it("delivers an alert that fires, then that it is resolved, with the bearer token", async () => {
    const dir = await mkdtemp(join(tmpdir(), "nightshift-alertmanager-"));
    const metrics = new NightshiftMetrics({ processMetrics: false });
    const alertBook = new AlertBook(systemClock);
    const server = await startServer({
      listen: { host: "127.0.0.1", port: 0 },
      authenticate: ({ authorization }) => bearerCheck(TOKEN)(authorization),
      telemetry: new TelemetryStore(systemClock),
      alertBook,
      metrics,
      readiness: () => ({ ready: true, checks: {} }),
      log: { info() {}, warn() {}, error() {} },
      clock: systemClock,
    });
    let child: ChildProcess | undefined;
    try {
      const started = await alertmanager(dir, `${server.url}/webhooks/alertmanager`);
      child = started.child;
      const alerts = `${started.api}/api/v2/alerts`;
      const startsAt = new Date(Date.now() - 1_000);
      await post(alerts, [memoryHigh("payments", { startsAt: startsAt.toISOString() })]);
      await until(() => alertBook.alerts().length === 1, "the alert arrives");
      const [firing] = alertBook.alerts();
      assert.deepEqual(
        [firing?.status, firing?.alertname, firing?.labels["workload"], firing?.annotations["summary"], firing?.startsAt, firing?.endsAt],
        ["firing", "MemoryHigh", "payments", "memory grows", startsAt.getTime(), undefined],
      );
      await post(alerts, [memoryHigh("payments", { startsAt: startsAt.toISOString(), endsAt: new Date().toISOString() })]);
      await until(() => alertBook.alerts()[0]?.status === "resolved", "it is resolved");
      const [resolved] = alertBook.alerts();
      assert.equal(resolved?.fingerprint, firing?.fingerprint);
      assert.ok((resolved?.endsAt ?? 0) >= startsAt.getTime());
      assert.doesNotMatch(await metrics.registry.metrics(), /nightshift_refused_total\{/);
    } finally {
      if (child) await ended(child);
      await server.close();
      await rm(dir, { recursive: true, force: true });
    }
  });

  it("says what fires when it is asked: what a Nightshift that has just started was never told", async () => {
    const dir = await mkdtemp(join(tmpdir(), "nightshift-alertmanager-"));
    // Its webhooks are sent to nobody.
    const { child, api } = await alertmanager(dir, `http://127.0.0.1:${unusedPort()}/webhooks/alertmanager`);
    try {
      const alerts = `${api}/api/v2/alerts`;
      const startsAt = new Date(Date.now() - 1_000).toISOString();
      await post(alerts, [memoryHigh("payments", { startsAt }), memoryHigh("shop", { startsAt }), memoryHigh("other", { startsAt })]);
      let ahead = 0;
      const clock: Clock = {
        now: () => systemClock.now() + ahead,
        monotonic: () => systemClock.monotonic(),
        after: (ms, callback) => systemClock.after(ms, callback),
      };
      const book = new AlertBook(clock);
      const told: string[] = [];
      const poll = new AlertmanagerPoll({
        sources: [{ url: api, receiver: "nightshift" }],
        book,
        clock,
        random: systemRandom,
        onError: (message) => told.push(message),
      });
      const states = async (): Promise<string> => {
        await poll.poll(new AbortController().signal);
        return book
          .alerts()
          .map((alert) => `${alert.labels["workload"]} ${alert.status}`)
          .toSorted((a, b) => a.localeCompare(b))
          .join(", ");
      };
      await until(async () => (await states()) === "payments firing, shop firing", "both are told of, and not the other receiver's");
      assert.equal(book.settled(), undefined);
      // By this clock it has been up for ten minutes.
      ahead = 600_000;
      await post(`${api}/api/v2/silences`, {
        matchers: [{ name: "workload", value: "shop", isRegex: false, isEqual: true }],
        startsAt: new Date().toISOString(),
        endsAt: new Date(Date.now() + 3_600_000).toISOString(),
        createdBy: "jane",
        comment: "looking at it",
      });
      const silenced = async (): Promise<boolean> => {
        await states();
        return book.settled()?.suppressed.some((alert) => alert.labels["workload"] === "shop") === true;
      };
      await until(silenced, "the silence is seen");
      const shop = book.alerts().find((alert) => alert.labels["workload"] === "shop");
      assert.deepEqual([shop?.status, shop?.suppressed], ["firing", true]);
      await post(alerts, [memoryHigh("payments", { startsAt, endsAt: new Date().toISOString() })]);
      await until(async () => (await states()) === "payments resolved, shop firing", "what is over is resolved, what is silenced is not");
      assert.deepEqual(told, []);
    } finally {
      await ended(child);
      await rm(dir, { recursive: true, force: true });
    }
  });
});

describe(
  "the real Prometheus and Alertmanager",
  { skip: existsSync(PROMETHEUS) ? missing : "no Prometheus here: scripts/apt-install.sh prometheus" },
  () => {
    it("an end that Prometheus tells of is one; that Prometheus is gone is none, and it is back when Prometheus is", async () => {
      const dir = await mkdtemp(join(tmpdir(), "nightshift-prometheus-"));
      const ill = new Set(["payments", "shop"]);
      const exporter = createServer((_request, response) => response.end([...ill].map((name) => `ill{workload="${name}"} 1\n`).join("")));
      await new Promise<void>((resolve) => exporter.listen(0, "127.0.0.1", resolve));
      const book = new AlertBook(systemClock);
      const webhook = createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on("data", (chunk: Buffer) => chunks.push(chunk));
        request.on("end", () => {
          book.deliver(decodeAlerts(Buffer.concat(chunks), systemClock.now()).alerts);
          response.end();
        });
      });
      await new Promise<void>((resolve) => webhook.listen(0, "127.0.0.1", resolve));
      const portOf = (server: Server): number => (server.address() as AddressInfo).port;
      const { child, api } = await alertmanager(dir, `http://127.0.0.1:${portOf(webhook)}/`);
      await writeFile(
        join(dir, "prometheus.yml"),
        `global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
scrape_configs: [{ job_name: shop, static_configs: [{ targets: ["127.0.0.1:${portOf(exporter)}"] }] }]
rule_files: [rules.yml]
alerting: { alertmanagers: [{ path_prefix: /am, static_configs: [{ targets: ["${new URL(api).host}"] }] }] }
`,
      );
      await writeFile(join(dir, "rules.yml"), "groups: [{ name: shop, rules: [{ alert: Ill, expr: ill == 1 }] }]\n");
      const port = unusedPort();
      // It repeats an alert every second, which then ends by itself after four; by default that takes four minutes.
      const prometheus = (): ChildProcess =>
        spawn(
          PROMETHEUS,
          [
            `--config.file=${join(dir, "prometheus.yml")}`,
            `--storage.tsdb.path=${join(dir, "tsdb")}`,
            `--web.listen-address=127.0.0.1:${port}`,
            "--rules.alert.resend-delay=1s",
            "--log.level=error",
          ],
          { stdio: "ignore" },
        );
      let running = prometheus();
      const poll = new AlertmanagerPoll({
        sources: [{ url: api, receiver: "nightshift" }],
        book,
        clock: systemClock,
        random: systemRandom,
        onError: (message) => assert.fail(message),
      });
      const is = async (expected: string): Promise<boolean> => {
        await poll.poll(new AbortController().signal);
        const states = book.alerts().map(({ labels, status, expired }) => `${labels["workload"]} ${expired === true ? "expired" : status}`);
        return states.toSorted((a, b) => a.localeCompare(b)).join(", ") === expected;
      };
      try {
        await until(() => is("payments firing, shop firing"), "both fire");
        ill.delete("shop");
        await until(() => is("payments firing, shop resolved"), "one is over");
        await ended(running);
        await until(() => is("payments expired, shop resolved"), "nobody says that the other is over");
        running = prometheus();
        await until(() => is("payments firing, shop resolved"), "it still fires");
        ill.clear();
        await until(() => is("payments resolved, shop resolved"), "it is over");
      } finally {
        await Promise.all([ended(running), ended(child)]);
        exporter.close();
        webhook.close();
        await rm(dir, { recursive: true, force: true });
      }
    });
  },
);
