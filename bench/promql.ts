import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { fetch } from "undici";
import { startNightshift } from "../src/cli/nightshift.ts";
import { type PromqlQuery, stepsOf } from "../src/observe/promql.ts";
import { stackSchema } from "../src/platform/host/stack.ts";
import { unusedPort } from "../test/support/ports.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

const PROMETHEUS = "/usr/bin/prometheus";
const POLICIES = 1_000;
const FILE_POLICIES = 250;
/** As often as policies may have it. */
const EVERY_S = 5;
const RANGE_S = 60;
/** As many questions at once as Nightshift has. */
const AT_ONCE = 8;
/** Time for what must come (ms). */
const LIMIT_MS = 300_000;

/** What this machine lacks. */
export const lacksPrometheus = (): readonly string[] => (existsSync(PROMETHEUS) ? [] : ["Prometheus: scripts/apt-install.sh prometheus"]);

const queryOf = (shard: number): PromqlQuery => ({
  query: `max by (workload) (queue_depth{shard="${shard}"})`,
  rangeMs: RANGE_S * 1000,
  everyMs: EVERY_S * 1000,
});

/** A real Prometheus that scrapes one number of each shard. */
async function startPrometheus(
  dir: string,
): Promise<{ readonly url: string; readonly asked: () => Promise<number>; readonly stop: () => Promise<void> }> {
  const shards = Array.from({ length: POLICIES }, (_, i) => `queue_depth{workload="bench",shard="${i}"} ${i % 50}\n`).join("");
  const exporter = createServer((_request, response) => response.end(shards));
  await new Promise<void>((done) => exporter.listen(0, "127.0.0.1", done));
  const { port } = exporter.address() as AddressInfo;
  writeFileSync(
    join(dir, "prometheus.yml"),
    JSON.stringify({
      global: { scrape_interval: "1s" },
      scrape_configs: [{ job_name: "bench", honor_labels: true, static_configs: [{ targets: [`127.0.0.1:${port}`] }] }],
    }),
  );
  const address = `127.0.0.1:${unusedPort()}`;
  const child = spawn(
    PROMETHEUS,
    [
      `--config.file=${join(dir, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(dir, "tsdb")}`,
      `--web.listen-address=${address}`,
      "--log.level=error",
    ],
    { stdio: "ignore" },
  );
  const exit = new Promise<void>((done) => void child.once("exit", () => done()).once("error", () => done()));
  const url = `http://${address}`;
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exit;
    exporter.close();
    exporter.closeAllConnections();
  };
  const isThere = async (): Promise<boolean> => {
    try {
      const found = (await (await fetch(`${url}/api/v1/query?query=count(queue_depth)`)).json()) as { data?: { result?: unknown[] } };
      return (found.data?.result?.length ?? 0) > 0;
    } catch {
      return false;
    }
  };
  for (const end = performance.now() + LIMIT_MS; !(await isThere()); await delay(100))
    if (performance.now() > end || child.exitCode !== null) {
      await stop();
      throw new Error("Prometheus does not come up");
    }
  return {
    url,
    stop,
    // By its own count.
    asked: async () => {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(/^prometheus_http_request_duration_seconds_count{handler="\/api\/v1\/query_range"} (\S+)/m.exec(text)?.[1] ?? 0);
    },
  };
}

/** Seconds on the clock, and of this process' CPU time. */
interface Took {
  readonly seconds: number;
  readonly cpu: number;
}

async function timed(work: () => Promise<void>): Promise<Took> {
  const [begin, before] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(before);
  return { seconds: (performance.now() - begin) / 1000, cpu: (user + system) / 1e6 };
}

