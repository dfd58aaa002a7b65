import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import type { Snapshot } from "../../platform/kubernetes/snapshot.ts";
import { version } from "../version.ts";

interface Options {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: readonly string[];
  readonly output: string;
  readonly json?: boolean;
}

/** How long nothing is said of the progress (ms), and how often then. */
const QUIET_MS = 1_000;

const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

const more = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

/** Makes the directory. Rejects with `SNAPSHOT_EXISTS` where there is something in it: what an older one left would be rehearsed too. */
async function emptyDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    if ((await readdir(path)).length === 0) return;
  } catch (error) {
    throw new NightshiftError("OUTPUT_FAILED", messageOf(error), { where: path, fix: "Name another directory with -o.", cause: error });
  }
  throw new NightshiftError("SNAPSHOT_EXISTS", "the directory is not empty", { where: path, fix: "Delete it, or name another with -o." });
}

/** Writes a snapshot: `cluster.yaml`, and `resources/` with a file for each namespace that has some. */
async function write(directory: string, { cluster, resources }: Snapshot, server: string): Promise<void> {
  const head = `# ${server}, as nightshift snapshot saw it at ${cluster.capturedAt ?? ""}.\n`;
  await writeFile(
    join(directory, "cluster.yaml"),
    `${head}# Not seen, and worth to be filled in: requestsPerSecond and calls of each workload.\n${stringify(cluster)}`,
  );
  await mkdir(join(directory, "resources"));
  const groups = Map.groupBy(resources, ({ metadata }) => (metadata as { namespace?: string }).namespace ?? "cluster-scoped");
  for (const [namespace, all] of groups)
    await writeFile(join(directory, "resources", `${namespace}.yaml`), `${head}${all.map((each) => stringify(each)).join("---\n")}`);
}

const HELP = `
Reads what nightshift rehearse plays scenarios on: nodes, Deployments, StatefulSets, pods, PodDisruptionBudgets and autoscalers,
and the policies, budgets, runbooks and dependencies of Nightshift. It lists, and writes nothing to the cluster; Secrets,
ConfigMaps, images, environments and arguments are neither read nor kept. It takes the right to list these kinds.

Examples:
  $ nightshift snapshot
  $ nightshift snapshot -n shop -n bank -o shop-and-bank
  $ nightshift rehearse --cluster snapshot --mode Enforce`;

/** Adds `snapshot` to the program. */
export function register(program: Command): void {
  program
    .command("snapshot")
    .description("capture a cluster, read-only, to rehearse policies on")
    .option("--kubeconfig <file>", "kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config)")
    .option("--context <name>", "context of the kubeconfig (default: its current one)")
    .option("-n, --namespace <name>", "capture this namespace; may be repeated (default: all)", more)
    .option("-o, --output <dir>", "directory that it is written to", "snapshot")
    .option("--json", "print what was captured as one JSON document, and write no files")
    .addHelpText("after", HELP)
    .action(async ({ kubeconfig, context, namespace, output, json }: Options) => {
      if (json !== true) await emptyDirectory(output);
      const [{ findAccess }, { HttpKubeClient }, { DirectStore }, { systemClock }, { takeSnapshot }] = await Promise.all([
        import("../../platform/kubernetes/access.ts"),
        import("../../platform/kubernetes/http-client.ts"),
        import("../../platform/kubernetes/direct-store.ts"),
        import("../../platform/host/clock.ts"),
        import("../../platform/kubernetes/snapshot.ts"),
      ]);
      const access = await findAccess({
        ...(kubeconfig === undefined ? {} : { kubeconfig }),
        ...(context === undefined ? {} : { context }),
      });
      const client = new HttpKubeClient({ access, clock: systemClock, version: version() });
      const begun = Date.now();
      const unreadable: string[] = [];
      try {
        const snapshot = await takeSnapshot({
          client,
          store: new DirectStore(client, (message) => void unreadable.push(message)),
          clock: systemClock,
          ...(namespace === undefined ? {} : { namespaces: namespace }),
          progress: (what) => {
            if (Date.now() - begun >= QUIET_MS) process.stderr.write(`reading ${what}\n`);
          },
        });
        const { cluster, resources } = snapshot;
        const leftOut = [...snapshot.leftOut, ...unreadable];
        if (json === true) {
          process.stdout.write(`${JSON.stringify({ cluster, resources, leftOut })}\n`);
          return;
        }
        await write(output, snapshot, access.server.href);
        for (const each of leftOut) process.stderr.write(`left out: ${each}\n`);
        process.stdout.write(
          `${output}: ${count(cluster.workloads.length, "workload")} on ${count(cluster.nodes.length, "node")}, ${count(resources.filter(({ kind }) => kind === "RemediationPolicy").length, "policy", "policies")}\n`,
        );
      } finally {
        await client.close();
      }
    });
}
