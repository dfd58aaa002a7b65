import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { type Running, readStack, startNightshift } from "../src/cli/nightshift.ts";
import type { Platform } from "../src/ports/platform.ts";
import type { AuditRecord } from "../src/record/audit.ts";
import { NO_STORMS } from "../test/support/no-storms.ts";

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

/** A Nightshift on real processes, for a bench. */
export interface Host {
  readonly running: Running;
  readonly dir: string;
  /** When the first effect on each workload began, by its name (ms, `performance.now`). */
  readonly firstEffect: Map<string, number>;
  readonly records: AuditRecord[];
  stop(): Promise<void>;
}

/** Starts `idle` workloads that no policy covers, and `targets` that a signal restarts, by default an alert named `Ill`. All of them only sleep. */
export async function startHost(
  idle: number,
  targets: number,
  { signal = { alert: { alertname: "Ill" } }, mode = "Enforce" }: { readonly signal?: object; readonly mode?: "Observe" | "Enforce" } = {},
): Promise<Host> {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  const port = await freePort();
  const workload = (name: string): unknown => ({
    name,
    command: ["sleep", "86400"],
    labels: name.startsWith("target") ? { bench: "target" } : {},
  });
  writeFileSync(
    join(dir, "stack.yaml"),
    JSON.stringify({
      listen: `127.0.0.1:${port}`,
      resources: ["policy.yaml", "budget.yaml"],
      workloads: [
        ...Array.from({ length: idle }, (_, i) => workload(`idle-${i}`)),
        ...Array.from({ length: targets }, (_, i) => workload(`target-${i}`)),
      ],
    }),
  );
  writeFileSync(
    join(dir, "policy.yaml"),
    JSON.stringify({
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationPolicy",
      metadata: { name: "bench" },
      spec: {
        mode,
        targets: [{ selector: { matchLabels: { bench: "target" } } }],
        signals: [{ name: "ill", ...signal }],
        ladder: [{ strategy: "RestartPod" }],
      },
    }),
  );
  writeFileSync(join(dir, "budget.yaml"), JSON.stringify(NO_STORMS));
  const firstEffect = new Map<string, number>();
  const records: AuditRecord[] = [];
  const wrap = {
    platform: (platform: Platform): Platform => ({
      name: platform.name,
      effects: platform.effects,
      workloads: () => platform.workloads(),
      onChange: (listener) => platform.onChange(listener),
      observe: (effect) => platform.observe(effect),
      apply: (effect, stop) => {
        const name = "workload" in effect ? effect.workload.name : "";
        if (name !== "" && !firstEffect.has(name)) firstEffect.set(name, performance.now());
        return platform.apply(effect, stop);
      },
    }),
  };
  const { stack, stackDir } = await readStack(join(dir, "stack.yaml"));
  const running = await startNightshift({
    stack,
    stackDir,
    stateDir: join(dir, "state"),
    log: pino({ level: "silent" }),
    wrap,
    onRecord: (record) => records.push(record),
  });
  for (;;) {
    const workloads = running.platform.workloads();
    if (workloads.length === idle + targets && workloads.every((w) => w.replicas.some((r) => r.ready))) break;
    await new Promise((done) => setTimeout(done, 50));
  }
  return {
    running,
    dir,
    firstEffect,
    records,
    stop: async () => {
      await running.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Posts a payload to the webhook; the status that came back. */
export async function post(running: Running, body: string): Promise<number> {
  const response = await fetch(`${running.url}/webhooks/alertmanager`, {
    method: "POST",
    headers: { authorization: `Bearer ${running.token}`, "content-type": "application/json" },
    body,
  });
  await response.arrayBuffer();
  return response.status;
}