/** The same questions, and nothing else: the bound. */
function rawRequests(url: string): Promise<Took> {
  return timed(async () => {
    let next = 0;
    const work = async (): Promise<void> => {
      for (let shard = next++; shard < POLICIES; shard = next++) {
        const { query, rangeMs } = queryOf(shard);
        const steps = stepsOf(rangeMs, Date.now());
        const seconds = (ms = 0): string => (ms / 1000).toFixed(3);
        const form = { query, start: seconds(steps[0]), end: seconds(steps.at(-1)), step: seconds((steps[1] ?? 0) - (steps[0] ?? 0)) };
        const response = await fetch(`${url}/api/v1/query_range`, { method: "POST", body: new URLSearchParams(form) });
        if (response.status !== 200) throw new Error(`Prometheus answered ${response.status}`);
        await response.arrayBuffer();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  });
}

interface Seen {
  /** Until every query was answered once. */
  readonly first: Took;
  /** Questions a second, and CPU time of a second, from then on. */
  readonly perSecond: number;
  readonly cpu: number;
}

/** A whole Nightshift with 1,000 policies whose queries are `shardOf` them. */
async function poll(
  url: string,
  dir: string,
  asked: () => Promise<number>,
  seconds: number,
  shardOf: (policy: number) => number,
): Promise<Seen> {
  const policies = Array.from({ length: POLICIES }, (_, i) => ({
    apiVersion: "nightshift.dev/v1alpha1",
    kind: "RemediationPolicy",
    metadata: { name: `bench-${i}` },
    spec: {
      mode: "Observe",
      targets: [{ name: "bench" }],
      signals: [{ name: "deep", promql: { query: queryOf(shardOf(i)).query, above: 100, for: `${RANGE_S}s`, every: `${EVERY_S}s` } }],
      ladder: [{ strategy: "RestartPod" }],
    },
  }));
  // A file has a largest size.
  const files = Array.from({ length: POLICIES / FILE_POLICIES }, (_, i) => {
    const of = policies.slice(i * FILE_POLICIES, (i + 1) * FILE_POLICIES);
    writeFileSync(join(dir, `policies-${i}.yaml`), of.map((each) => JSON.stringify(each)).join("\n---\n"));
    return `policies-${i}.yaml`;
  });
  const queries = [...new Set(policies.map((_, i) => shardOf(i)))].map(queryOf);
  const nightshift = await startNightshift({
    stack: stackSchema.parse({
      listen: `127.0.0.1:${unusedPort()}`,
      prometheus: { url },
      // Its own questions, which have nothing to do with policies.
      serviceGraph: { fromPrometheus: false },
      resources: files,
      workloads: [{ name: "bench", command: ["sleep", "infinity"] }],
    }),
    stackDir: dir,
    stateDir: mkdtempSync(join(dir, "state-")),
    log: pino({ level: "silent" }),
  });
  try {
    const first = await timed(async () => {
      for (const end = performance.now() + LIMIT_MS; ; await delay(20)) {
        const answers = queries.map((query) => nightshift.telemetry.promql?.(query));
        const problem = answers.find((answer) => answer !== undefined && "problem" in answer);
        if (problem !== undefined) throw new Error(JSON.stringify(problem));
        if (answers.every((answer) => answer !== undefined)) return;
        if (performance.now() > end) throw new Error("not every query was answered");
      }
    });
    // Until the burst of the beginning has been spread by jitter.
    await delay(EVERY_S * 1000);
    const before = await asked();
    const took = await timed(() => delay(seconds * 1000));
    const perSecond = ((await asked()) - before) / took.seconds;
    const stale = queries.filter((query) => !("rows" in (nightshift.telemetry.promql?.(query) ?? {})));
    if (stale.length > 0) throw new Error(`${stale.length} queries have no answer any more`);
    return { first, perSecond, cpu: took.cpu / took.seconds };
  } finally {
    await nightshift.stop();
  }
}

/** PromQL of 1,000 policies, asked of a real Prometheus. */
export async function run(short: boolean): Promise<BenchResult> {
  const rounds = short ? 1 : 3;
  const seconds = short ? 10 : 30;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  const prometheus = await startPrometheus(dir);
  try {
    const [raw, distinct, shared]: [Took[], Seen[], Seen[]] = [[], [], []];
    await rawRequests(prometheus.url);
    for (let i = 0; i < rounds; i += 1) {
      raw.push(await rawRequests(prometheus.url));
      distinct.push(await poll(prometheus.url, dir, prometheus.asked, seconds, (policy) => policy));
      shared.push(await poll(prometheus.url, dir, prometheus.asked, seconds, () => 0));
    }
    const median = <T>(of: readonly T[], value: (each: T) => number): number => quantile(of.map(value), 0.5);
    const ratio = (value: (seen: Seen, bound: Took) => number): number =>
      median(
        distinct.map((seen, i) => value(seen, raw[i]!)),
        (each) => each,
      );
    const wanted = POLICIES / EVERY_S;
    const perRequest = (took: Took): number => (took.cpu / POLICIES) * 1000;
    const ms = (seen: Seen): number => (seen.cpu / seen.perSecond) * 1000;
    const rows: BenchRow[] = [
      { label: "bound: the 1,000 requests alone", value: median(raw, (took) => took.seconds), unit: "s" },
      {
        label: "distinct queries, until all are answered",
        value: median(distinct, ({ first }) => first.seconds),
        unit: "s",
        ratio: ratio(({ first }, bound) => first.seconds / bound.seconds),
      },
      {
        label: "distinct queries, asked",
        value: median(distinct, (seen) => seen.perSecond),
        unit: "a second",
        ratio: ratio((seen) => seen.perSecond / wanted),
        beside: "what the policies want",
      },
      { label: "bound: CPU time of a request alone", value: median(raw, perRequest), unit: "ms" },
      {
        label: "distinct queries, CPU time of all for each",
        value: median(distinct, ms),
        unit: "ms",
        ratio: ratio((seen, bound) => ms(seen) / perRequest(bound)),
      },
      {
        label: "one query shared by all, asked",
        value: median(shared, (seen) => seen.perSecond),
        unit: "a second",
        ratio: median(shared, (seen) => seen.perSecond * EVERY_S),
        beside: "what one policy wants",
      },
      { label: "one query shared by all, CPU", value: median(shared, (seen) => seen.cpu * 100), unit: "% of a processor" },
    ];
    return {
      name: "PromQL of 1,000 policies",
      method:
        `A whole Nightshift with ${POLICIES} policies, each with a range query of ${RANGE_S} s, asked every ${EVERY_S} s of a real Prometheus on this machine, in turn with the same requests alone, ${AT_ONCE} at once. ` +
        `Medians of ${rounds} rounds of ${seconds} s. Its first questions are spread over a second. CPU time is that of the whole process, detection of all policies each second included. Fails when a query is not answered.`,
      rows,
    };
  } finally {
    await prometheus.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
