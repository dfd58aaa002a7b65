import { randomUUID } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import type { Logger } from "pino";
import { effectsOf } from "../act/plan.ts";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { covers, type Matchable } from "../api/targets.ts";
import { durationMs } from "../api/units.ts";
import { Loop } from "../loop/loop.ts";
import { AlertBook } from "../observe/alertmanager.ts";
import { TelemetryStore } from "../observe/store.ts";
import { ActionCaller } from "../platform/actions.ts";
import { systemClock } from "../platform/host/clock.ts";
import { systemRandom } from "../platform/host/random.ts";
import { findAccess, type KubeAccess } from "../platform/kubernetes/access.ts";
import { LeaderElection } from "../platform/kubernetes/election.ts";
import { EventRecorder } from "../platform/kubernetes/events.ts";
import { HttpKubeClient } from "../platform/kubernetes/http-client.ts";
import { KubernetesPlatform } from "../platform/kubernetes/platform.ts";
import { KubernetesStore } from "../platform/kubernetes/store.ts";
import { tokenReviewCheck } from "../platform/kubernetes/token-review.ts";
import { sleep } from "../ports/clock.ts";
import { AuditTrail, type AuditRecord } from "../record/audit.ts";
import { evidenceDir, EvidenceFiles } from "../record/evidence.ts";
import { byLeader } from "../record/paging.ts";
import { NightshiftMetrics } from "../server/metrics.ts";
import { type RunningServer, startServer } from "../server/server.ts";
import { anyOf, type Authenticator, mountedTokenCheck } from "../server/token.ts";
import { listeningText } from "./log.ts";
import { readOperatorConfig, type OperatorConfig } from "./operator-config.ts";
import { eventTeller } from "./operator-events.ts";
import { receiversOf, slackActionsOf } from "./receivers.ts";
import { askAlertmanagers, askPrometheus } from "./sources.ts";
import { takeOver } from "./take-over.ts";
import { version } from "./version.ts";

/** What the operator is started with. */
export interface OperatorOptions {
  readonly access: KubeAccess;
  /** Namespace of the Lease and of the operator's own pod. Default: the access's own. */
  readonly namespace?: string | undefined;
  /** Name of the Lease. */
  readonly lease: string;
  /** The pod that this runs in; undefined outside of a cluster. */
  readonly podName?: string | undefined;
  /** Namespaces whose workloads are looked after. Default: all. */
  readonly watch?: readonly string[] | undefined;
  /** Namespaces in which nothing is touched; an empty name protects none. Default: `PROTECTED_NAMESPACES`. */
  readonly protect?: readonly string[] | undefined;
  readonly listen: { readonly host: string; readonly port: number };
  /** Where OTLP over gRPC is taken. Default: nowhere. */
  readonly grpcListen?: { readonly host: string; readonly port: number } | undefined;
  /** File with the bearer token of senders. */
  readonly tokenFile?: string | undefined;
  /** Audience of tokens that the API server reviews. */
  readonly tokenAudience?: string | undefined;
  /** File with the private key that actions of applications are asked for with. Default: they are not. */
  readonly actionsKey?: string | undefined;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  readonly stateDir: string;
  readonly config: OperatorConfig;
  /** What relative paths in the configuration are relative to. */
  readonly configDir: string;
  readonly log: Logger;
  /** Lets Slack be on the loopback address, for tests. */
  readonly slackLoopback?: boolean;
  /** Gets each audit record once it is durable. */
  readonly onRecord?: (record: AuditRecord) => void;
}

/** An operator that runs; it may lead or wait. */
export interface RunningOperator {
  /** Of its HTTP server. */
  readonly url: string;
  /** Of its listener for OTLP over gRPC, where it has one. */
  readonly grpcUrl: string | undefined;
  readonly platform: KubernetesPlatform;
  readonly store: KubernetesStore;
  readonly telemetry: TelemetryStore;
  /** Resolves with the epoch once it leads. */
  readonly leading: Promise<number>;
  /** Resolves when it has ended: because it was stopped, or because it led and lost its lease. */
  readonly done: Promise<"Stopped" | "LeaseLost">;
  /** Ends it in order; the lease is released. */
  stop(): Promise<void>;
}

