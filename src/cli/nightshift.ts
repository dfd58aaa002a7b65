import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Logger } from "pino";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { checkResources } from "../api/check.ts";
import { parseDocument, type ParsedResource } from "../api/parse.ts";
import { durationMs } from "../api/units.ts";
import { Loop } from "../loop/loop.ts";
import { AlertBook } from "../observe/alertmanager.ts";
import { TelemetryStore } from "../observe/store.ts";
import { systemClock } from "../platform/host/clock.ts";
import { ActionCaller, newActionKey } from "../platform/actions.ts";
import { HostPlatform } from "../platform/host/platform.ts";
import { systemRandom } from "../platform/host/random.ts";
import { SAMPLED_METRICS } from "../platform/host/sampler.ts";
import { parseHostPort, type Stack, stackSchema } from "../platform/host/stack.ts";
import { SqliteStore } from "../platform/host/store.ts";
import type { Platform } from "../ports/platform.ts";
import type { Store } from "../ports/store.ts";
import { AuditTrail, type AuditRecord } from "../record/audit.ts";
import { evidenceDir, EvidenceFiles } from "../record/evidence.ts";
import { NightshiftMetrics } from "../server/metrics.ts";
import { isOtlpPath } from "../server/otlp.ts";
import { startServer } from "../server/server.ts";
import { bearerCheck, derivedToken, readOrCreateSecret, readOrCreateToken } from "../server/token.ts";
import { receiversOf, slackActionsOf } from "./receivers.ts";
import { applyResources, problemsError, readResources, refuseUnsupported } from "./resources.ts";
import { askAlertmanagers, askPrometheus } from "./sources.ts";

/** What Nightshift on one machine is started with. */
export interface StartOptions {
  readonly stack: Stack;
  /** What relative paths in the stack are relative to. */
  readonly stackDir: string;
  readonly stateDir: string;
  readonly log: Logger;
  /** Gets each audit record once it is durable. */
  readonly onRecord?: (record: AuditRecord) => void;
  /** Lets Slack be on the loopback address, for tests. */
  readonly slackLoopback?: boolean;
  /** Wraps the ports, for tests that make them fail. */
  readonly wrap?: { readonly store?: (store: Store) => Store; readonly platform?: (platform: Platform) => Platform };
}

/** Nightshift, running. */
export interface Running {
  /** Of its HTTP server. */
  readonly url: string;
  /** Of its listener for OTLP over gRPC, where the stack has one. */
  readonly grpcUrl: string | undefined;
  readonly token: string;
  readonly store: Store;
  readonly platform: HostPlatform;
  readonly telemetry: TelemetryStore;
  readonly loop: Loop;
  /** Reads the resource files again; returns what changed. On an error everything stays as it was. */
  reload(): Promise<readonly string[]>;
  /** Ends it in order. `Stop` (default) ends the workloads too; `Leave` leaves them and the router running. */
  stop(workloads?: "Stop" | "Leave"): Promise<void>;
}

/** Reads and checks a stack file. Throws `INVALID_RESOURCES` with every problem, or `NOT_FOUND`. */
export async function readStack(file: string): Promise<{ stack: Stack; stackDir: string }> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new NightshiftError("NOT_FOUND", "the stack file cannot be read", { where: file, fix: "Name it with -f.", cause });
  }
  const { value, errors } = parseDocument(text, file, stackSchema);
  if (value === undefined) throw problemsError(errors, "the stack file");
  return { stack: value, stackDir: dirname(resolve(file)) };
}

/** Puts the rooms together and starts them: server, platform, loop. What was started is stopped again when a later part fails. */
export async function startNightshift(options: StartOptions): Promise<Running> {
  const { stack, stackDir, stateDir, log } = options;
  const undo: (() => Promise<void> | void)[] = [];
  const unwind = async (): Promise<void> => {
    for (const step of undo.toReversed()) {
      try {
        await step();
      } catch (error) {
        log.error({ error: messageOf(error) }, "stopping");
      }
    }
  };
  try {
    return await assemble(options, stack, stackDir, stateDir, log, undo);
  } catch (error) {
    await unwind();
    throw error;
  }
}

