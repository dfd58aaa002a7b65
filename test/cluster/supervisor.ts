// Runs inside the cluster's own network, mount and pid namespaces, as the only child of their first process (tini), and
// starts everything else. Started by watchdog.ts; told what to do over HTTP on a Unix socket (cluster.ts is the client).
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Server } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { archiveArguments } from "../../scripts/oci.ts";
import { type ApiAccess, call } from "./api.ts";
import { makeCgroup } from "./cgroups.ts";
import * as components from "./components.ts";
import type { Component } from "./components.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { API_PORT, type ClusterPlan, CONTROL_PLANE_ADDRESS, ETCD_CLIENT_PORT, Layout, type NodePlan } from "./layout.ts";
import { makePki } from "./pki.ts";
import { Proxy } from "./proxy.ts";
import { SYSTEM_PATH } from "./path.ts";

const run = promisify(execFile);
const layout = new Layout(process.argv[2] ?? "");
const plan = JSON.parse(readFileSync(layout.plan, "utf8")) as ClusterPlan;
const nodes: readonly NodePlan[] = Array.from({ length: plan.nodes }, (_, i) => layout.node(i));
const environment = { PATH: SYSTEM_PATH, HOME: layout.dir, TMPDIR: process.env["TMPDIR"] ?? "/tmp" };

/** Generous: two cores may be shared by several clusters and a build. */
const PATIENCE_MS = 180_000;
/** How long a component may take to end by SIGTERM. */
const GRACE_MS = 10_000;

interface Process {
  readonly component: Component;
  child: ChildProcess | undefined;
  /** Set while the component is meant to run. */
  wanted: boolean;
  paused: boolean;
  starts: number;
}
const processes = new Map<string, Process>();

const started = Date.now();
const lines: string[] = [];
let ready = false;
let failure: string | undefined;
const listeners = new Set<() => void>();

function notify(): void {
  for (const listener of listeners) listener();
}

function say(text: string): void {
  const line = `${Date.now() - started} ms: ${text}`;
  lines.push(line);
  console.log(line);
  notify();
}

function launch(process_: Process): void {
  const { component } = process_;
  const log = openSync(layout.log(component.name.replaceAll("/", "-")), "a");
  const child = spawn(component.command, component.argv, { env: environment, cwd: layout.dir, stdio: ["ignore", log, log] });
  process_.child = child;
  process_.wanted = true;
  process_.paused = false;
  process_.starts += 1;
  child.once("error", (error) => say(`${component.name} cannot be started: ${error.message}`));
  child.once("exit", (code, signal) => {
    if (process_.child === child) process_.child = undefined;
    if (process_.wanted) say(`${component.name} ended by itself (${signal ?? `exit status ${code}`})`);
  });
}

function start(component: Component): void {
  const process_: Process = { component, child: undefined, wanted: true, paused: false, starts: 0 };
  processes.set(component.name, process_);
  launch(process_);
}

async function stop(process_: Process, signal: NodeJS.Signals): Promise<void> {
  const { child } = process_;
  process_.wanted = false;
  if (child === undefined) return;
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  child.kill("SIGCONT");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
  await exited;
  clearTimeout(timer);
}