/** How often files that others rotate are looked at (ms). */
const ROTATION_MS = 10_000;

/**
 * Puts the rooms together on Kubernetes. Every replica keeps its caches warm and takes signals; the one that holds the
 * Lease runs the loop.
 *
 * @throws NightshiftError among others `NO_CREDENTIALS`: without a way in the listener is closed to everyone.
 */
export async function startOperator(options: OperatorOptions): Promise<RunningOperator> {
  const undo: (() => Promise<void> | void)[] = [];
  try {
    return await assemble(options, undo);
  } catch (error) {
    for (const step of undo.toReversed()) await Promise.resolve(step()).catch((cause: unknown) => options.log.error(messageOf(cause)));
    throw error;
  }
}

async function assemble(options: OperatorOptions, undo: (() => Promise<void> | void)[]): Promise<RunningOperator> {
  const { access, log, stateDir, config, configDir } = options;
  const clock = systemClock;
  const random = systemRandom;
  const namespace = options.namespace ?? access.namespace;
  const onError = (message: string): void => log.error(message);
  const release = version();
  const client = new HttpKubeClient({ access, clock, version: release });
  undo.push(() => client.close());
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const audit = await AuditTrail.open({
    path: join(stateDir, "audit.jsonl"),
    headPath: config.audit.head === undefined ? join(stateDir, "audit.head") : resolve(configDir, config.audit.head),
  });
  undo.push(() => audit.close());

  const telemetry = new TelemetryStore(clock, {}, { edgeTtlMs: durationMs(config.serviceGraph.edgesAgeOutAfter) });
  const alertBook = new AlertBook(clock);
  const metrics = new NightshiftMetrics({ build: { version: release } });
  const over = new AbortController();
  undo.push(() => over.abort());
  const asking = { dir: configDir, clock, random, onError };
  askPrometheus(config, telemetry, { ...asking, signal: over.signal });
  let synced = false;
  let loop: Loop | undefined;
  const server = await startServer({
    listen: options.listen,
    grpcListen: options.grpcListen,
    authenticate: authenticatorOf(options, client),
    ...(options.tls === undefined ? {} : { tls: await readTls(options.tls) }),
    telemetry,
    alertBook,
    metrics,
    // One that waits is ready too: it takes over when it must.
    readiness: () => ({ ready: synced, checks: { synced, leading: loop !== undefined } }),
    status: () => ({ leading: loop !== undefined, workloads: platform.workloads(), queueDepth: loop?.queueDepth ?? 0 }),
    slack: slackActionsOf(config, { dir: configDir, store: () => store, clock, log, loopback: options.slackLoopback }),
    log,
    clock,
  });
  undo.push(() => server.close());
  if (options.tls !== undefined) void renewTls(server, options.tls, over.signal, onError);

  // Connections of its own: a renewal must not wait behind what the loop asks of a slow API server.
  const leaseClient = new HttpKubeClient({ access, clock, version: release, concurrency: 2 });
  undo.push(() => leaseClient.close());
  const election = new LeaderElection({
    client: leaseClient,
    clock,
    random,
    namespace,
    lease: options.lease,
    identity: `${options.podName ?? hostname()}_${randomUUID()}`,
    ...(options.podName === undefined ? {} : { podName: options.podName }),
    usedEpoch: () => store.usedEpoch(),
    onError,
  });
  const epoch = (): number => election.epoch();
  const namespaces = options.watch === undefined ? {} : { namespaces: options.watch };
  const store = new KubernetesStore({ client, clock, random, epoch, ...namespaces, onError });
  undo.push(() => store.close());
  /** Whether a policy may roll the workload back; one that observes writes nothing, marks included (design rule S7). */
  const mayRollBack = (workload: Matchable): boolean => {
    const world = loop?.world;
    return (
      world?.policies
        .list()
        .some(
          (policy) =>
            policy.spec.mode !== "Observe" &&
            covers(policy, workload) &&
            policy.spec.ladder.some((rung) => effectsOf(rung, policy.metadata.namespace, world.runbook).has("Rollback")),
        ) ?? false
    );
  };
  const platform = new KubernetesPlatform({
    client,
    clock,
    random,
    log,
    epoch,
    nodeNamespace: namespace,
    ...(options.protect === undefined ? {} : { protectedNamespaces: options.protect }),
    marksHealthy: mayRollBack,
    followsConfigMaps: config.changes.configMaps,
    actions: options.actionsKey === undefined ? undefined : await readActionsKey(options.actionsKey),
    ...namespaces,
  });
  undo.push(() => platform.stop());
  const events = new EventRecorder({ client, clock, component: "nightshift", mayWrite: () => election.leads, onError });
  undo.push(() => events.close());

  log.info(`reading the cluster at ${access.server.origin}`);
  await Promise.all([store.start(over.signal), platform.start(over.signal)]);
  synced = true;
  log.info(`in step with the cluster: ${platform.workloads().length} workloads; ${listeningText(server)}`);

  const stopping = new AbortController();
  const electionEnds = new AbortController();
  const elected = election.run(electionEnds.signal);
  const lead = async (): Promise<void> => {
    const led = await election.leading;
    log.info({ epoch: led }, `leading, under epoch ${led}`);
    await takeOver({
      takeover: () => store.takeover(),
      leads: () => election.leads,
      clock,
      random,
      signal: stopping.signal,
      onError,
    });
    if (stopping.signal.aborted) return;
    const tell = eventTeller({
      clock,
      remediation: (key) => running.world.remediations.get(key),
      policyUid: (key) => running.world.policies.get(key)?.metadata.uid,
      tell: (event) => events.record(event),
    });
    const running = new Loop({
      store,
      platform,
      telemetry,
      alerts: alertBook,
      audit,
      receivers: byLeader(receiversOf(config, configDir), epoch),
      shelf: new EvidenceFiles(evidenceDir(stateDir)),
      metrics,
      clock,
      random,
      onError,
      onRecord: (record) => {
        tell(record);
        options.onRecord?.(record);
      },
    });
    loop = running;
    await running.start();
    askAlertmanagers(config.alertmanagers, alertBook, telemetry, { ...asking, signal: stopping.signal });
  };
  const begun = lead();
  let cannotLead = false;
  begun.catch((error: unknown) => {
    // Not to be able to begin is like having lost the lease: another may have it.
    log.error(`cannot begin to lead: ${messageOf(error)}`);
    cannotLead = true;
    electionEnds.abort();
  });

  const finish = async (ended: "Stopped" | "LeaseLost"): Promise<"Stopped" | "LeaseLost"> => {
    const how = cannotLead ? "LeaseLost" : ended;
    // A leader that lost its lease writes nothing more, and waits for no answer: the API server may be out of reach.
    if (how === "LeaseLost") await client.close();
    // Where it was stopped in order, so was the loop, before the lease was released.
    if (!stopping.signal.aborted) await loop?.stop();
    for (const step of undo.toReversed()) await Promise.resolve(step()).catch((error: unknown) => log.error(messageOf(error)));
    return how;
  };
  const done = elected.then(finish);
  done.catch(() => undefined);
  let stopped: Promise<void> | undefined;
  return {
    url: server.url,
    grpcUrl: server.grpcUrl,
    platform,
    store,
    telemetry,
    leading: election.leading,
    done,
    stop: () => {
      stopped ??= (async () => {
        stopping.abort();
        // Whatever is under way comes to a safe point first; only then may another begin.
        if (loop !== undefined) await begun.then(() => loop?.stop()).catch((error: unknown) => log.error(messageOf(error)));
        electionEnds.abort();
        await done;
      })();
      return stopped;
    },
  };
}

