import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { NightshiftError } from "../../src/api/errors.ts";
import { type Image, layOut } from "../../scripts/oci.ts";
import { busyboxImage, pauseImage } from "../../scripts/images.ts";
import { type ApiAccess, call } from "./api.ts";
import { PAUSE_IMAGE } from "./components.ts";
import { ask, type ClusterStatus, follow } from "./control.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { API_PORT, CLUSTERS_DIR, type ClusterPlan, Layout } from "./layout.ts";
import { Proxy } from "./proxy.ts";
import { SYSTEM_PATH } from "./path.ts";
import { demand } from "./requirements.ts";
import { CLUSTER_VARIABLE, endCluster, isAlive, readState, refOf, sweep, writeState } from "./state.ts";
import { assetsFile, binDir, ensureTool, type Progress, type Tool } from "./toolchain.ts";

/** Image with a shell and small tools that every cluster with nodes has. */
export const BUSYBOX_IMAGE = "nightshift.dev/busybox:1";

export interface ClusterOptions {
  /** Default: a name that nobody has. Letters, digits and hyphens, at most 20. */
  readonly name?: string;
  /** `true` is one real node. Default: none, a control plane alone. */
  readonly node?: boolean;
  /** Number of real nodes, each a kubelet and a containerd. At most 8. */
  readonly nodes?: number;
  /** Number of nodes that kwok plays: always Ready, their pods Running without a process. */
  readonly fakeNodes?: number;
  /** Whether Services work on real nodes. Default true. */
  readonly kubeProxy?: boolean;
  /** Whether pods resolve the names of Services, by CoreDNS. Default: where there are real nodes. */
  readonly dns?: boolean;
  /** Images for the nodes: of scripts/images.ts, built as needed, or paths of archives. */
  readonly images?: readonly (Image | string)[];
  /** More flags by component, e.g. `{"kube-apiserver": ["--event-ttl=5m"]}`. */
  readonly flags?: Readonly<Record<string, readonly string[]>>;
  /** Whether the API server logs every request, see `Cluster.audit`. Default true. */
  readonly audit?: boolean;
  /** Other tools to have on PATH for `exec`: `helm`. Built on first use. */
  readonly tools?: readonly Tool[];
  /** Where progress goes. Default: to standard error when NIGHTSHIFT_CLUSTER_VERBOSE is set, else nowhere. */
  readonly progress?: Progress;
  /** Whether it lives on when this process ends. Default false. */
  readonly detached?: boolean;
}

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** For standard input. */
  readonly input?: string;
  /** Milliseconds after which it is killed. Default 120,000. */
  readonly timeoutMs?: number;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** A request that the API server answered, from its audit log; see the `Event` of audit.k8s.io/v1. */
export interface AuditEvent {
  readonly verb: string;
  readonly requestURI: string;
  readonly userAgent?: string;
  readonly user: {
    readonly username: string;
    readonly groups?: readonly string[];
    /** Among others `authentication.kubernetes.io/credential-id`: which token it was. */
    readonly extra?: Readonly<Record<string, readonly string[]>>;
  };
  readonly objectRef?: {
    readonly resource?: string;
    readonly namespace?: string;
    readonly name?: string;
    readonly apiGroup?: string;
    readonly subresource?: string;
  };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp: string;
  readonly stageTimestamp: string;
  readonly stage: string;
}

/** A process of the control plane or of a node. */
export class ComponentControl {
  readonly name: string;
  readonly #layout: Layout;

  constructor(layout: Layout, name: string) {
    this.#layout = layout;
    this.name = name;
  }

  /** Ends it: by SIGKILL, or by `signal` and SIGKILL 10 s later. Returns when it has ended. */
  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await ask(this.#layout, "/stop", { component: this.name, signal });
  }

