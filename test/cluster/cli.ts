// npm run cluster -- up|down|exec|status: a real Kubernetes cluster by hand.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { messageOf, NightshiftError } from "../../src/api/errors.ts";
import { Cluster } from "./cluster.ts";
import { type ClusterPlan, Layout } from "./layout.ts";
import { missing, PACKAGES } from "./requirements.ts";
import { clusterNames, endCluster, sweep } from "./state.ts";
import { ensureTool, isBuilt, type Tool } from "./toolchain.ts";

const DEFAULT_NAME = "dev";

/** As the nightshift command has it: 0 done, 1 failed, 2 called wrongly, 69 this machine cannot (sysexits.h, EX_UNAVAILABLE). */
const EXIT = { failed: 1, usage: 2, unavailable: 69 } as const;

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError("It must be a whole number.");
  return value;
}

const collect = (value: string, all: readonly string[]): readonly string[] => [...all, value];

interface UpOptions {
  readonly name: string;
  readonly nodes: number;
  readonly fakeNodes: number;
  readonly image: readonly string[];
  readonly json?: boolean;
}

/** Debian's packages come by the repo's own script; anything else that lacks is said by Cluster.start. */
function install(): void {
  if (missing({ nodes: true }).every((line) => !line.startsWith("Debian"))) return;
  const script = join(import.meta.dirname, "../../scripts/apt-install.sh");
  const done = spawnSync(script, PACKAGES, { stdio: ["ignore", 2, 2] });
  if (done.status !== 0) throw new NightshiftError("APT", "the packages could not be installed", { fix: `By hand: ${PACKAGES.join(" ")}` });
}

async function up(options: UpOptions): Promise<void> {
  install();
  const say = (line: string): void => console.error(line);
  const tools: readonly Tool[] = isBuilt("helm") ? ["helm"] : [];
  const cluster = await Cluster.start({
    name: options.name,
    nodes: options.nodes,
    fakeNodes: options.fakeNodes,
    images: options.image,
    tools,
    detached: true,
    progress: say,
  });
  if (options.json === true) {
    console.log(JSON.stringify({ name: cluster.name, kubeconfig: cluster.kubeconfig, server: cluster.access.server, dir: cluster.dir }));
    return;
  }
  const named = options.name === DEFAULT_NAME ? "" : ` --name ${options.name}`;
  console.log(`
The cluster ${cluster.name} is up. From here, through ${cluster.access.server}:

  export KUBECONFIG=${cluster.kubeconfig}

Inside its network, with kubectl on PATH, where pods and Services answer:

  npm run cluster -- exec${named} kubectl get pods -A
  npm run cluster -- exec${named} bash

Stop it:

  npm run cluster -- down${named}`);
}

async function down(options: { readonly name: string; readonly all?: boolean }): Promise<void> {
  // Those of tests that run now are theirs to stop.
  const detached = (name: string): boolean => (JSON.parse(readFileSync(new Layout(name).plan, "utf8")) as ClusterPlan).detached;
  const names = options.all === true ? clusterNames().filter(detached) : [options.name];
  for (const name of names) {
    if (!clusterNames().includes(name)) throw new NightshiftError("CLUSTER_GONE", `there is no cluster ${name}`);
    await endCluster(new Layout(name));
    console.log(`${name} is gone`);
  }
  await sweep();
}

function exec(argv: readonly string[], options: { readonly name: string; readonly helm?: boolean }): Promise<void> {
  return new Promise((done, fail) => {
    void (async () => {
      const tools: Tool[] = isBuilt("helm") || options.helm === true ? ["helm"] : [];
      for (const tool of tools) await ensureTool(tool, (line) => console.error(line));
      const child = Cluster.attach(options.name, tools).spawn(argv, { stdio: "inherit" });
      child.once("error", fail);
      child.once("exit", (code, signal) => {
        process.exitCode = code ?? (signal === null ? 1 : 128);
        done();
      });
    })().catch(fail);
  });
}

/** A cluster that somebody starts at this moment is no error when all are asked for. */
function running(name: string): Cluster | undefined {
  try {
    return Cluster.attach(name);
  } catch (error) {
    if (!(error instanceof NightshiftError && error.code === "CLUSTER_STARTING")) throw error;
    console.error(error.toString());
    return undefined;
  }
}

async function status(options: { readonly name?: string; readonly json?: boolean }): Promise<void> {
  const names = options.name === undefined ? clusterNames() : [options.name];
  const clusters = [];
  for (const name of names) {
    const cluster = running(name);
    if (cluster === undefined) continue;
    clusters.push({ name, kubeconfig: cluster.kubeconfig, server: cluster.access.server, ...(await cluster.status()) });
  }
  if (options.json === true) return console.log(JSON.stringify(clusters, undefined, 2));
  if (clusters.length === 0) return console.log("no cluster runs; start one: npm run cluster -- up");
  for (const cluster of clusters) {
    console.log(
      `${cluster.name}  ${cluster.ready ? "ready" : (cluster.failure ?? "starting")}  ${cluster.server}  KUBECONFIG=${cluster.kubeconfig}`,
    );
    for (const component of cluster.components) console.log(`  ${component.name.padEnd(26)} ${component.state}`);
  }
}

const program = new Command("npm run cluster --")
  .description("A real Kubernetes cluster in network, mount and pid namespaces of its own, in seconds.")
  .enablePositionalOptions()
  .helpCommand(false)
  .exitOverride()
  .configureOutput({ writeErr: (text) => process.stderr.write(text) })
  .addHelpText(
    "after",
    `
Examples:
  npm run cluster -- up                               one real node; builds Kubernetes the first time
  npm run cluster -- up --nodes 2 --fake-nodes 200    two real nodes and 200 that kwok plays
  npm run cluster -- up --image /tmp/shop.tar         with an image that scripts/image.ts made
  npm run cluster -- exec kubectl get pods -A
  npm run cluster -- exec curl -s http://10.96.0.50   inside, Services answer
  npm run cluster -- exec --helm helm list -A
  npm run cluster -- status --json
  npm run cluster -- down`,
  );

program
  .command("up")
  .description("start a cluster that lives until `down`")
  .option("--name <name>", "its name", DEFAULT_NAME)
  .option("--nodes <n>", "real nodes; 0 is a control plane alone", count, 1)
  .option("--fake-nodes <n>", "nodes that kwok plays", count, 0)
  .option("--image <archive>", "import an image archive into every node (may be repeated)", collect, [])
  .option("--json", "name, kubeconfig and server as JSON")
  .action(up);
program
  .command("down")
  .description("end a cluster and remove all that it left")
  .option("--name <name>", "its name", DEFAULT_NAME)
  .option("--all", "every cluster that `up` started")
  .action(down);
program
  .command("exec")
  .description("run a command inside, with KUBECONFIG set and kubectl on PATH")
  .argument("<command...>")
  .option("--name <name>", "the cluster", DEFAULT_NAME)
  .option("--helm", "with helm on PATH, built the first time")
  .passThroughOptions()
  .action(exec);
program
  .command("status")
  .description("what runs, and how its components are")
  .option("--name <name>", "one cluster alone")
  .option("--json", "as JSON")
  .action(status);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof Error && "exitCode" in error && error.name === "CommanderError") {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
  } else {
    console.error(messageOf(error));
    process.exitCode = error instanceof NightshiftError && error.code === "CLUSTER_REQUIREMENTS" ? EXIT.unavailable : EXIT.failed;
  }
}