/** Waits until `done` says so; fails early when a process that should run does not. */
async function until(what: string, done: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; ; await delay(50)) {
    if (await done().catch(() => false)) return;
    const dead = [...processes.values()].find((process_) => process_.wanted && process_.child === undefined);
    if (dead !== undefined) throw new Error(`${dead.component.name} ended while waiting for ${what}`);
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`);
  }
}

async function ip(commands: readonly string[]): Promise<void> {
  const batch = run("ip", ["-batch", "-"], { env: environment });
  batch.child.stdin?.end(`${commands.join("\n")}\n`);
  await batch;
}

/** The control plane and the nodes on a bridge, since not every kernel has the dummy device; nothing leads out. */
async function setUpNetwork(): Promise<void> {
  const local = nodes.filter((node) => node.namespace === undefined);
  await ip([
    "link set lo up",
    "link add node0 type bridge",
    ...[CONTROL_PLANE_ADDRESS, ...local.map((node) => node.address)].map((address) => `address add ${address}/24 dev node0`),
    "link set node0 up",
    "route add default dev node0",
  ]);
  writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
  for (const node of nodes) if (node.namespace !== undefined) await setUpNodeNetwork(node, node.namespace);
}

/** A network of its own for a node, and the ways between its pods and those of the others. */
async function setUpNodeNetwork(node: NodePlan, namespace: string): Promise<void> {
  const others = nodes.filter((other) => other !== node && other.namespace !== undefined);
  await ip([
    `netns add ${namespace}`,
    `link add ${namespace} type veth peer name eth0 netns ${namespace}`,
    `link set ${namespace} master node0 up`,
    `route add ${node.podCidr} via ${node.address}`,
  ]);
  const inside = [
    "link set lo up",
    `address add ${node.address}/24 dev eth0`,
    "link set eth0 up",
    `route add default via ${CONTROL_PLANE_ADDRESS}`,
    ...others.map((other) => `route add ${other.podCidr} via ${other.address}`),
  ];
  const script = `set -e; echo 1 > /proc/sys/net/ipv4/ip_forward; ${inside.map((line) => `ip ${line}`).join("; ")}`;
  await run("nsenter", [`--net=/run/netns/${namespace}`, "--", "sh", "-c", script], { env: environment });
}

/**
 * What the kubelet sets on its machine when it is not so yet (`setupKernelTunables` in pkg/kubelet/cm): these are the
 * whole machine's, so the cluster sees files of its own there.
 */
const KERNEL_TUNABLES: Readonly<Record<string, string>> = {
  "vm/overcommit_memory": "1",
  "vm/panic_on_oom": "0",
  "kernel/panic": "10",
  "kernel/panic_on_oops": "1",
  "kernel/keys/root_maxkeys": "1000000",
  "kernel/keys/root_maxbytes": "25000000",
};

/** Fixed paths that containerd, CNI and the kubelet write to become the cluster's own. */
async function setUpMounts(): Promise<void> {
  for (const dir of ["/run", "/var/log", "/var/lib/cni"]) {
    mkdirSync(dir, { recursive: true });
    await run("mount", ["-t", "tmpfs", "-o", "mode=755", "tmpfs", dir], { env: environment });
  }
  mkdirSync("/run/tunables", { recursive: true });
  for (const [name, value] of Object.entries(KERNEL_TUNABLES)) {
    const file = join("/run/tunables", name.replaceAll("/", "."));
    writeFileSync(file, `${value}\n`);
    await run("mount", ["--bind", file, join("/proc/sys", name)], { env: environment });
  }
}

/** Imports an archive, or a directory that `layOut` made, into every node. */
async function importImages(path: string): Promise<void> {
  const argv = statSync(path).isDirectory() ? archiveArguments(path) : undefined;
  const imports = nodes.map(async (node) => {
    const ctr = run(
      "ctr",
      ["--address", components.containerdSocket(node), "--namespace", "k8s.io", "images", "import", argv === undefined ? path : "-"],
      {
        env: environment,
      },
    );
    if (argv !== undefined && ctr.child.stdin !== null) {
      const tar = spawn("tar", argv, { env: environment, stdio: ["ignore", "pipe", "inherit"] });
      // ctr reads no further than the end of the archive, and may be gone before tar has padded it: whether the import
      // succeeded is ctr's alone to say.
      const fed = pipeline(tar.stdout, ctr.child.stdin).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
      });
      await Promise.all([fed, ctr]);
    }
    await ctr;
  });
  await Promise.all(imports);
}

async function startContainerd(node: NodePlan): Promise<void> {
  makeCgroup(node.cgroup);
  // Image archives pass through there on their way to the snapshots, which stay on the disk: what a pod writes to its root
  // file system would otherwise count as its memory.
  const content = join(node.dir, "cd", "root", "io.containerd.content.v1.content");
  mkdirSync(content, { recursive: true });
  await run("mount", ["-t", "tmpfs", "-o", "mode=700", "tmpfs", content], { env: environment });
  start(components.containerd(node, plan));
  await until(`containerd of ${node.name}`, async () => {
    await run("ctr", ["--address", components.containerdSocket(node), "version"], { env: environment });
    return true;
  });
}

interface NodeList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  }[];
}

async function startNodes(access: ApiAccess): Promise<void> {
  for (const [i, node] of nodes.entries()) {
    const server = `https://${CONTROL_PLANE_ADDRESS}:${API_PORT}`;
    writeKubeconfig(join(node.dir, "kubeconfig"), { ...access, server, token: plan.tokens.node[i] ?? "" }, node.name);
    writeKubeconfig(components.adminKubeconfig(node), { ...access, server });
    start(components.kubelet(layout, node, plan));
    if (plan.kubeProxy) start(components.kubeProxy(node, plan));
  }
  if (plan.coredns !== undefined) start(components.coredns(layout, plan));
  if (plan.fakeNodes > 0) await createFakeNodes(access);
  await until("the nodes", async () => {
    const { items } = await call<NodeList>(access, "GET", "/api/v1/nodes");
    const usable = items.filter((node) =>
      node.status.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True"),
    );
    return usable.length === plan.nodes + plan.fakeNodes;
  });
}