async function assemble(
  options: StartOptions,
  stack: Stack,
  stackDir: string,
  stateDir: string,
  log: Logger,
  undo: (() => Promise<void> | void)[],
): Promise<Running> {
  const clock = systemClock;
  const random = systemRandom;
  const paths = stack.resources.map((path) => resolve(stackDir, path));
  const resources = await checkedResources(paths);
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const token = await readOrCreateToken(join(stateDir, "token"));
  const authorized = bearerCheck(token);
  // Workloads may send telemetry and nothing else: one that is taken over must not be able to send alerts about the others.
  const workloadToken = derivedToken(token, "otlp");
  const isWorkload = bearerCheck(workloadToken);
  const store = SqliteStore.open(join(stateDir, "nightshift.db"), clock, random);
  undo.push(() => store.close());
  const headPath = stack.audit.head === undefined ? join(stateDir, "audit.head") : resolve(stackDir, stack.audit.head);
  const audit = await AuditTrail.open({ path: join(stateDir, "audit.jsonl"), headPath });
  undo.push(() => audit.close());
  const telemetry = new TelemetryStore(clock, {}, { edgeTtlMs: durationMs(stack.serviceGraph.edgesAgeOutAfter) });
  const alertBook = new AlertBook(clock);
  const over = new AbortController();
  undo.push(() => over.abort());
  const onError = (message: string): void => log.error(message);
  const asking = { dir: stackDir, clock, random, onError, signal: over.signal };
  askPrometheus(stack, telemetry, asking);
  const metrics = new NightshiftMetrics();
  const listen = parseHostPort(stack.listen) ?? { host: "127.0.0.1", port: 8477 };
  let ready = false;
  let loop: Loop | undefined;
  let platform: HostPlatform | undefined;
  const server = await startServer({
    listen,
    grpcListen: stack.grpcListen === undefined ? undefined : parseHostPort(stack.grpcListen),
    authenticate: ({ authorization, path }) => authorized(authorization) || (isOtlpPath(path) && isWorkload(authorization)),
    telemetry,
    reservedMetrics: SAMPLED_METRICS,
    alertBook,
    metrics,
    readiness: () => ({ ready, checks: { loop: ready } }),
    status: () => statusOf(platform, loop),
    slack: slackActionsOf(stack, { dir: stackDir, store: () => store, clock, log, loopback: options.slackLoopback }),
    log,
    clock,
  });
  undo.push(() => server.close());
  // Where `nightshift status` finds it.
  const urlFile = join(stateDir, "url");
  await writeFile(urlFile, `${server.url}\n`, { mode: 0o600 });
  undo.push(() => rm(urlFile, { force: true }));
  const actionsKey = join(stateDir, "actions.key");
  platform = await HostPlatform.start({
    stack,
    stackDir,
    stateDir,
    store,
    telemetry,
    clock,
    random,
    otlp: { endpoint: server.url, token: workloadToken },
    actions: new ActionCaller(await readOrCreateSecret(actionsKey, newActionKey), clock, actionsKey),
    log,
  });
  const started = platform;
  let workloads: "Stop" | "Leave" = "Stop";
  undo.push(() => started.stop({ workloads }));
  refuseUnsupported(resources, platform);
  for (const change of await applyResources(store, resources)) log.info(change);
  const running = new Loop({
    store: options.wrap?.store?.(store) ?? store,
    platform: options.wrap?.platform?.(platform) ?? platform,
    telemetry,
    alerts: alertBook,
    audit,
    receivers: receiversOf(stack, stackDir),
    shelf: new EvidenceFiles(evidenceDir(stateDir)),
    metrics,
    clock,
    random,
    onError,
    ...(options.onRecord === undefined ? {} : { onRecord: options.onRecord }),
  });
  loop = running;
  undo.push(() => running.stop());
  await running.start();
  askAlertmanagers(stack.alertmanagers, alertBook, telemetry, asking);
  ready = true;
  return {
    url: server.url,
    grpcUrl: server.grpcUrl,
    token,
    store,
    platform,
    telemetry,
    loop: running,
    reload: async () => {
      const fresh = await checkedResources(paths);
      refuseUnsupported(fresh, started);
      return applyResources(store, fresh);
    },
    stop: async (what = "Stop") => {
      workloads = what;
      ready = false;
      // In the reverse order of starting: nothing is left without what it needs.
      for (const step of undo.toReversed()) await step();
    },
  };
}

async function checkedResources(paths: readonly string[]): Promise<ParsedResource[]> {
  const { resources, errors } = await readResources(paths);
  const problems = [...errors, ...checkResources(resources, systemClock.now())].filter((problem) => problem.severity === "error");
  if (problems.length > 0) throw problemsError(problems, "the resource files");
  return resources;
}

/** What `nightshift status` shows of a running Nightshift. */
function statusOf(platform: HostPlatform | undefined, loop: Loop | undefined): unknown {
  return { workloads: platform?.workloads() ?? [], queueDepth: loop?.queueDepth ?? 0 };
}
