import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { stringify } from "yaml";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { isTerminal, type Remediation } from "../../api/remediation.ts";
import { analyseTrend, type TrendResult } from "../../orient/trend.ts";
import type { Replica, Workload } from "../../ports/platform.ts";
import type { AuditRecord } from "../../record/audit.ts";
import { type Running, readStack, startNightshift } from "../nightshift.ts";
import { Load } from "./load.ts";
import { PageReceiver } from "./receiver.ts";
import type { Promised, Scenario } from "./scenario.ts";
import { freePorts, shopProgram, shopStack } from "./shop.ts";

/** Requests a second that the demo sends. A third of them reaches each payments replica. */
const REQUESTS_PER_SECOND = 100;
/** The first seconds of traffic warm caches and compilers: they are no part of "before". */
const WARM_UP_MS = 2_000;
const POLL_MS = 100;

/** How a demo is run. */
export interface DemoOptions {
  readonly scenario: Scenario;
  /** False: everything runs, and nothing is healed. */
  readonly healing: boolean;
  /** How fast the shop leaks; 1 is the demo's own pace. */
  readonly speed: number;
  readonly log: Logger;
  /** How replicas ended, as the supervisor logs it; grows while the demo runs. */
  readonly exits: readonly ReplicaExit[];
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** Called when there is something new to show. */
  readonly onChange: (event: DemoEvent) => void;
}

/** The end of a process. */
export interface ReplicaExit {
  readonly replica: string;
  readonly at: number;
  readonly code?: number;
  readonly signal?: string;
  /** The kernel killed it at its memory limit. */
  readonly oomKilled: boolean;
}

/** Something that happened. */
export type DemoEvent =
  | { readonly type: "Stage"; readonly at: number; readonly text: string }
  | { readonly type: "Record"; readonly at: number; readonly record: AuditRecord };

/** A replica of payments over its whole life, as the demo saw it. */
export interface ReplicaLife {
  readonly uid: string;
  readonly name: string;
  readonly firstSeenAt: number;
  lastSeenAt: number;
  lastBytes: number | undefined;
  phase: Replica["phase"];
}

/** A scenario that runs: the shop, the load, Nightshift, and everything that they have shown so far. */
export class Demo {
  readonly options: DemoOptions;
  readonly dir: string;
  readonly stateDir: string;
  readonly startedAt: number;
  readonly records: AuditRecord[] = [];
  readonly events: DemoEvent[] = [];
  /** Every replica of payments that there ever was, by uid. */
  readonly lives = new Map<string, ReplicaLife>();
  /** What the demo does at the moment. */
  stage = "starting the shop";
  /** When steady traffic began, the warm-up not counted. */
  steadyAt: number | undefined;
  /** When the process died that nobody healed. */
  diedAt: number | undefined;
  /** When the scenario was over. */
  endedAt: number | undefined;
  readonly #running: Running;
  readonly #receiver: PageReceiver | undefined;
  readonly #stop = new AbortController();
  readonly #remediations = new Map<string, Remediation>();
  /** The storefront, through the router. */
  #url = "";
  #load: Load | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: Error | undefined;

  private constructor(
    options: DemoOptions,
    dir: string,
    startedAt: number,
    running: Running,
    receiver: PageReceiver | undefined,
    early: readonly AuditRecord[],
  ) {
    this.options = options;
    this.dir = dir;
    this.stateDir = join(dir, "state");
    this.startedAt = startedAt;
    this.#running = running;
    this.#receiver = receiver;
    for (const record of early) this.onRecord(record);
  }

