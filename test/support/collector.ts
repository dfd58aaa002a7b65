// A real OpenTelemetry Collector (test/collector-go) on the loopback address, with the configuration that a test gives it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ensureTool, isBuilt } from "../cluster/toolchain.ts";
import { unusedPort } from "./ports.ts";

/** What the Collector logs once its pipelines take something in. */
const READY = "Everything is ready.";
/** Most lines of its log that are told when it does not come up. */
const TAIL = 20;
/** Time to come up, and time to stop in order, before it is ended (ms). */
const LIMIT_MS = 60_000;

/** What this machine lacks to run a Collector, or false; with `CI=true` always false, so that the lane fails there. */
export function lackingCollector(): string | false {
  if (process.env["CI"] === "true" || isBuilt("collector")) return false;
  return spawnSync("go", ["version"]).status !== 0 && "left out, because this machine lacks Go 1.26, to build the Collector once";
}

/** Components and pipelines, in the Collector's own words; its receiver `otlp`, on both protocols, is there by itself. */
export interface CollectorConfig {
  readonly connectors?: object;
  readonly exporters?: object;
  readonly pipelines: Readonly<Record<string, { readonly receivers: readonly string[]; readonly exporters: readonly string[] }>>;
}

/** A Collector that runs. */
export interface Collector {
  readonly process: ChildProcess;
  /** Where it takes OTLP over HTTP: `http://host:port`. */
  readonly httpUrl: string;
  /** Where it takes OTLP over gRPC: `http://host:port`. */
  readonly grpcUrl: string;
  /** Lets it send what it has, and waits for its end. */
  stop(): Promise<void>;
}

/**
 * Starts a Collector, and builds it before where the cache has none; resolves once it takes OTLP in. It tells nobody of itself:
 * the port for its own metrics is one on every machine.
 */
export async function startCollector(config: CollectorConfig): Promise<Collector> {
  const bin = await ensureTool("collector", (line) => void process.stderr.write(`${line}\n`));
  const dir = mkdtempSync(join(tmpdir(), "nightshift-collector-"));
  const [http, grpc] = [`127.0.0.1:${unusedPort()}`, `127.0.0.1:${unusedPort()}`];
  const { pipelines, ...components } = config;
  // JSON is YAML.
  writeFileSync(
    join(dir, "config.yaml"),
    JSON.stringify({
      receivers: { otlp: { protocols: { grpc: { endpoint: grpc }, http: { endpoint: http } } } },
      ...components,
      service: { telemetry: { metrics: { level: "none" }, logs: { level: "info" } }, pipelines },
    }),
  );
  const child = spawn(join(bin, "otelcol"), ["--config", `file:${join(dir, "config.yaml")}`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const tail: string[] = [];
  const exit = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    await exit;
    clearTimeout(timer);
    rmSync(dir, { recursive: true, force: true });
  };
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (): void => reject(new Error(`the Collector does not come up:\n${tail.join("\n")}`));
      timer = setTimeout(fail, LIMIT_MS);
      child.once("error", reject).once("close", fail);
      createInterface({ input: child.stderr }).on("line", (line) => {
        tail.push(line);
        if (tail.length > TAIL) tail.shift();
        if (line.includes(READY)) resolve();
      });
    });
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return { process: child, httpUrl: `http://${http}`, grpcUrl: `http://${grpc}`, stop };
}
