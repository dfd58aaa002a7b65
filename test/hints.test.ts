// From a hint to a verified recovery, inside the process: real databases, connections that are really lost, the OpenTelemetry
// SDK, OTLP over HTTP, and nobody restarts.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import { API_VERSION } from "../src/api/meta.ts";
import { policySpecSchema } from "../src/api/policy.ts";
import type { Remediation } from "../src/api/remediation.ts";
import { type Running, startNightshift } from "../src/cli/nightshift.ts";
import { stackSchema } from "../src/platform/host/stack.ts";
import { Proxy } from "./cluster/proxy.ts";
import { type Database, lackingDatabases, startPostgres, startRedis } from "./support/databases.ts";
import { unusedPort } from "./support/ports.ts";

const KINDS = ["pg", "ioredis", "undici"] as const;
const APP = [process.execPath, fileURLToPath(new URL("support/hints/app.ts", import.meta.url))];

interface Seen {
  readonly done: number;
  readonly lastDoneAt: number;
  readonly hinted: number;
  readonly lastHintAt: number;
  readonly pid: number;
}

async function until<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  for (let i = 0; i < 6_000; i++) {
    const found = await ask();
    if (found !== undefined && found !== false) return found;
    await delay(20);
  }
  return assert.fail(`never happened: ${what}`);
}

describe("from a hint to a verified recovery", { skip: lackingDatabases }, () => {
  const proxies = new Map<string, Proxy>();
  const ports = new Map<string, number>();
  const databases: Database[] = [];
  let upstream: Server;
  let dir = "";
  let nightshift: Running;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "nightshift-hints-"));
    upstream = createServer((_request, response) => response.end("well"));
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
    databases.push(await startPostgres(), await startRedis());
    const targets = [...databases.map(({ port }) => port), (upstream.address() as AddressInfo).port];
    for (const [i, kind] of [...KINDS, "mute"].entries()) {
      proxies.set(kind, await Proxy.start(targets[i] ?? databases[0]?.port ?? 0));
      ports.set(kind, unusedPort());
    }
    const workload = (name: string, kind = name): object => ({
      name,
      command: APP,
      port: ports.get(name),
      actions: name !== "mute",
      env: { KIND: kind, TARGET: String(proxies.get(name)?.port) },
    });
    nightshift = await startNightshift({
      stack: stackSchema.parse({
        listen: `127.0.0.1:${unusedPort()}`,
        workloads: [...KINDS.map((kind) => workload(kind)), workload("mute", "pg")],
      }),
      stackDir: dir,
      stateDir: join(dir, "state"),
      log: pino({ level: "silent" }),
    });
    for (const kind of [...KINDS, "mute"])
      await nightshift.store.create({
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name: kind, namespace: "default" },
        spec: policySpecSchema.parse({
          targets: [{ name: kind }],
          mode: "Enforce",
          signals: [{ name: "pool", hint: { action: "pool-reset" } }],
          ladder: [{ strategy: "ResetConnectionPool" }, { strategy: "RestartPod" }],
          // One of one: were the replica to leave, this would hold it back.
          budgets: [{ maxUnavailable: kind === "mute" ? 1 : "10%" }],
          verify: { stableFor: "200ms", timeout: "1m" },
          cooldown: "1s",
        }),
      });
  });

  after(async () => {
    await nightshift?.stop();
    await Promise.all([...proxies.values()].map((proxy) => proxy.stop()));
    await Promise.all(databases.map((database) => database.stop()));
    await new Promise((resolve) => upstream.close(resolve));
    await rm(dir, { recursive: true, force: true });
  });

  const seen = async (kind: string): Promise<Seen> => (await (await fetch(`http://127.0.0.1:${ports.get(kind)}`)).json()) as Seen;

  /** It works, its connections are lost, it says so, and what was done about it has ended. */
  const story = async (kind: string): Promise<{ well: Seen; hinted: Seen; done: Remediation }> => {
    const well = await until("it works", async () => {
      const now = await seen(kind).catch(() => undefined);
      return now !== undefined && now.done > 20 && now;
    });
    const lostAt = Date.now();
    proxies.get(kind)?.lose();
    const hinted = await until("a hint", async () => {
      const now = await seen(kind);
      return now.hinted > well.hinted && now;
    });
    const isOurs = ({ spec, status }: Remediation): boolean =>
      spec.policy.name === kind && status.endedAt !== undefined && Date.parse(spec.startedAt) >= lostAt;
    const done = await until("an episode that has ended", async () => (await nightshift.store.list("Remediation")).find(isOurs));
    return { well, hinted, done };
  };

  for (const kind of KINDS)
    it(`${kind}: hangs, says so, is asked to reset its pool, and works again`, async (t) => {
      const { well, hinted, done } = await story(kind);
      const now = await until("it works again", async () => {
        const later = await seen(kind);
        return later.lastDoneAt > hinted.lastHintAt && later;
      });
      assert.deepEqual([done.status.phase, done.status.outcome], ["Succeeded", "Remediated"], done.status.message);
      const [step] = done.status.attempts[0]?.steps ?? [];
      assert.equal(step?.type, "invoke");
      assert.match(step?.message ?? "", /^pool-reset: /);
      assert.equal(now.pid, well.pid, "nobody restarted");
      const since = (time: string | undefined): number => Date.parse(time ?? "") - hinted.lastHintAt;
      t.diagnostic(
        `hint to action begun ${since(step?.intendedAt)} ms, action done ${since(step?.endedAt)} ms, verified ${since(done.status.endedAt)} ms; ${step?.message}`,
      );
    });

  it("one that serves no actions is restarted, as its ladder says next", async () => {
    const { well, done } = await story("mute");
    assert.deepEqual(
      done.status.attempts.map(({ what, outcome }) => [what, outcome]),
      [
        ["ResetConnectionPool", "Failed"],
        ["RestartPod", "Effective"],
      ],
      done.status.message,
    );
    assert.match(done.status.attempts[0]?.message ?? "", /serves no actions/);
    assert.equal(done.status.outcome, "Remediated");
    assert.notEqual((await seen("mute")).pid, well.pid);
  });
});