/** A pod that must run for real does not land on a fake node, unless it says so or there are only fake ones. */
async function createFakeNodes(access: ApiAccess): Promise<void> {
  start(components.kwok(layout, plan));
  const resources = { cpu: "32", memory: "256Gi", pods: "110" };
  const create = (i: number): Promise<unknown> =>
    call(access, "POST", "/api/v1/nodes", {
      metadata: {
        name: `fake-${i}`,
        annotations: { [components.FAKE_NODE_ANNOTATION]: "fake" },
        labels: { "kubernetes.io/hostname": `fake-${i}`, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", type: "kwok" },
      },
      spec: plan.nodes > 0 ? { taints: [{ key: components.FAKE_NODE_ANNOTATION, value: "fake", effect: "NoSchedule" }] } : {},
      status: { capacity: resources, allocatable: resources },
    });
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < plan.fakeNodes) await create(next++);
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

async function up(): Promise<void> {
  start(components.etcd(layout, plan));
  // Named network namespaces are below /run, which the mounts bring.
  await Promise.all([setUpMounts().then(setUpNetwork), makePki(join(layout.dir, "pki"))]);
  const access: ApiAccess = {
    server: `https://127.0.0.1:${API_PORT}`,
    ca: readFileSync(layout.ca, "utf8"),
    token: plan.tokens.admin,
  };
  writeKubeconfig(layout.innerKubeconfig, access);
  start(components.apiServer(layout, plan));
  const controlPlane = async (): Promise<void> => {
    await until("the API server", async () => (await call(access, "GET", "/readyz")) === "ok");
    say("API server ready");
    start(components.controllerManager(layout, plan));
    start(components.scheduler(layout, plan));
  };
  const runtimes = async (): Promise<void> => {
    if (nodes.length === 0) return;
    await Promise.all(nodes.map(startContainerd));
    say("containerd ready");
    for (const path of [layout.images, ...plan.archives]) await importImages(path);
    say("images imported");
  };
  await Promise.all([controlPlane(), runtimes()]);
  await startNodes(access);
  if (plan.nodes + plan.fakeNodes > 0) say("nodes ready");
  // Without it no pod can be created.
  await until("the default service account", async () => {
    await call(access, "GET", "/api/v1/namespaces/default/serviceaccounts/default");
    return true;
  });
}

/** From the machine's loopback address to the API server's. */
let forwarder: Proxy | undefined;

function resetConnections(): number {
  const count = forwarder?.connections ?? 0;
  forwarder?.reset();
  return count;
}

async function etcdCall<T>(path: string, body: unknown): Promise<T> {
  const answer = await fetch(`http://127.0.0.1:${ETCD_CLIENT_PORT}${path}`, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`etcd ${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** Compacts to the newest revision, which it returns. */
async function compact(): Promise<number> {
  const range = await etcdCall<{ header: { revision: string } }>("/v3/kv/range", { key: Buffer.from("/").toString("base64"), limit: 1 });
  await etcdCall("/v3/kv/compaction", { revision: range.header.revision, physical: true });
  return Number(range.header.revision);
}

function named(name: string): Process {
  const process_ = processes.get(name);
  if (process_ === undefined) throw new Error(`no component ${name}; there are ${[...processes.keys()].join(", ")}`);
  return process_;
}

const status = (): unknown => ({
  ready,
  failure,
  lines,
  components: [...processes.values()].map((process_) => ({
    name: process_.component.name,
    state: process_.paused ? "paused" : process_.child !== undefined ? "running" : process_.wanted ? "died" : "stopped",
    starts: process_.starts,
  })),
});

interface Request {
  readonly component?: string;
  readonly signal?: NodeJS.Signals;
  readonly path?: string;
}

/** Requests by path; each answers with JSON. */
const ACTIONS: Readonly<Record<string, (request: Request) => unknown>> = {
  "/status": status,
  "/stop": ({ component = "", signal = "SIGKILL" }) => stop(named(component), signal),
  "/start": ({ component = "" }) => {
    if (named(component).child === undefined) launch(named(component));
  },
  "/pause": ({ component = "" }) => {
    named(component).paused = named(component).child?.kill("SIGSTOP") === true;
  },
  "/resume": ({ component = "" }) => {
    named(component).child?.kill("SIGCONT");
    named(component).paused = false;
  },
  "/reset": resetConnections,
  "/compact": compact,
  "/import": ({ path = "" }) => importImages(path),
};

/** One line a step until the cluster is up or has failed. */
function followEvents(answer: ServerResponse): void {
  answer.writeHead(200, { "content-type": "application/x-ndjson" });
  let sent = 0;
  const send = (): void => {
    for (; sent < lines.length; sent += 1) answer.write(`${JSON.stringify({ line: lines[sent] })}\n`);
    if (!ready && failure === undefined) return;
    listeners.delete(send);
    answer.end(`${JSON.stringify({ ready, failure })}\n`);
  };
  listeners.add(send);
  answer.once("close", () => listeners.delete(send));
  send();
}

async function handle(request: IncomingMessage, answer: ServerResponse): Promise<void> {
  if (request.url === "/events") return followEvents(answer);
  const action = ACTIONS[request.url ?? ""];
  if (action === undefined) return void answer.writeHead(404).end();
  let text = "";
  for await (const chunk of request) text += String(chunk);
  try {
    const result = await action(text === "" ? {} : (JSON.parse(text) as Request));
    answer.end(JSON.stringify(result ?? null));
  } catch (error) {
    answer.writeHead(500).end(error instanceof Error ? error.message : String(error));
  }
}

mkdirSync(join(layout.dir, "logs"), { recursive: true });
createHttpServer((request, answer) => void handle(request, answer)).listen(layout.control);
// Without its watchdog nobody would clear away the cluster, so it ends; tini and with it the pid namespace follow.
process.once("disconnect", () => process.exit(1));
process.on("message", (_message, listener) => {
  forwarder = Proxy.adopt(listener as Server, API_PORT);
});
process.send?.("up");
try {
  await up();
  ready = true;
  say("ready");
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
  say(`failed: ${failure}`);
}