  /** Starts it again, with the same flags. */
  async start(): Promise<void> {
    await ask(this.#layout, "/start", { component: this.name });
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  async pause(): Promise<void> {
    await ask(this.#layout, "/pause", { component: this.name });
  }

  /** SIGCONT. */
  async resume(): Promise<void> {
    await ask(this.#layout, "/resume", { component: this.name });
  }

  /** Path of its log. */
  get log(): string {
    return this.#layout.log(this.name.replaceAll("/", "-"));
  }
}

/** The API server: besides, what tests do to it. */
export class ApiServerControl extends ComponentControl {
  readonly #cluster: Cluster;
  readonly #layout: Layout;

  constructor(layout: Layout, cluster: Cluster) {
    super(layout, "kube-apiserver");
    this.#layout = layout;
    this.#cluster = cluster;
  }

  /** Starts it again and waits until it is ready. */
  override async start(): Promise<void> {
    await super.start();
    await this.#cluster.until("the API server", async () => (await this.#cluster.request("GET", "/readyz")) === "ok");
  }

  /** Resets every connection that goes through the forwarder (those of `Cluster.kubeconfig`); returns how many. */
  resetConnections(): Promise<number> {
    return ask<number>(this.#layout, "/reset");
  }

  /** Path of the audit log: one `AuditEvent` a line. */
  get auditLog(): string {
    return this.#layout.auditLog;
  }
}

/** etcd, and its compaction. */
export class EtcdControl extends ComponentControl {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    super(layout, "etcd");
    this.#layout = layout;
  }

  /**
   * Compacts to the newest revision, and returns it. The API server still serves older watches from its own cache:
   * only after its restart do they meet 410 Gone.
   */
  compact(): Promise<number> {
    return ask<number>(this.#layout, "/compact");
  }
}

const SILENT: Progress = () => undefined;
const VERBOSE: Progress = (line) => process.stderr.write(`cluster: ${line}\n`);

/** Builds what is missing in the cache. */
async function prepare(options: ClusterOptions, nodes: number, progress: Progress): Promise<Pick<ClusterPlan, "bin" | "coredns" | "kwok">> {
  const fake = (options.fakeNodes ?? 0) > 0;
  const dns = options.dns ?? nodes > 0;
  const tools: readonly Tool[] = [
    "kube",
    ...(dns ? (["coredns"] as const) : []),
    ...(fake ? (["kwok"] as const) : []),
    ...(options.tools ?? []),
  ];
  demand({ nodes: nodes > 0, tools });
  const bin = await ensureTool("kube", progress);
  const coredns = dns ? join(await ensureTool("coredns", progress), "coredns") : undefined;
  const kwok = fake ? { command: join(await ensureTool("kwok", progress), "kwok"), stages: assetsFile("kwok") } : undefined;
  for (const tool of options.tools ?? []) await ensureTool(tool, progress);
  return { bin, ...(coredns === undefined ? {} : { coredns }), ...(kwok === undefined ? {} : { kwok }) };
}

/**
 * A real Kubernetes cluster of a test's own, in seconds.
 *
 * Control plane, nodes and pods live in one network, mount and pid namespace, so that clusters cannot meet one another and
 * nothing listens on the machine but one port on the loopback address, through which `kubeconfig` reaches the API
 * server. It is gone, without a trace, when `stop` is called, and also when the process that started it ends in any way.
 *
 * @example
 * ```ts
 * await using cluster = await Cluster.start({ node: true });
 * await cluster.kubectl(["create", "deployment", "web", `--image=${BUSYBOX_IMAGE}`, "--", "sleep", "infinity"]);
 * ```
 */
export class Cluster implements AsyncDisposable {
  readonly name: string;
  /** The cluster's directory: logs, state, keys. */
  readonly dir: string;
  /** For clients in this process or anywhere on this machine: `https://127.0.0.1:PORT`, as cluster-admin. */
  readonly kubeconfig: string;
  /** The same access, for `call`. */
  readonly access: ApiAccess;
  /** For clients that run inside, by `exec` and `spawn`, where it is KUBECONFIG already. */
  readonly innerKubeconfig: string;
  readonly apiserver: ApiServerControl;
  readonly etcd: EtcdControl;
  readonly #layout: Layout;
  readonly #plan: ClusterPlan;
  readonly #tools: readonly Tool[];
  #watchdog: ChildProcess | undefined;

  private constructor(layout: Layout, watchdog: ChildProcess | undefined, tools: readonly Tool[]) {
    this.#layout = layout;
    this.#watchdog = watchdog;
    this.#tools = tools;
    this.#plan = JSON.parse(readFileSync(layout.plan, "utf8")) as ClusterPlan;
    this.name = layout.name;
    this.dir = layout.dir;
    this.kubeconfig = layout.kubeconfig;
    this.innerKubeconfig = layout.innerKubeconfig;
    const { port } = readState(layout);
    this.access = { server: `https://127.0.0.1:${port}`, ca: readFileSync(layout.ca, "utf8"), token: this.#plan.tokens.admin };
    this.apiserver = new ApiServerControl(layout, this);
    this.etcd = new EtcdControl(layout);
  }

  /**
   * Starts a cluster and returns when it can be used: API server and controllers up, real and fake nodes Ready, images
   * imported. The first call on a machine builds Kubernetes (about 14 minutes of CPU) into the cache.
   *
   * @throws NightshiftError `CLUSTER_REQUIREMENTS` naming all that this machine lacks, `CLUSTER_EXISTS` for a name that
   * runs, `CLUSTER_START` with the log's last lines.
   */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const progress = options.progress ?? (process.env["NIGHTSHIFT_CLUSTER_VERBOSE"] ? VERBOSE : SILENT);
    const nodes = options.nodes ?? (options.node === true ? 1 : 0);
    if (nodes > 8)
      throw new NightshiftError("CLUSTER_OPTIONS", `${nodes} real nodes on one machine are too many: at most 8`, { fix: "Use fakeNodes." });
    const layout = new Layout(options.name ?? randomBytes(4).toString("hex"));
    if (!/^[a-z0-9][a-z0-9-]{0,19}$/.test(layout.name)) {
      throw new NightshiftError("CLUSTER_OPTIONS", `${layout.name} is no name for a cluster: at most 20 small letters, digits and hyphens`);
    }
    const prepared = await prepare(options, nodes, progress);
    await sweep();
    createDirectory(layout, {
      ...prepared,
      name: layout.name,
      nodes,
      fakeNodes: options.fakeNodes ?? 0,
      archives: (options.images ?? []).filter((image) => typeof image === "string"),
      kubeProxy: options.kubeProxy ?? true,
      audit: options.audit ?? true,
      flags: options.flags ?? {},
      tokens: { admin: randomToken(), node: Array.from({ length: nodes }, randomToken) },
      detached: options.detached ?? false,
    });
    if (nodes > 0) {
      const images = (options.images ?? []).filter((image) => typeof image !== "string");
      await layOut([pauseImage(PAUSE_IMAGE), busyboxImage(BUSYBOX_IMAGE), ...images], layout.images).catch((error: unknown) => {
        rmSync(layout.dir, { recursive: true });
        throw error;
      });
    }
    const watchdog = startWatchdog(layout, options.detached ?? false);
    const port = await portOf(watchdog);
    const failure = port === undefined ? "it ended at once" : await follow(layout, progress);
    if (failure !== undefined || port === undefined) {
      const log = tailOf(join(layout.dir, "supervisor.log")) + tailOf(join(layout.dir, "watchdog.log")) + lastLogs(layout, failure ?? "");
      await endWatchdog(watchdog);
      throw new NightshiftError("CLUSTER_START", `the cluster did not start: ${failure}\n${log}`, {
        where: layout.dir,
        fix: "NIGHTSHIFT_CLUSTER_LOGS=DIRECTORY keeps the logs of clusters.",
      });
    }
    const cluster = new Cluster(layout, watchdog, options.tools ?? []);
    writeKubeconfig(layout.kubeconfig, cluster.access);
    return cluster;
  }

  /**
   * A cluster that runs, started by any process (`npm run cluster -- up`).
   * @throws NightshiftError `CLUSTER_GONE`, or `CLUSTER_STARTING` when it is not that far yet
   */
  static attach(name: string, tools: readonly Tool[] = []): Cluster {
    const layout = new Layout(name);
    if (!existsSync(layout.state) || !isAlive(readState(layout).watchdog)) {
      throw new NightshiftError("CLUSTER_GONE", `there is no cluster ${name}`, {
        where: layout.dir,
        fix: "Start one: npm run cluster -- up",
      });
    }
    if (!existsSync(layout.kubeconfig))
      throw new NightshiftError("CLUSTER_STARTING", `the cluster ${name} is still starting`, { where: layout.dir });
    return new Cluster(layout, undefined, tools);
  }

  /** Ends the cluster with all that runs in it, and removes what it left; returns when nothing is there any more. */
  async stop(): Promise<void> {
    const watchdog = this.#watchdog;
    if (watchdog !== undefined) {
      this.#watchdog = undefined;
      await endWatchdog(watchdog);
      return;
    }
    await endCluster(this.#layout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** How the components are. */
  status(): Promise<ClusterStatus> {
    return ask<ClusterStatus>(this.#layout, "/status");
  }

  /** A process of the cluster by its name in `status`: `kube-controller-manager`, `kubelet/node-0`. */
  component(name: string): ComponentControl {
    return new ComponentControl(this.#layout, name);
  }

  /**
   * Starts a process in the cluster's network, where it reaches pods, Services and nodes, and nothing else. The pid is the
   * process' own, so that signals reach it. KUBECONFIG and the tools are set. It is killed when the cluster stops.
   */
  spawn(argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const { init } = readState(this.#layout);
    const env = { ...process.env, ...this.environment(), ...options.env };
    // Only the network namespace: entering the pid namespace would need a fork, and so give another pid.
    return spawn("nsenter", [`--net=/proc/${init?.pid}/ns/net`, "--", ...argv], { ...options, env });
  }

  /** Runs a command as `spawn` does, to its end. @throws NightshiftError `CLUSTER_COMMAND` when it fails, with what it said. */
  exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return new Promise((done, fail) => {
      const child = this.spawn(argv, {
        stdio: ["pipe", "pipe", "pipe"],
        env: { ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      });
      let stdout = "";
      let stderr = "";
      child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
      // A command that ends without reading all of its input is judged by its status.
      child.stdin?.on("error", () => undefined);
      child.stdin?.end(options.input ?? "");
      const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 120_000);
      child.once("error", fail);
      child.once("close", (code, signal) => {
        clearTimeout(timer);
        if (code === 0) return done({ stdout, stderr });
        fail(
          new NightshiftError("CLUSTER_COMMAND", `${argv.join(" ")}: ${signal ?? `exit status ${code}`}\n${stderr}${stdout}`, {
            where: this.name,
          }),
        );
      });
    });
  }

  /** Runs kubectl as cluster-admin; resolves with what it printed. */
  async kubectl(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    return (await this.exec(["kubectl", ...argv], options)).stdout;
  }

  /** `kubectl get ... -o json`, parsed. */
  async get<T = unknown>(...argv: readonly string[]): Promise<T> {
    return JSON.parse(await this.kubectl(["get", ...argv, "-o", "json"])) as T;
  }

  /** Applies manifests: YAML as text, or objects. */
  async apply(manifests: string | readonly unknown[]): Promise<string> {
    const input = typeof manifests === "string" ? manifests : JSON.stringify({ apiVersion: "v1", kind: "List", items: manifests });
    return this.kubectl(["apply", "-f", "-"], { input });
  }

  /** A request to the API server as cluster-admin, from this process. @throws ApiError */
  request<T = unknown>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    return call<T>(this.access, method, path, body, contentType);
  }

  /**
   * Waits until `done` returns something other than false, null or undefined, and returns it. What it throws counts as
   * not yet. @throws NightshiftError `CLUSTER_TIMEOUT`, by default after 120 s, with the last error.
   */
  async until<T>(what: string, done: () => Promise<T | false | null | undefined>, timeoutMs = 120_000): Promise<T> {
    let last: unknown;
    for (const end = Date.now() + timeoutMs; Date.now() < end; await delay(100)) {
      try {
        const result = await done();
        if (result !== false && result !== null && result !== undefined) return result;
        last = undefined;
      } catch (error) {
        last = error;
      }
    }
    throw new NightshiftError(
      "CLUSTER_TIMEOUT",
      `${what}: not within ${timeoutMs / 1000} s${last instanceof Error ? `; ${last.message}` : ""}`,
      {
        where: this.name,
        cause: last,
      },
    );
  }

  /** Imports an image, or the archive of one, into every node. */
  async loadImage(image: Image | string): Promise<void> {
    if (typeof image === "string") return ask(this.#layout, "/import", { path: image });
    const dir = mkdtempSync(join(this.dir, "image-"));
    await layOut([image], dir);
    await ask(this.#layout, "/import", { path: dir });
  }

  /** A token of a service account, valid for `durationSeconds` (default an hour, at least 10 minutes). */
  async token(namespace: string, serviceAccount: string, durationSeconds = 3600): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
    const answer = await this.request<{ status: { token: string } }>("POST", path, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: durationSeconds },
    });
    return answer.status.token;
  }

  /** Paths of kubeconfigs for another identity: for this process, and for one started inside. */
  kubeconfigFor(token: string, name: string): { readonly outer: string; readonly inner: string } {
    const outer = join(this.dir, `kubeconfig-${name}`);
    const inner = `${outer}.inner`;
    writeKubeconfig(outer, { ...this.access, token }, name);
    writeKubeconfig(inner, { ...this.access, token, server: `https://127.0.0.1:${API_PORT}` }, name);
    return { outer, inner };
  }

  /**
   * A proxy in front of the API server, with a kubeconfig (cluster-admin, or the bearer of `token`) that goes through it: for
   * a client on this machine that is to be cut off alone. It lives in this process.
   */
  async proxy(name: string, token: string = this.access.token): Promise<{ readonly proxy: Proxy; readonly kubeconfig: string }> {
    const proxy = await Proxy.start(Number(new URL(this.access.server).port));
    const kubeconfig = join(this.dir, `kubeconfig-proxy-${name}`);
    writeKubeconfig(kubeconfig, { ...this.access, token, server: `https://127.0.0.1:${proxy.port}` }, name);
    return { proxy, kubeconfig };
  }

  /** The requests that the API server has answered so far, the oldest first; those of a watch, once it has begun and once it has ended. */
  audit(matches: (event: AuditEvent) => boolean = () => true): AuditEvent[] {
    if (!existsSync(this.#layout.auditLog)) return [];
    // The last line may be half written.
    const whole = readFileSync(this.#layout.auditLog, "utf8").split("\n").slice(0, -1);
    return whole.map((line) => JSON.parse(line) as AuditEvent).filter(matches);
  }

  /** Environment of the processes inside: KUBECONFIG, tools on PATH, caches of their own (all clusters have the same address inside). */
  environment(): Record<string, string> {
    const tools = [this.#plan.bin, ...this.#tools.map(binDir)];
    return {
      KUBECONFIG: this.innerKubeconfig,
      KUBECACHEDIR: join(this.dir, "cache"),
      HELM_CACHE_HOME: join(this.dir, "helm", "cache"),
      HELM_CONFIG_HOME: join(this.dir, "helm", "config"),
      HELM_DATA_HOME: join(this.dir, "helm", "data"),
      PATH: [...tools, SYSTEM_PATH].join(delimiter),
      [CLUSTER_VARIABLE]: this.name,
    };
  }
}

const randomToken = (): string => randomBytes(24).toString("base64url");

/** Makes the directory at once with all that says whose it is. */
function createDirectory(layout: Layout, plan: ClusterPlan): void {
  const temporary = new Layout(`.${layout.name}.${process.pid}`);
  mkdirSync(CLUSTERS_DIR, { recursive: true });
  mkdirSync(join(temporary.dir, "logs"), { recursive: true, mode: 0o700 });
  writeFileSync(temporary.plan, JSON.stringify(plan), { mode: 0o600 });
  writeState(temporary, { owner: refOf(process.pid) });
  try {
    if (existsSync(layout.dir)) throw new Error("it is there");
    renameSync(temporary.dir, layout.dir);
  } catch (cause) {
    throw new NightshiftError("CLUSTER_EXISTS", `there is a cluster ${layout.name} already`, {
      where: layout.dir,
      fix: `Stop it: npm run cluster -- down --name ${layout.name}`,
      cause,
    });
  }
}

function startWatchdog(layout: Layout, detached: boolean): ChildProcess {
  const log = openSync(join(layout.dir, "watchdog.log"), "a");
  const program = join(import.meta.dirname, "watchdog.ts");
  // A session of its own: Ctrl-C at the terminal ends the owner, and by that the cluster, in order.
  const watchdog = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, layout.name], {
    detached: true,
    cwd: "/",
    stdio: [detached ? "ignore" : "pipe", "pipe", log],
  });
  closeSync(log);
  // An owner that has nothing else to do ends, and its cluster with it.
  watchdog.unref();
  return watchdog;
}

/** The forwarder's port, as soon as the watchdog says it; undefined when it ends before. */
function portOf(watchdog: ChildProcess): Promise<number | undefined> {
  return new Promise((done) => {
    const { stdout } = watchdog;
    if (stdout === null) return done(undefined);
    watchdog.ref();
    watchdog.once("exit", () => done(undefined));
    createInterface({ input: stdout }).once("line", (line) => {
      watchdog.unref();
      (stdout as unknown as { unref(): void }).unref();
      (watchdog.stdin as unknown as { unref(): void } | null)?.unref();
      done((JSON.parse(line) as { port: number }).port);
    });
  });
}

function endWatchdog(watchdog: ChildProcess): Promise<void> {
  return new Promise((done) => {
    if (watchdog.exitCode !== null || watchdog.signalCode !== null) return done();
    watchdog.ref();
    watchdog.once("exit", () => done());
    if (watchdog.stdin === null) watchdog.kill("SIGTERM");
    else watchdog.stdin.destroy();
  });
}

function tailOf(path: string): string {
  try {
    return `${path}:\n${readFileSync(path, "utf8").trimEnd().split("\n").slice(-15).join("\n")}\n`;
  } catch {
    return "";
  }
}

/** The last lines of the log of the component that a failure names. */
function lastLogs(layout: Layout, failure: string): string {
  const component = /^(\S+) ended while/.exec(failure)?.[1];
  return component === undefined ? "" : tailOf(layout.log(component.replaceAll("/", "-")));
}
