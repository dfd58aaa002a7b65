import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, it } from "node:test";
import { AlertBook } from "../src/observe/alertmanager.ts";
import { TelemetryStore } from "../src/observe/store.ts";
import { systemClock } from "../src/platform/host/clock.ts";
import { NightshiftMetrics } from "../src/server/metrics.ts";
import { startServer } from "../src/server/server.ts";
import { bearerCheck } from "../src/server/token.ts";
import { unusedPort } from "./support/ports.ts";

const BINARY = "/usr/bin/prometheus-alertmanager";
const TOKEN = "a-token-for-tests-only-1234567890";
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
      await writeFile(
        join(dir, "alertmanager.yml"),
        `route: { receiver: nightshift, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }
receivers:
  - name: nightshift
    webhook_configs:
      - url: ${server.url}/webhooks/alertmanager
        send_resolved: true
        http_config: { authorization: { type: Bearer, credentials: ${TOKEN} } }
`,
      );
      const port = unusedPort();
      child = spawn(
        BINARY,
        [
          `--config.file=${join(dir, "alertmanager.yml")}`,
          `--storage.path=${join(dir, "data")}`,
          `--web.listen-address=127.0.0.1:${port}`,
          "--cluster.listen-address=",
        ],
        { stdio: "ignore" },
      );
      const api = `http://127.0.0.1:${port}`;
      await until(
        () =>
          fetch(`${api}/-/ready`).then(
            ({ ok }) => ok,
            () => false,
          ),
        "Alertmanager is ready",
      );
      const send = async (alert: object): Promise<void> => {
        const labels = { alertname: "MemoryHigh", workload: "payments" };
        const body = JSON.stringify([{ labels, annotations: { summary: "memory grows" }, ...alert }]);
        const response = await fetch(`${api}/api/v2/alerts`, { method: "POST", headers: { "content-type": "application/json" }, body });
        assert.equal(response.status, 200, await response.text());
      };
      const startsAt = new Date(Date.now() - 1_000);
      await send({ startsAt: startsAt.toISOString() });
      await until(() => alertBook.alerts().length === 1, "the alert arrives");
      const [firing] = alertBook.alerts();
      assert.deepEqual(
        [firing?.status, firing?.alertname, firing?.labels["workload"], firing?.annotations["summary"], firing?.startsAt, firing?.endsAt],
        ["firing", "MemoryHigh", "payments", "memory grows", startsAt.getTime(), undefined],
      );
      await send({ startsAt: startsAt.toISOString(), endsAt: new Date().toISOString() });
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
});
