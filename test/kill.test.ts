import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isTerminal, type Remediation } from "../src/api/remediation.ts";
import { systemClock } from "../src/platform/host/clock.ts";
import { systemRandom } from "../src/platform/host/random.ts";
import { SqliteStore } from "../src/platform/host/store.ts";
import { unusedPort } from "./support/ports.ts";
import { webhookAlert, webhookBody } from "./support/webhook.ts";

const here = resolve(import.meta.dirname, "support/kill");

interface Child {
  readonly process: ChildProcess;
  readonly lines: string[];
  readonly exited: Promise<void>;
  /** Resolves with its address, or with undefined when it died before. */
  readonly ready: Promise<string | undefined>;
}

function up(dir: string, crashAt: number): Child {
  const child = spawn(process.execPath, [join(here, "up.ts"), join(dir, "stack.yaml")], {
    env: { ...process.env, CRASH_AT: String(crashAt) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  child.stderr?.on("data", (data: Buffer) => lines.push(data.toString()));
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  const ready = new Promise<string | undefined>((done) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      if (line.startsWith("ready ")) done(line.slice(6));
    });
    child.once("exit", () => done(undefined));
  });
  return { process: child, lines, exited, ready };
}

async function until(what: string, done: () => boolean | Promise<boolean>, child?: Child): Promise<void> {
  for (let i = 0; i < 1200; i++) {
    if (await done()) return;
    await delay(100);
  }
  assert.fail(`timed out: ${what}\n${child?.lines.slice(-30).join("\n") ?? ""}`);
}

interface Replica {
  readonly ref: { readonly name: string };
  readonly ready: boolean;
  readonly inTraffic: boolean;
}

class Story {
  readonly dir = mkdtempSync(join(tmpdir(), "nightshift-kill-"));
  requests = 0;
  readonly failed: string[] = [];
  #port = 0;
  #stopTraffic = false;
  #traffic: Promise<void> = Promise.resolve();

  async prepare(): Promise<void> {
    this.#port = unusedPort();
    const listen = unusedPort();
    writeFileSync(
      join(this.dir, "stack.yaml"),
      JSON.stringify({
        listen: `127.0.0.1:${listen}`,
        resources: ["policy.yaml"],
        workloads: [
          {
            name: "web",
            command: [process.execPath, join(here, "server.ts")],
            replicas: 2,
            port: this.#port,
            env: { STARTS: join(this.dir, "starts") },
            readiness: { path: "/", period: "100ms" },
          },
        ],
      }),
    );
    writeFileSync(
      join(this.dir, "policy.yaml"),
      JSON.stringify({
        apiVersion: "nightshift.dev/v1alpha1",
        kind: "RemediationPolicy",
        metadata: { name: "web" },
        spec: {
          mode: "Enforce",
          targets: [{ name: "web" }],
          signals: [{ name: "ill", alert: { alertname: "Ill" } }],
          ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot" }] }],
          verify: { stableFor: "1s", timeout: "60s" },
        },
      }),
    );
  }

  startTraffic(): void {
    this.#traffic = (async () => {
      while (!this.#stopTraffic) {
        try {
          const response = await fetch(`http://127.0.0.1:${this.#port}/`);
          await response.text();
          if (response.status !== 200) this.failed.push(String(response.status));
        } catch (error) {
          this.failed.push(String(error));
        }
        this.requests += 1;
        await delay(10);
      }
    })();
  }

  async stopTraffic(): Promise<void> {
    this.#stopTraffic = true;
    await this.#traffic;
  }

  async replicas(url: string): Promise<Replica[]> {
    const response = await fetch(`${url}/api/v1/status`, { headers: { authorization: `Bearer ${this.#token()}` } });
    const { workloads } = (await response.json()) as { workloads: { replicas: Replica[] }[] };
    return workloads[0]?.replicas ?? [];
  }

  async alert(url: string, replica: string): Promise<void> {
    await fetch(`${url}/webhooks/alertmanager`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.#token()}`, "content-type": "application/json" },
      body: webhookBody([webhookAlert({ labels: { replica }, fingerprint: replica })]),
    }).catch(() => undefined);
  }

  async remediations(): Promise<readonly Remediation[]> {
    const store = SqliteStore.open(join(this.dir, "state/nightshift.db"), systemClock, systemRandom);
    try {
      return await store.list("Remediation");
    } finally {
      store.close();
    }
  }

  async ended(): Promise<boolean> {
    const all = await this.remediations();
    return all.length > 0 && all.every(isTerminal);
  }

  starts(): number {
    return readFileSync(join(this.dir, "starts"), "utf8").trim().split("\n").length;
  }

  #token(): string {
    return readFileSync(join(this.dir, "state/token"), "utf8").trim();
  }
}

/** Runs the story, cut with SIGKILL at a point; returns how many points it has. */
async function run(at: number): Promise<number> {
  const story = new Story();
  await story.prepare();
  let child = up(story.dir, at);
  try {
    const url = await child.ready;
    assert.ok(url !== undefined, child.lines.join("\n"));
    await until("two replicas", async () => (await story.replicas(url)).filter((r) => r.ready && r.inTraffic).length === 2, child);
    story.startTraffic();
    const ill = (await story.replicas(url))[0]?.ref.name ?? "";
    await story.alert(url, ill);
    let died = false;
    void child.exited.then(() => (died = true));
    // How often a verification writes differs from run to run: the last points may lie after the end.
    if (at >= 0) await until("its death, or the end", async () => died || (await story.ended()), child);
    // A kill that did not come by the end comes now: every run has a restart.
    if (at >= 0 && !died) child.process.kill("SIGKILL");
    if (at >= 0) {
      await child.exited;
      const before = story.requests;
      await until("traffic goes on without Nightshift", () => story.requests > before + 5, child);
      child = up(story.dir, -1);
    }
    const again = await child.ready;
    assert.ok(again !== undefined, child.lines.join("\n"));
    if ((await story.replicas(again)).some((r) => r.ref.name === ill)) await story.alert(again, ill);
    await until("the episode's end", () => story.ended(), child);
    await story.stopTraffic();
    const remediations = await story.remediations();
    assert.deepEqual(
      remediations.map((r) => [r.status.phase, r.status.outcome]),
      [["Succeeded", "Remediated"]],
    );
    assert.equal(story.starts(), 3, "processes that were started");
    const replicas = await story.replicas(again);
    assert.equal(replicas.length, 2);
    assert.ok(replicas.every((r) => r.ready && r.inTraffic && r.ref.name !== ill));
    assert.deepEqual(story.failed, []);
    return Math.max(...child.lines.filter((line) => /^\d+ /.test(line)).map((line) => Number.parseInt(line, 10))) + 2;
  } finally {
    await story.stopTraffic();
    child.process.kill("SIGTERM");
    await Promise.race([child.exited, delay(60_000)]);
    rmSync(story.dir, { recursive: true, force: true });
  }
}

describe("kill -9 at every point, then a restart", () => {
  it("ends in the same state, each effect once, no request lost", { timeout: 1_200_000, concurrency: 2 }, async (t) => {
    const points = await run(-1);
    assert.ok(points >= 20, `only ${points} points`);
    const cuts = Array.from({ length: points }, (_, at) => t.test(`killed at point ${at}`, async () => void (await run(at))));
    await Promise.all(cuts);
  });
});