function authenticatorOf(options: OperatorOptions, client: HttpKubeClient): Authenticator {
  const ways: Authenticator[] = [];
  if (options.tokenFile !== undefined) ways.push(mountedTokenCheck(options.tokenFile, systemClock));
  if (options.tokenAudience !== undefined) ways.push(tokenReviewCheck({ client, clock: systemClock, audience: options.tokenAudience }));
  if (ways.length === 0)
    throw new NightshiftError("NO_CREDENTIALS", "nobody could send anything: there is no token to compare with", {
      fix: "Give --token-file, or --token-review with an audience, or both.",
    });
  return anyOf(...ways);
}

async function readActionsKey(path: string): Promise<ActionCaller> {
  let key: string;
  try {
    key = await readFile(path, "utf8");
  } catch (cause) {
    throw new NightshiftError("INVALID_ACTIONS_KEY", "the key that actions are signed with cannot be read", { where: path, cause });
  }
  return new ActionCaller(key, systemClock, path);
}

async function readTls(files: { readonly cert: string; readonly key: string }): Promise<{ cert: Buffer; key: Buffer }> {
  try {
    const [cert, key] = await Promise.all([readFile(files.cert), readFile(files.key)]);
    return { cert, key };
  } catch (cause) {
    throw new NightshiftError("TLS_UNREADABLE", "the certificate or its key cannot be read", {
      where: `${files.cert}, ${files.key}`,
      cause,
    });
  }
}