  /** Starts the shop under Nightshift, in a directory of its own, with ports that are free. */
  static async start(options: DemoOptions): Promise<Demo> {
    const startedAt = Date.now();
    const { scenario, healing, speed } = options;
    const dir = await mkdtemp(join(tmpdir(), `nightshift-demo-${scenario.name}-`));
    const receiver = scenario.pages ? await PageReceiver.start() : undefined;
    try {
      const [storefront = 0, payments = 0, bank = 0, listen = 0] = freePorts(4);
      const settings = scenario.shop({ canary: join(dir, "canary"), speed });
      const text = shopStack(
        { ...settings, ...(receiver === undefined ? {} : { pageUrl: receiver.url }) },
        { storefront, payments, bank, listen },
      );
      const stackFile = join(dir, "stack.yaml");
      await mkdir(join(dir, "policies"));
      await writeFile(stackFile, text);
      await writeFile(
        join(dir, "policies", `${scenario.name}.yaml`),
        scenario
          .resources(healing)
          .map((resource) => stringify(resource))
          .join("---\n"),
      );
      const early: AuditRecord[] = [];
      let demo: Demo | undefined;
      const running = await startNightshift({
        ...(await readStack(stackFile)),
        stateDir: join(dir, "state"),
        log: options.log,
        onRecord: (record) => (demo === undefined ? early.push(record) : demo.onRecord(record)),
      });
      demo = new Demo(options, dir, startedAt, running, receiver, early);
      demo.#follow(storefront);
      return demo;
    } catch (error) {
      await receiver?.stop();
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  get running(): Running {
    return this.#running;
  }

  get auditPath(): string {
    return join(this.stateDir, "audit.jsonl");
  }

  get auditHeadPath(): string {
    return join(this.stateDir, "audit.head");
  }

  /** Pages that the receiver has got. */
  get pages(): PageReceiver["pages"] {
    return this.#receiver?.pages ?? [];
  }

  /** The load generator; there is one once the shop is up. */
  get load(): Load | undefined {
    return this.#load;
  }

  /** Every episode as it is now, the oldest first. */
  get remediations(): readonly Remediation[] {
    return [...this.#remediations.values()].sort((a, b) => a.spec.startedAt.localeCompare(b.spec.startedAt));
  }

  /** A workload of the shop as it is now. */
  workload(name: string): Workload | undefined {
    return this.#running.platform.workloads().find((workload) => workload.ref.name === name);
  }

  /** Replicas of payments that live. */
  payments(): readonly Replica[] {
    return this.workload("payments")?.replicas.filter((replica) => replica.phase !== "Exited") ?? [];
  }

  /** The trend of a replica's memory, by the same analysis that the loop uses. */
  trend(replica: Replica): TrendResult | undefined {
    const limit = replica.memory?.limitBytes;
    if (limit === undefined) return undefined;
    const now = Date.now();
    return analyseTrend(this.#running.telemetry.replicaSeries(replica.ref.uid, "memory", now - 120_000), { limit, now });
  }

  /** Uid of the process that took the canary, which is the one with the fault: it wrote so itself, Nightshift does not know. */
  async faultyReplica(): Promise<string | undefined> {
    try {
      const { resource } = JSON.parse(await readFile(join(this.dir, "canary"), "utf8")) as { resource: string };
      const id = /(?:^|,)service\.instance\.id=([^,]+)/.exec(resource)?.[1];
      return id === undefined ? undefined : decodeURIComponent(id);
    } catch {
      return undefined;
    }
  }

  /** Says what the demo does now. */
  say(text: string): void {
    this.stage = text;
    this.#event({ type: "Stage", at: Date.now(), text });
  }

  /** An audit record was made. */
  onRecord(record: AuditRecord): void {
    this.records.push(record);
    this.#event({ type: "Record", at: record.at, record });
  }

  /** Waits until the condition holds; false when it did not within the time. Rejects on Ctrl-C and when a part of the demo dies. */
  async waitFor(condition: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      this.#check();
      if (await condition()) return true;
      if (performance.now() >= end) return false;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Lets time go by. */
  async pause(ms: number): Promise<void> {
    await this.waitFor(() => false, ms);
  }

  /** Brings the shop up, starts the load, runs the scenario, and lists what it promised. */
  async run(): Promise<readonly Promised[]> {
    this.say("the shop starts: storefront, payments, bank");
    const up = await this.waitFor(
      () => this.#running.platform.workloads().every((w) => w.replicas.filter((r) => r.ready).length >= w.desired),
      60_000,
    );
    if (!up)
      throw new NightshiftError("DEMO_SHOP_NOT_READY", "the shop did not become ready within 60 s", {
        where: this.dir,
        fix: "See logs/ in the state directory; --keep keeps it.",
      });
    this.say(`steady traffic: ${REQUESTS_PER_SECOND} requests/s`);
    this.#load = new Load(shopProgram("load"), this.#url, REQUESTS_PER_SECOND, (error) => (this.#failure ??= error));
    if (!(await this.waitFor(() => (this.#load?.samples.length ?? 0) > 0, 20_000)))
      throw new NightshiftError("DEMO_NO_TRAFFIC", "no request was answered within 20 s", { where: this.#url });
    await this.pause(WARM_UP_MS);
    this.steadyAt = Date.now();
    const promised = await this.options.scenario.run(this);
    this.endedAt = Date.now();
    return promised;
  }

  /** Posts an Alertmanager webhook (version 4) with one alert; returns the status of the answer. */
  async alert(status: "firing" | "resolved", labels: Readonly<Record<string, string>>, startsAt: number): Promise<number> {
    const alert = {
      status,
      labels,
      annotations: { summary: "sent by the demo" },
      startsAt: new Date(startsAt).toISOString(),
      endsAt: status === "firing" ? "0001-01-01T00:00:00Z" : new Date().toISOString(),
      generatorURL: "http://127.0.0.1/demo",
      fingerprint: "demo0000000000001",
    };
    const response = await fetch(new URL("/webhooks/alertmanager", this.#running.url), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${this.#running.token}` },
      body: JSON.stringify({
        version: "4",
        groupKey: "{}:{}",
        truncatedAlerts: 0,
        status,
        receiver: "nightshift",
        groupLabels: {},
        commonLabels: labels,
        commonAnnotations: {},
        externalURL: "http://127.0.0.1/demo",
        alerts: [alert],
      }),
    });
    await response.arrayBuffer();
    return response.status;
  }

  /** Ends everything that was started; its files stay until `remove`. Never rejects; returns what went wrong. */
  halt(): Promise<readonly string[]> {
    return (this.#halted ??= this.#halt());
  }
  #halted: Promise<readonly string[]> | undefined;

  async #halt(): Promise<readonly string[]> {
    const problems: string[] = [];
    const step = async (work: () => Promise<unknown> | undefined): Promise<void> => {
      try {
        await work();
      } catch (error) {
        problems.push(messageOf(error));
      }
    };
    clearInterval(this.#timer);
    await step(() => this.#load?.stop());
    this.#stop.abort();
    await step(() => this.#running.stop("Stop"));
    await step(() => this.#receiver?.stop());
    return problems;
  }

  /** Removes the demo's directory. */
  async remove(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }

  #check(): void {
    if (this.options.signal.aborted) throw new NightshiftError("DEMO_INTERRUPTED", "the demo was interrupted");
    if (this.#failure !== undefined) throw this.#failure;
  }

  #event(event: DemoEvent): void {
    this.events.push(event);
    this.options.onChange(event);
  }

  #follow(storefrontPort: number): void {
    this.#url = `http://127.0.0.1:${storefrontPort}/checkout`;
    this.#timer = setInterval(() => this.#look(), POLL_MS);
    this.#look();
    void this.#watch();
  }

  async #watch(): Promise<void> {
    try {
      for await (const event of this.#running.store.watch("Remediation", this.#stop.signal))
        if (event.type !== "Synced") this.#remediations.set(event.object.metadata.name, event.object);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#failure ??= error instanceof Error ? error : new Error(String(error));
    }
  }

  #look(): void {
    const now = Date.now();
    for (const replica of this.workload("payments")?.replicas ?? []) {
      const life = this.lives.get(replica.ref.uid) ?? {
        uid: replica.ref.uid,
        name: replica.ref.name,
        firstSeenAt: now,
        lastSeenAt: now,
        lastBytes: undefined,
        phase: replica.phase,
      };
      this.lives.set(replica.ref.uid, life);
      life.phase = replica.phase;
      if (replica.phase === "Exited") continue;
      life.lastSeenAt = now;
      life.lastBytes = replica.memory?.bytes ?? life.lastBytes;
    }
  }
}

/** Whether every episode so far is over, and there is one. */
export function allOver(remediations: readonly Remediation[]): boolean {
  return remediations.length > 0 && remediations.every(isTerminal);
}
