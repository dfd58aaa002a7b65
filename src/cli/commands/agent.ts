import { hostname } from "node:os";
import { join } from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import { parseDuration, parseQuantity } from "../../api/units.ts";

/** How long a capture that runs may go on once the agent is told to end (ms): less than a pod's grace period of 30 s. */
const GRACE_MS = 20_000;

interface AgentFlags {
  readonly node?: string;
  readonly stateDir: string;
  readonly artifactsDir?: string;
  readonly s3Endpoint?: string;
  readonly s3Bucket?: string;
  readonly s3Region: string;
  readonly s3Prefix: string;
  readonly s3Credentials?: string;
  readonly artifactsTtl: number;
  readonly maxArtifactBytes: number;
  readonly maxArtifacts: number;
  readonly cgroupRoot: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly json?: boolean;
}

function durationArgument(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms === 0) throw new InvalidArgumentError("expected a duration such as 12h or 7d");
  return ms;
}

function quantityArgument(text: string): number {
  const bytes = parseQuantity(text);
  if (bytes === undefined) throw new InvalidArgumentError("expected a quantity such as 10Gi");
  return bytes;
}

function countArgument(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError("expected a whole number from 1 on");
  return count;
}

function listenArgument(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new InvalidArgumentError("expected an address and a port such as 127.0.0.1:8479");
  return { host: match[1] ?? (match[2] === "" ? "0.0.0.0" : (match[2] ?? "")), port };
}

/** `nightshift agent`. */
export function register(program: Command): void {
  program
    .command("agent")
    .description("run on a node of a cluster: save heap snapshots and profiles of its pods when an episode asks for them")
    .addOption(new Option("--node <name>", "the node's name (default: NODE_NAME, or the host name)").env("NODE_NAME"))
    .option("--state-dir <dir>", "what outlives the agent; of this node alone", "/var/lib/nightshift-agent")
    .option("--artifacts-dir <dir>", "keep artifacts in this directory: of the node, or of a volume that nodes share")
    .option("--s3-endpoint <url>", "or in an S3-compatible store, such as https://s3.eu-central-1.amazonaws.com")
    .option("--s3-bucket <name>", "its bucket")
    .option("--s3-region <name>", "its region", "us-east-1")
    .option("--s3-prefix <prefix>", "begins every key", "nightshift")
    .option("--s3-credentials <dir>", "files access-key-id and secret-access-key (default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
    .addOption(
      new Option("--artifacts-ttl <duration>", "artifacts are deleted after this time")
        .argParser(durationArgument)
        .default(604_800_000, "7d"),
    )
    .addOption(
      new Option("--max-artifact-bytes <quantity>", "bytes that this node keeps; the oldest go first")
        .argParser(quantityArgument)
        .default(10 * 2 ** 30, "10Gi"),
    )
    .addOption(new Option("--max-artifacts <n>", "artifacts that this node keeps").argParser(countArgument).default(50))
    .option("--cgroup-root <dir>", "where the node's /sys/fs/cgroup is mounted", "/sys/fs/cgroup")
    .addOption(
      new Option("--listen <address:port>", "where /healthz, /readyz and /metrics are told")
        .argParser(listenArgument)
        .default({ host: "127.0.0.1", port: 8479 }, "127.0.0.1:8479"),
    )
    .option("--kubeconfig <file>", "how to reach the API server (default: KUBECONFIG, the pod's own account, ~/.kube/config)")
    .option("--context <name>", "context of the kubeconfig")
    .option("--json", "log as JSON lines")
    .addHelpText(
      "after",
      `
It needs root, the node's PID namespace (hostPID), CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_KILL, and nsenter; agent/README.md
says what for. SIGINT or SIGTERM ends it: a capture that runs has ${GRACE_MS / 1000} s to come to its end.

Examples:
  $ nightshift agent --node worker-1 --artifacts-dir /var/lib/nightshift/artifacts
  $ nightshift agent --s3-endpoint http://minio:9000 --s3-bucket evidence --s3-credentials /etc/nightshift/s3 --json`,
    )
    .action(async (flags: AgentFlags) => {
      const { createLog } = await import("../log.ts");
      const { startAgent } = await import("../../../agent/agent.ts");
      const { findAccess } = await import("../../platform/kubernetes/access.ts");
      const { HttpKubeClient } = await import("../../platform/kubernetes/http-client.ts");
      const { lockState } = await import("../../platform/host/lock.ts");
      const { systemClock } = await import("../../platform/host/clock.ts");
      const { systemRandom } = await import("../../platform/host/random.ts");
      const log = createLog({ json: flags.json === true });
      const node = flags.node ?? hostname();
      const version = program.version() ?? "unknown";
      const stop = new Promise<NodeJS.Signals>((done) => {
        process.once("SIGINT", done);
        process.once("SIGTERM", done);
      });
      const lock = lockState(flags.stateDir);
      try {
        const store = await storeOf(flags, node);
        const access = await findAccess({
          ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
          ...(flags.context === undefined ? {} : { context: flags.context }),
        });
        const client = new HttpKubeClient({ access, clock: systemClock, version });
        try {
          const agent = await startAgent({
            node,
            client,
            clock: systemClock,
            random: systemRandom,
            log,
            version,
            store,
            limits: { ttlMs: flags.artifactsTtl, maxBytes: flags.maxArtifactBytes, maxCount: flags.maxArtifacts },
            stateDir: flags.stateDir,
            cgroupRoot: flags.cgroupRoot,
            listen: flags.listen,
          });
          log.info(`agent of node ${node}: artifacts in ${store.name}, listening on ${agent.url}`);
          log.info(`${await stop}: stopping`);
          await agent.stop(GRACE_MS);
          log.info("stopped");
        } finally {
          await client.close();
        }
      } finally {
        lock.release();
      }
    });
}

async function storeOf(flags: AgentFlags, node: string) {
  const { artifactsDir, s3Endpoint: endpoint, s3Bucket: bucket, s3Credentials } = flags;
  if (artifactsDir !== undefined && endpoint === undefined && bucket === undefined) {
    const { DirectoryStore } = await import("../../../agent/artifacts/directory.ts");
    return new DirectoryStore(artifactsDir, node);
  }
  if (artifactsDir !== undefined || endpoint === undefined || bucket === undefined)
    throw new NightshiftError("USAGE", "say where artifacts are kept", {
      fix: "Give either --artifacts-dir, or --s3-endpoint and --s3-bucket.",
    });
  const { S3Store, environmentCredentials, mountedCredentials } = await import("../../../agent/artifacts/s3.ts");
  const { systemClock } = await import("../../platform/host/clock.ts");
  const credentials =
    s3Credentials === undefined ? environmentCredentials : (): ReturnType<typeof mountedCredentials> => mountedCredentials(s3Credentials);
  // Missing credentials show now, not when something was captured.
  credentials();
  return new S3Store({
    endpoint,
    bucket,
    region: flags.s3Region,
    prefix: flags.s3Prefix,
    credentials,
    spoolDir: join(flags.stateDir, "spool"),
    node,
    clock: systemClock,
  });
}