/** Takes a certificate that was rotated, without a restart. */
async function renewTls(
  server: RunningServer,
  files: { readonly cert: string; readonly key: string },
  signal: AbortSignal,
  onError: (message: string) => void,
): Promise<void> {
  const changedAt = async (): Promise<number> => Math.max((await stat(files.cert)).mtimeMs, (await stat(files.key)).mtimeMs);
  let known = await changedAt().catch(() => 0);
  for (;;) {
    await sleep(systemClock, ROTATION_MS, signal);
    if (signal.aborted) return;
    try {
      const changed = await changedAt();
      if (changed === known) continue;
      server.renew(await readTls(files));
      known = changed;
    } catch (error) {
      onError(`the certificate could not be renewed: ${messageOf(error)}`);
    }
  }
}

/** Runs the operator until a signal ends it, or it loses its lease. */
export async function runOperator(options: {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly lease: string;
  readonly watch?: readonly string[];
  readonly protect?: readonly string[];
  readonly listen: { readonly host: string; readonly port: number };
  readonly grpcListen?: { readonly host: string; readonly port: number };
  readonly tokenFile?: string;
  readonly tokenAudience?: string;
  readonly actionsKey?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly stateDir: string;
  readonly configFile?: string | undefined;
  readonly log: Logger;
}): Promise<"Stopped" | "LeaseLost"> {
  const { log, tlsCert, tlsKey } = options;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new NightshiftError("TLS_INCOMPLETE", "--tls-cert and --tls-key go together: give both, or neither");
  const { config, dir } = await readOperatorConfig(options.configFile);
  const access = await findAccess({
    ...(options.kubeconfig === undefined ? {} : { kubeconfig: options.kubeconfig }),
    ...(options.context === undefined ? {} : { context: options.context }),
  });
  const running = await startOperator({
    ...options,
    access,
    podName: process.env["POD_NAME"],
    tls: tlsCert === undefined || tlsKey === undefined ? undefined : { cert: tlsCert, key: tlsKey },
    config,
    configDir: dir,
    onRecord: (record) =>
      log.info(record.remediation === undefined ? {} : { remediation: record.remediation }, `${record.type}: ${record.message}`),
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      log.info(`${signal}: stopping`);
      running.stop().catch((error: unknown) => log.error(messageOf(error)));
    });
  const ended = await running.done;
  log.info(ended === "Stopped" ? "stopped" : "the lease is lost: ending");
  return ended;
}
