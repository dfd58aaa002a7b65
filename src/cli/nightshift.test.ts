import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { pino } from "pino";
import { activeAlert, FakeAlertmanager } from "../../test/support/fake-alertmanager.ts";
import { API_VERSION } from "../api/meta.ts";
import { policySpecSchema } from "../api/policy.ts";
import { until } from "../platform/host/fixtures/harness.ts";
import { stackSchema } from "../platform/host/stack.ts";
import { startNightshift, type Running } from "./nightshift.ts";

/** A workload that writes down what it was told about its telemetry. */
const PROGRAM = `require("node:fs").writeFileSync("env.json", JSON.stringify(process.env)); setInterval(() => {}, 1000);`;

async function running(t: TestContext, extra: object = {}): Promise<{ dir: string; nightshift: Running }> {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-up-"));
  writeFileSync(join(dir, "program.cjs"), PROGRAM);
  const nightshift = await startNightshift({
    stack: stackSchema.parse({
      listen: "127.0.0.1:0",
      workloads: [{ name: "web", command: [process.execPath, "program.cjs"] }],
      ...extra,
    }),
    stackDir: dir,
    stateDir: join(dir, "state"),
    log: pino({ level: "silent" }),
  });
  t.after(async () => {
    await nightshift.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  return { dir, nightshift };
}

describe("nightshift up", () => {
  it("gives workloads a token for their telemetry, with which nothing else can be done", async (t) => {
    const { dir, nightshift } = await running(t);
    const env = await until("the workload", () => {
      const file = join(dir, "env.json");
      return existsSync(file) && (JSON.parse(readFileSync(file, "utf8") || "{}") as Record<string, string>);
    });
    assert.equal(env["OTEL_EXPORTER_OTLP_ENDPOINT"], nightshift.url);
    const authorization = decodeURIComponent(/Authorization=(.*)/.exec(env["OTEL_EXPORTER_OTLP_HEADERS"] ?? "")?.[1] ?? "");
    assert.match(authorization, /^Bearer \S{43}$/);
    const ask = async (method: string, path: string, body?: string): Promise<number> => {
      const headers = { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) };
      const response = await fetch(`${nightshift.url}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
      await response.body?.cancel();
      return response.status;
    };
    assert.equal(await ask("POST", "/v1/metrics", "{}"), 200);
    for (const [method, path, body] of [
      ["POST", "/webhooks/alertmanager", '{"version":"4","alerts":[]}'],
      ["GET", "/metrics", undefined],
      ["GET", "/api/v1/status", undefined],
      ["GET", "/v1/metrics/", undefined],
      ["POST", "//v1/metrics", "{}"],
    ] as const)
      assert.equal(await ask(method, path, body), 401, `${method} ${path}`);
    assert.ok(!JSON.stringify(env).includes(nightshift.token), "the token itself is nowhere in the workload's environment");
  });

  it("takes from nobody what it measures itself", async (t) => {
    const { nightshift } = await running(t);
    const replica = await until("the first reading of its memory", () => {
      const [found] = nightshift.platform.workloads()[0]?.replicas ?? [];
      return found !== undefined && nightshift.telemetry.replicaSeries(found.ref.uid, "memory", 0).length > 0 && found;
    });
    const timeUnixNano = `${Date.now()}000000`;
    const gauge = (name: string): object => ({ name, gauge: { dataPoints: [{ timeUnixNano, asDouble: 1 }] } });
    const resource = { attributes: [{ key: "service.instance.id", value: { stringValue: replica.ref.uid } }] };
    const response = await fetch(`${nightshift.url}/v1/metrics`, {
      method: "POST",
      headers: { authorization: `Bearer ${nightshift.token}`, "content-type": "application/json" },
      body: JSON.stringify({
        resourceMetrics: [{ resource, scopeMetrics: [{ metrics: [gauge("memory"), gauge("cpu"), gauge("queue")] }] }],
      }),
    });
    assert.deepEqual(await response.json(), { partialSuccess: { rejectedDataPoints: "2", errorMessage: "points refused: 2 reserved" } });
    assert.ok(nightshift.telemetry.replicaSeries(replica.ref.uid, "memory", 0).every(({ v }) => v !== 1));
  });

  it("learns from Alertmanager itself what fires, which no webhook has told it", async (t) => {
    const alertmanager = new FakeAlertmanager(Date.now() - 3_600_000);
    alertmanager.alerts = [activeAlert("a", { workload: "web" }, Date.now())];
    t.after(() => alertmanager.close());
    const { nightshift } = await running(t, { alertmanagers: [{ url: await alertmanager.start() }] });
    await nightshift.store.create({
      apiVersion: API_VERSION,
      kind: "RemediationPolicy",
      metadata: { name: "web", namespace: "default" },
      spec: policySpecSchema.parse({
        targets: [{ name: "web" }],
        mode: "Observe",
        signals: [{ name: "ill", alert: { alertname: "Ill" } }],
        ladder: [{ strategy: "RollingRestart" }],
      }),
    });
    await until("an episode", async () => (await nightshift.store.list("Remediation"))[0]?.spec.signal.source === "Alertmanager");
  });

  it("its state is for its owner only", async (t) => {
    const { dir } = await running(t);
    const state = join(dir, "state");
    assert.equal(statSync(state).mode & 0o777, 0o700);
    for (const file of [
      "token",
      "url",
      "nightshift.db",
      "nightshift.db-wal",
      "nightshift.lock",
      "audit.jsonl",
      "audit.jsonl.lock",
      "logs/web.log",
    ])
      assert.equal(statSync(join(state, file)).mode & 0o077, 0, file);
  });
});
