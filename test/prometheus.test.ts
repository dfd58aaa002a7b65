// From scrape to action, with the real Prometheus and the real Alertmanager: nothing between a pod's number and what is done
// about it is played.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import { API_VERSION } from "../src/api/meta.ts";
import { policySpecSchema } from "../src/api/policy.ts";
import type { Remediation } from "../src/api/remediation.ts";
import { runbookSpecSchema } from "../src/api/runbook.ts";
import { type Running, startNightshift } from "../src/cli/nightshift.ts";
import { stackSchema } from "../src/platform/host/stack.ts";
import { unusedPort } from "./support/ports.ts";

const BINARIES = ["/usr/bin/prometheus", "/usr/bin/prometheus-alertmanager"];
const missing = BINARIES.every((binary) => existsSync(binary))
  ? false
  : "no Prometheus or Alertmanager here: scripts/apt-install.sh prometheus prometheus-alertmanager";

async function until<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  for (let i = 0; i < 1_200; i++) {
    const found = await ask();
    if (found !== undefined && found !== false) return found;
    await delay(100);
  }
  return assert.fail(`never happened: ${what}`);
}

async function ended(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exit;
}

const isUp = (url: string): Promise<boolean> =>
  fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );

describe("the real Prometheus and Alertmanager", { skip: missing }, () => {
  /** What the exporter says of how full each pool is. */
  const pools = new Map<string, number>();
  const ports = { prometheus: 0, alertmanager: 0, nightshift: 0 };
  let dir = "";
  let exporter: Server;
  let prometheus: ChildProcess | undefined;
  let alertmanager: ChildProcess | undefined;
  let nightshift: Running;

  const startPrometheus = async (): Promise<void> => {
    prometheus = spawn(
      "/usr/bin/prometheus",
      [
        `--config.file=${join(dir, "prometheus.yml")}`,
        `--storage.tsdb.path=${join(dir, "tsdb")}`,
        `--web.listen-address=127.0.0.1:${ports.prometheus}`,
        "--web.route-prefix=/prom",
        "--log.level=error",
      ],
      { stdio: "ignore" },
    );
    await until("Prometheus is ready", () => isUp(`http://127.0.0.1:${ports.prometheus}/prom/-/ready`));
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "nightshift-prometheus-"));
    exporter = createServer((_request, response) => {
      response.end([...pools].map(([workload, share]) => `pool_in_use_ratio{workload="${workload}"} ${share}\n`).join(""));
    });
    await new Promise<void>((resolve) => exporter.listen(0, "127.0.0.1", resolve));
    const target = (exporter.address() as { port: number }).port;
    for (const name of ["prometheus", "alertmanager", "nightshift"] as const) ports[name] = unusedPort();
    await writeFile(join(dir, "program.cjs"), "setInterval(() => {}, 1000);");
    await writeFile(
      join(dir, "prometheus.yml"),
      `global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
scrape_configs: [{ job_name: shop, honor_labels: true, static_configs: [{ targets: ["127.0.0.1:${target}"] }] }]
rule_files: [rules.yml]
alerting: { alertmanagers: [{ path_prefix: /am, static_configs: [{ targets: ["127.0.0.1:${ports.alertmanager}"] }] }] }
`,
    );
    await writeFile(
      join(dir, "rules.yml"),
      `groups: [{ name: shop, rules: [{ alert: PoolFull, expr: pool_in_use_ratio > 0.9, for: 2s, labels: { severity: page } }] }]\n`,
    );
    nightshift = await startNightshift({
      stack: stackSchema.parse({
        listen: `127.0.0.1:${ports.nightshift}`,
        prometheus: { url: `http://127.0.0.1:${ports.prometheus}/prom` },
        alertmanagers: [{ url: `http://127.0.0.1:${ports.alertmanager}/am`, receiver: "nightshift" }],
        workloads: ["asked", "alerted", "unknown"].map((name) => ({ name, command: [process.execPath, "program.cjs"], replicas: 1 })),
      }),
      stackDir: dir,
      stateDir: join(dir, "state"),
      log: pino({ level: "silent" }),
    });
    await writeFile(
      join(dir, "alertmanager.yml"),
      `route: { receiver: nightshift, group_by: [workload], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }
receivers:
  - name: nightshift
    webhook_configs:
      - url: ${nightshift.url}/webhooks/alertmanager
        http_config: { authorization: { credentials: ${nightshift.token} } }
`,
    );
    alertmanager = spawn(
      "/usr/bin/prometheus-alertmanager",
      [
        `--config.file=${join(dir, "alertmanager.yml")}`,
        `--storage.path=${join(dir, "am")}`,
        `--web.listen-address=127.0.0.1:${ports.alertmanager}`,
        "--web.route-prefix=/am",
        "--cluster.listen-address=",
      ],
      { stdio: "ignore" },
    );
    await until("Alertmanager is ready", () => isUp(`http://127.0.0.1:${ports.alertmanager}/am/-/ready`));
    await startPrometheus();
    await nightshift.store.create({
      apiVersion: API_VERSION,
      kind: "Runbook",
      metadata: { name: "renew", namespace: "default" },
      spec: runbookSpecSchema.parse({
        // Nobody says how many requests are in flight: it is not waited for long.
        steps: [
          { startReplacement: {} },
          { awaitReady: {} },
          { removeFromTraffic: {} },
          { awaitInFlight: {}, timeout: "1s" },
          { stop: {} },
        ],
      }),
    });
  });

  after(async () => {
    await nightshift?.stop();
    await Promise.all([ended(prometheus), ended(alertmanager)]);
    exporter?.close();
    await rm(dir, { recursive: true, force: true });
  });

  const policy = (workload: string, signal: object): Promise<unknown> =>
    nightshift.store.create({
      apiVersion: API_VERSION,
      kind: "RemediationPolicy",
      metadata: { name: workload, namespace: "default" },
      spec: policySpecSchema.parse({
        targets: [{ name: workload }],
        mode: "Enforce",
        signals: [{ name: "full", ...signal }],
        ladder: [{ runbook: "renew" }],
        verify: { stableFor: "3s", timeout: "2m" },
        cooldown: "1s",
      }),
    });
  const episode = (workload: string, isWanted: (remediation: Remediation) => boolean): Promise<Remediation> =>
    until(`an episode of ${workload}`, async () =>
      (await nightshift.store.list("Remediation")).find((r) => r.spec.policy.name === workload && isWanted(r)),
    );
  /** The pool is full until the workload was restarted. */
  const fullUntilRestarted = async (workload: string): Promise<void> => {
    const uidOf = (): string | undefined => nightshift.platform.workloads().find((w) => w.ref.name === workload)?.replicas[0]?.ref.uid;
    const first = await until(`${workload} runs`, uidOf);
    pools.set(workload, 0.99);
    const stop = nightshift.platform.onChange(() => {
      if ((uidOf() ?? first) === first) return;
      pools.set(workload, 0.1);
      stop();
    });
  };

  it("a query of a policy: asked, fires, acts, and is verified by what Prometheus says then", async () => {
    pools.set("asked", 0.1);
    await policy("asked", { promql: { query: "pool_in_use_ratio", above: 0.9, for: "3s", every: "5s" } });
    await fullUntilRestarted("asked");
    const done = await episode("asked", (r) => r.status.endedAt !== undefined);
    assert.deepEqual([done.status.phase, done.status.outcome], ["Succeeded", "Remediated"], done.status.message);
    assert.equal(done.spec.signal.source, "Prometheus");
    assert.match(done.spec.diagnosis.evidence[0]?.message ?? "", /pool_in_use_ratio is 0\.99 for asked, above 0\.9/);
  });

  it("an alert: rule, group, webhook, action, resolved", async () => {
    pools.set("alerted", 0.1);
    await policy("alerted", { alert: { alertname: "PoolFull" } });
    await fullUntilRestarted("alerted");
    const done = await episode("alerted", (r) => r.status.endedAt !== undefined);
    assert.deepEqual([done.status.phase, done.status.outcome], ["Succeeded", "Remediated"], done.status.message);
    assert.equal(done.spec.signal.source, "Alertmanager");
  });

  it("no row, a query that is wrong, and a Prometheus that is down are missing data: nothing is done", async () => {
    const query = { query: "pool_in_use_ratio", rangeMs: 0, everyMs: 5_000 };
    const ask = (what: typeof query): string => JSON.stringify(nightshift.telemetry.promql?.(what) ?? {});
    await policy("unknown", { promql: { query: query.query, above: 0.9, for: "0s", every: "5s" } });
    const ready = await until("what it says of itself", async () => {
      const stored = await nightshift.store.get("RemediationPolicy", "default", "unknown");
      return stored?.status?.conditions.find(({ type, status }) => type === "Ready" && status === "False");
    });
    assert.deepEqual([ready.reason, ready.message], ["NoData", "nothing is known for signal full of Workload unknown"]);
    const wrong = { ...query, query: "sum(" };
    assert.match(await until("it is refused", () => /problem/.test(ask(wrong)) && ask(wrong)), /answered 400.*parse error/);
    await until("its rows are there", () => /rows/.test(ask(query)));
    await ended(prometheus);
    await until("it is missed", () => /problem/.test(ask(query)));
    pools.set("unknown", 0.99);
    await delay(3_000);
    assert.equal(
      (await nightshift.store.list("Remediation")).some((r) => r.spec.policy.name === "unknown"),
      false,
    );
    await startPrometheus();
    await fullUntilRestarted("unknown");
    const done = await episode("unknown", (r) => r.status.endedAt !== undefined);
    assert.equal(done.status.outcome, "Remediated", done.status.message);
  });
});
