import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { API_VERSION } from "../src/api/meta.ts";
import { policySpecSchema } from "../src/api/policy.ts";
import { startNightshift } from "../src/cli/nightshift.ts";
import { stackSchema } from "../src/platform/host/stack.ts";
import { Proxy } from "../test/cluster/proxy.ts";
import { unusedPort } from "../test/support/ports.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

const APP = join(import.meta.dirname, "../test/support/hints/app.ts");
/** How long an application must be well to count as recovered: the policy's (ms). */
const STABLE_FOR_MS = 200;
/** Work that an application does before its connections are lost: it knows by then what is usual. */
const WARM = 20;
/** After a hint, an application says nothing for 5 s: what hangs only within that is never told of. */
const REST_MS = 5_500;
const LIMIT_MS = 120_000;

/** What an application says of itself. */
interface Said {
  readonly done: number;
  readonly hinted: number;
  readonly lastHintAt: number;
  readonly pid: number;
}

async function until<T>(what: string, ask: () => Promise<T | undefined | false>): Promise<T> {
  for (const end = performance.now() + LIMIT_MS; performance.now() < end; await delay(10)) {
    const found = await ask();
    if (found !== undefined && found !== false) return found;
  }
  throw new Error(`${what}: not within ${LIMIT_MS} ms`);
}

/** From a hint to what it asks for, and to the recovery that is verified (ms). */
interface Seen {
  readonly bound: number;
  readonly begun: number;
  readonly done: number;
  readonly verified: number;
}

/** From an application's hint to the verified recovery, without a restart. */
export async function run(short: boolean): Promise<BenchResult> {
  const rounds = short ? 5 : 30;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  const upstream = createServer((_request, response) => response.end("well"));
  await new Promise<void>((done) => upstream.listen(0, "127.0.0.1", done));
  const upstreamPort = (upstream.address() as AddressInfo).port;
  const proxy = await Proxy.start(upstreamPort);
  const port = unusedPort();
  const nightshift = await startNightshift({
    stack: stackSchema.parse({
      listen: `127.0.0.1:${unusedPort()}`,
      workloads: [
        { name: "app", command: [process.execPath, APP], port, actions: true, env: { KIND: "undici", TARGET: String(proxy.port) } },
      ],
    }),
    stackDir: dir,
    stateDir: join(dir, "state"),
    log: pino({ level: "silent" }),
  });
  try {
    await nightshift.store.create({
      apiVersion: API_VERSION,
      kind: "RemediationPolicy",
      metadata: { name: "app", namespace: "default" },
      spec: policySpecSchema.parse({
        targets: [{ name: "app" }],
        mode: "Enforce",
        signals: [{ name: "pool", hint: { action: "pool-reset" } }],
        ladder: [{ strategy: "ResetConnectionPool" }],
        verify: { stableFor: `${STABLE_FOR_MS}ms`, timeout: "1m" },
        cooldown: "1s",
        attempts: { max: rounds + 1, window: "1h" },
      }),
    });
    const said = async (): Promise<Said | undefined> => {
      try {
        return (await (await fetch(`http://127.0.0.1:${port}`)).json()) as Said;
      } catch {
        return undefined;
      }
    };
    const seen: Seen[] = [];
    const { pid } = await until("the application runs", said);
    for (let i = 0; i < rounds; i += 1) {
      const before = await until("it works", async () => {
        const first = await said();
        await delay(200);
        const now = await said();
        const mayHint = now !== undefined && Date.now() > now.lastHintAt + REST_MS;
        return first !== undefined && mayHint && now.done > first.done + 3 && now.done > WARM && now;
      });
      // Two requests, one after the other, and nothing else: the hint and the action.
      const begin = performance.now();
      for (let n = 0; n < 2; n += 1) await (await fetch(`http://127.0.0.1:${upstreamPort}`, { method: "POST", body: "x" })).text();
      const bound = performance.now() - begin;
      const lostAt = Date.now();
      proxy.lose();
      const { lastHintAt } = await until("a hint", async () => {
        const now = await said();
        return now !== undefined && now.hinted > before.hinted && now;
      });
      const { status } = await until("an episode that has ended", async () =>
        (await nightshift.store.list("Remediation")).find(
          (each) => each.status.endedAt !== undefined && Date.parse(each.spec.startedAt) >= lostAt,
        ),
      );
      if (status.outcome !== "Remediated") throw new Error(`the episode ended as ${status.outcome}: ${status.message}`);
      const [step] = status.attempts[0]?.steps ?? [];
      const since = (time: string | undefined): number => Date.parse(time ?? "") - lastHintAt;
      seen.push({ bound, begun: since(step?.intendedAt), done: since(step?.endedAt), verified: since(status.endedAt) });
    }
    if ((await until("it works", said)).pid !== pid) throw new Error("the application was restarted");
    const row = (label: string, of: (each: Seen) => number, q: number): BenchRow => ({
      label: `${label}, p${q * 100}`,
      value: quantile(seen.map(of), q),
      unit: "ms",
    });
    const verified = row("to the verified recovery", (each) => each.verified, 0.5);
    const ratio = quantile(
      seen.map((each) => each.verified / (each.bound + STABLE_FOR_MS)),
      0.5,
    );
    return {
      name: "hint to verified recovery",
      method:
        `${rounds} times: an application with a pool of undici, whose connections are lost without a word, sends a hint by OpenTelemetry's SDK; Nightshift asks it to reset its pool, and verifies that it is well for ${STABLE_FOR_MS} ms. Processes of their own, on one machine. ` +
        `Fails where it is restarted, or not healed. Bound: those ${STABLE_FOR_MS} ms and two bare requests in turn with it.`,
      rows: [
        row("bound: two bare requests", (each) => each.bound, 0.5),
        row("to the action's begin", (each) => each.begun, 0.5),
        row("to the action's end", (each) => each.done, 0.5),
        // In a short run, which is CI's, a time alone says how busy the machine is.
        { ...verified, ratio, ...(short ? {} : { goal: { of: "value", atMost: 1_000 } }) },
        row("to the verified recovery", (each) => each.verified, 0.99),
      ],
    };
  } finally {
    await nightshift.stop();
    await proxy.stop();
    upstream.closeAllConnections();
    await new Promise<void>((done) => void upstream.close(() => done()));
    rmSync(dir, { recursive: true, force: true });
  }
}
