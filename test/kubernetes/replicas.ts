import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseAllDocuments } from "yaml";
import { API_VERSION } from "../../src/api/meta.ts";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import { MARKS } from "../../src/platform/kubernetes/marks.ts";
import type { KubeList, Pod } from "../../src/platform/kubernetes/objects.ts";
import { type AuditEvent, BUSYBOX_IMAGE, Cluster } from "../cluster/cluster.ts";
import { writeKubeconfig } from "../cluster/kubeconfig.ts";
import { Proxy } from "../cluster/proxy.ts";
import { CLUSTER_VARIABLE } from "../cluster/state.ts";
import { NO_STORMS } from "../support/no-storms.ts";
import { unusedPort } from "../support/ports.ts";
import { webhookAlert, webhookBody } from "../support/webhook.ts";
import { Gateway } from "./gateway.ts";

/** Namespace of the operator and its Lease. */
export const OWN = "nightshift-system";
/** The operator's account, as the API server calls it. */
export const OPERATOR = `system:serviceaccount:${OWN}:nightshift`;
/** Path of the Lease. */
export const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${OWN}/leases/nightshift`;
/** Pods of the test are ready when the test says so: it sets this condition, which is a readiness gate of theirs. */
const GATE = "nightshift.dev/test";
/** Whom the API server lets do what is done with the chart installed; its workloads are no part of these tests. */
const INSTALLED = new Set([
  "ServiceAccount",
  "ClusterRole",
  "ClusterRoleBinding",
  "Role",
  "RoleBinding",
  "Lease",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
]);
const root = resolve(import.meta.dirname, "../..");

export interface Lease {
  readonly metadata: { readonly uid: string; readonly resourceVersion: string };
  readonly spec?: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
}

/** One replica of the operator: a process, with an account's token and a way to the API server of its own. */
export class Replica {
  /** Name of the pod that it takes itself for, and beginning of its identity in the Lease. */
  readonly name: string;
  readonly gateway: Gateway;
  readonly proxy: Proxy;
  readonly lines: string[] = [];
  /** Its token's id, by which the audit log knows it from the others. */
  readonly #credential: string;
  readonly #cluster: string;
  readonly #dir: string;
  readonly #kubeconfig: string;
  readonly #tokenFile: string;
  #process: ChildProcess | undefined;
  #exited: Promise<number | NodeJS.Signals> = Promise.resolve(0);
  url = "";

  constructor(name: string, cluster: Cluster, gateway: Gateway, proxy: Proxy, token: string, dir: string, tokenFile: string) {
    this.name = name;
    this.#cluster = cluster.name;
    this.gateway = gateway;
    this.proxy = proxy;
    const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { readonly jti: string };
    this.#credential = `JTI=${claims.jti}`;
    this.#dir = join(dir, name);
    this.#tokenFile = tokenFile;
    this.#kubeconfig = join(dir, `${name}.kubeconfig`);
    mkdirSync(this.#dir);
    writeKubeconfig(this.#kubeconfig, { ...gateway.access, server: `https://127.0.0.1:${proxy.port}`, token }, name);
  }

  /** Starts its process; resolves when it is ready. */
  async start(): Promise<void> {
    const port = unusedPort();
    this.url = `http://127.0.0.1:${port}`;
    const args = ["operator", "--kubeconfig", this.#kubeconfig, "-n", OWN, "--listen", `127.0.0.1:${port}`, "--json"];
    const child = spawn(join(root, "bin/nightshift"), [...args, "--token-file", this.#tokenFile, "--state", this.#dir], {
      // What bears the cluster's name ends with it, however this process ends.
      env: { ...process.env, POD_NAME: this.name, [CLUSTER_VARIABLE]: this.#cluster },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", (line) => this.lines.push(line));
    this.#exited = new Promise((done) => child.once("exit", (code, signal) => done(code ?? signal ?? 0)));
    await until(
      `${this.name} ready`,
      async () => (await fetch(`${this.url}/readyz`)).ok,
      () => this.lines.slice(-10).join("\n"),
    );
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  get isRunning(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Resolves with the status that its process ends with, or the signal. */
  get exited(): Promise<number | NodeJS.Signals> {
    return this.#exited;
  }

  /** Whether a request was this replica's. */
  made(event: AuditEvent): boolean {
    return event.user.extra?.["authentication.kubernetes.io/credential-id"]?.includes(this.#credential) === true;
  }

  async stop(): Promise<void> {
    this.signal("SIGKILL");
    await this.#exited;
    await this.proxy.stop();
    await this.gateway[Symbol.asyncDispose]();
  }
}

/** Three replicas on a cluster with the chart's roles and admission policies, workloads, and an Alertmanager that tells all three. */
export class Fleet {
  readonly cluster: Cluster;
  readonly replicas: readonly Replica[];
  /** Each state of the Lease that was seen, the oldest first. */
  readonly leases: Lease[] = [];
  readonly #dir: string;
  readonly #token: string;
  /** Alerts that fire, by the uid of the pod that they are about. */
  readonly #firing = new Map<string, { readonly namespace: string; readonly pod: string; readonly startsAt: string }>();
  /** Namespaces whose new pods do not become ready. */
  readonly #held = new Set<string>();
  readonly #namespaces = new Set<string>();
  #stopping = false;
  #world: Promise<void> = Promise.resolve();

  private constructor(cluster: Cluster, replicas: readonly Replica[], dir: string, token: string) {
    this.cluster = cluster;
    this.replicas = replicas;
    this.#dir = dir;
    this.#token = token;
  }

  static async start(): Promise<Fleet> {
    const cluster = await Cluster.start({ node: true, tools: ["helm"] });
    const dir = mkdtempSync(join(tmpdir(), "nightshift-ha-"));
    try {
      const crds = join(root, "deploy/chart/files/crds");
      await cluster.kubectl(["apply", "--server-side", "-f", crds]);
      await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", crds]);
      await cluster.kubectl(["create", "namespace", OWN]);
      // Many are ill at once here, on one node, to see who acts: the storm brake would hold them, and is not what this is about.
      await cluster.apply([NO_STORMS]);
      const { stdout } = await cluster.exec(["helm", "template", "nightshift", join(root, "deploy/chart"), "-n", OWN]);
      const manifests = parseAllDocuments(stdout).map((document) => document.toJS() as { readonly kind: string } | null);
      await cluster.apply(manifests.filter((manifest) => manifest !== null && INSTALLED.has(manifest.kind)));
      const token = "a-token-of-the-senders-of-signals";
      writeFileSync(join(dir, "token"), token, { mode: 0o600 });
      const names = ["nightshift-0", "nightshift-1", "nightshift-2"];
      // The pods that the replicas take themselves for: they show who leads.
      await cluster.apply(names.map((name) => podOf(name, OWN)));
      const replicas: Replica[] = [];
      for (const name of names) {
        const gateway = await Gateway.start(cluster.access);
        const proxy = await Proxy.start(gateway.port);
        replicas.push(new Replica(name, cluster, gateway, proxy, await cluster.token(OWN, "nightshift"), dir, join(dir, "token")));
      }
      const fleet = new Fleet(cluster, replicas, dir, token);
      fleet.#world = fleet.#turn();
      await Promise.all(replicas.map((replica) => replica.start()));
      await fleet.leader();
      return fleet;
    } catch (error) {
      await cluster.stop();
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#world;
    await Promise.all(this.replicas.map((replica) => replica.stop()));
    await this.cluster.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Starts again the replicas that have ended, and waits for all to be ready and for one of them to lead. */
  async whole(): Promise<void> {
    await Promise.all(this.replicas.filter(({ isRunning }) => !isRunning).map((replica) => replica.start()));
    await this.leader();
  }

  lease(): Promise<Lease> {
    return this.cluster.request<Lease>("GET", LEASE);
  }

  /** The replica that holds the Lease. */
  leader(): Promise<Replica> {
    return this.cluster.until("a leader", async () => {
      const holder = (await this.lease()).spec?.holderIdentity ?? "";
      return this.replicas.find(({ name, isRunning }) => isRunning && holder.startsWith(`${name}_`));
    });
  }

  /** The first write of the Lease by another than `old` that the API server has answered with success since `since` (ms since the epoch). */
  takeover(old: Replica, since: number): Promise<{ readonly by: Replica; readonly at: number }> {
    return this.cluster.until("another leader", async () => {
      const [taken] = this.cluster.audit(
        (event) =>
          event.objectRef?.resource === "leases" &&
          (event.verb === "update" || event.verb === "create") &&
          isSuccess(event) &&
          timeOf(event) >= since &&
          this.replicas.some((replica) => replica !== old && replica.made(event)),
      );
      const by = this.replicas.find((replica) => taken !== undefined && replica.made(taken));
      return taken !== undefined && by !== undefined && { by, at: timeOf(taken) };
    });
  }

  /** A Deployment of two pods in a namespace of its own, ready, and a policy that renews one whose alert fires. */
  async workload(namespace: string, options: { readonly endsAfterSeconds?: number } = {}): Promise<void> {
    this.#namespaces.add(namespace);
    const { metadata, spec } = podOf("web", namespace, options.endsAfterSeconds);
    const labels = { app: "web" };
    await this.cluster.apply([
      { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { ...metadata, labels },
        spec: {
          replicas: 2,
          selector: { matchLabels: labels },
          template: { metadata: { labels }, spec: { ...spec, readinessGates: [{ conditionType: GATE }] } },
        },
      },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web", namespace },
        spec: { selector: labels, ports: [{ port: 80 }] },
      },
      {
        apiVersion: API_VERSION,
        kind: "Runbook",
        metadata: { name: "restart", namespace },
        // What the strategy RestartPod does, but for how long is waited for requests of which nothing is heard.
        spec: {
          steps: [
            { startReplacement: {} },
            { awaitReady: {}, timeout: "10m" },
            { removeFromTraffic: {} },
            { awaitInFlight: { onTimeout: "Continue" }, timeout: "1s" },
            { stop: { gracePeriod: "10s", allowCapacityDrop: false }, timeout: "3m" },
          ],
        },
      },
      {
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name: "web", namespace },
        spec: {
          mode: "Enforce",
          targets: [{ name: "web" }],
          signals: [{ name: "ill", alert: { alertname: "Ill" } }],
          ladder: [{ runbook: "restart", timeout: "15m" }],
          budgets: [{ maxUnavailable: 1 }],
          verify: { stableFor: "1s", timeout: "3m" },
        },
      },
    ]);
  }

  /** Waits until a workload's pods, and only they, are there and ready; resolves with them. */
  ready(namespace: string): Promise<readonly Pod[]> {
    return this.cluster.until(`two ready pods in ${namespace}`, async () => {
      const pods = await this.pods(namespace);
      return pods.length === 2 && pods.every((pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined) && pods;
    });
  }

  /** From now on pods that start do not become ready, until `let`. */
  hold(namespace: string): void {
    this.#held.add(namespace);
  }

  let(namespace: string): void {
    this.#held.delete(namespace);
  }

  /** An alert fires for the first pod of the workload, and goes on until that is gone. Resolves with the pod. */
  async fire(namespace: string): Promise<Pod> {
    const [pod] = await this.ready(namespace);
    if (pod === undefined) throw new Error("no pod");
    this.#firing.set(pod.metadata.uid, { namespace, pod: pod.metadata.name, startsAt: new Date().toISOString() });
    return pod;
  }

  async pods(namespace: string): Promise<readonly Pod[]> {
    return (await this.cluster.request<KubeList<Pod>>("GET", `/api/v1/namespaces/${namespace}/pods`)).items ?? [];
  }

  async remediations(namespace: string): Promise<readonly Remediation[]> {
    const path = `/apis/nightshift.dev/v1alpha1/namespaces/${namespace}/remediations`;
    return (await this.cluster.request<{ readonly items: readonly Remediation[] }>("GET", path)).items;
  }

  /** Waits until the step of the namespace's episode is in the state. */
  step(namespace: string, type: string, state: string): Promise<Remediation> {
    return this.cluster.until(`${type} ${state} in ${namespace}`, async () => {
      const all = await this.remediations(namespace);
      return all.find(({ status }) => status?.attempts.some(({ steps }) => steps.some((s) => s.type === type && s.state === state)));
    });
  }

  /** Waits until the namespace's episodes are over. */
  ended(namespace: string): Promise<readonly Remediation[]> {
    return this.cluster.until(`the end of the episode in ${namespace}`, async () => {
      const all = await this.remediations(namespace);
      return all.length > 0 && all.every((remediation) => remediation.status !== undefined && isTerminal(remediation)) && all;
    });
  }

  /** What the API server has let happen to the pods of a namespace. */
  effects(namespace: string): { readonly started: number; readonly deletedByUs: number; readonly deletedByOthers: number } {
    const events = this.cluster.audit(
      ({ objectRef, ...event }) =>
        objectRef?.resource === "pods" &&
        objectRef.namespace === namespace &&
        isSuccess(event) &&
        (event.verb === "create" || event.verb === "delete" || event.verb === "deletecollection"),
    );
    const deletions = events.filter(({ verb, objectRef }) => verb !== "create" || objectRef?.subresource === "eviction");
    // A kubelet takes away the object of a pod that has ended.
    const asked = deletions.filter(({ user }) => !user.username.startsWith("system:node:"));
    const ours = asked.filter(({ user }) => user.username === OPERATOR).length;
    return {
      started: events.filter(({ verb, objectRef }) => verb === "create" && objectRef?.subresource === undefined).length,
      deletedByUs: ours,
      deletedByOthers: asked.length - ours,
    };
  }

  /** Writes of a replica that the API server let through since a time (ms since the epoch). */
  writesSince(replica: Replica, since: number): readonly AuditEvent[] {
    return this.cluster.audit(
      (event) => replica.made(event) && timeOf(event) >= since && !["get", "list", "watch"].includes(event.verb) && isSuccess(event),
    );
  }

  /** Names of the pods that carry the leader's label. */
  async labelled(): Promise<readonly string[]> {
    const path = `/api/v1/namespaces/${OWN}/pods?labelSelector=nightshift.dev%2Fleader%3Dtrue`;
    return ((await this.cluster.request<KubeList<Pod>>("GET", path)).items ?? []).map((pod) => pod.metadata.name);
  }

  /** What goes on by itself: pods become ready, alerts are sent again and again, the Lease is watched. */
  async #turn(): Promise<void> {
    for (let turn = 0; !this.#stopping; turn++) {
      await Promise.all([...this.#namespaces].map((namespace) => this.#makeReady(namespace))).catch(() => undefined);
      // A failure passes, or shows where it matters.
      await this.#noteLease().catch(() => undefined);
      if (turn % 3 === 0) await this.#tell().catch(() => undefined);
      await delay(150);
    }
  }

  async #makeReady(namespace: string): Promise<void> {
    if (this.#held.has(namespace)) return;
    for (const { metadata, status } of await this.pods(namespace)) {
      if (status?.conditions?.some(({ type }) => type === GATE) === true) continue;
      const condition = { type: GATE, status: "True", lastTransitionTime: new Date().toISOString() };
      const body = { status: { conditions: [condition] } };
      const path = `/api/v1/namespaces/${namespace}/pods/${metadata.name}/status`;
      await this.cluster.request("PATCH", path, body, "application/strategic-merge-patch+json").catch(() => undefined);
    }
  }

  async #noteLease(): Promise<void> {
    const lease = await this.lease();
    if (this.leases.at(-1)?.metadata.resourceVersion !== lease.metadata.resourceVersion) this.leases.push(lease);
  }

  async #tell(): Promise<void> {
    const alerts: object[] = [];
    for (const [uid, { namespace, pod, startsAt }] of this.#firing) {
      const isThere = (await this.pods(namespace)).some(({ metadata }) => metadata.uid === uid);
      alerts.push(
        webhookAlert({
          labels: { namespace, pod },
          fingerprint: uid.replaceAll("-", "").slice(0, 16),
          startsAt,
          ...(isThere ? {} : { endsAt: new Date().toISOString() }),
        }),
      );
    }
    if (alerts.length === 0) return;
    const body = webhookBody(alerts);
    const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/json" };
    for (const { url, isRunning } of this.replicas)
      // One that is frozen does not answer, and is not waited for.
      if (isRunning)
        void fetch(`${url}/webhooks/alertmanager`, { method: "POST", headers, body, signal: AbortSignal.timeout(2_000) }).catch(
          () => undefined,
        );
  }
}

/** A pod that serves, and ends at once or `endsAfterSeconds` after it was asked to. */
function podOf(name: string, namespace: string, endsAfterSeconds = 0) {
  const script = `trap 'sleep ${endsAfterSeconds}; exit 0' TERM; while true; do sleep 0.2; done`;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: endsAfterSeconds + 5,
      containers: [
        { name: "main", image: BUSYBOX_IMAGE, command: ["sh", "-c", script], resources: { requests: { cpu: "5m", memory: "16Mi" } } },
      ],
    },
  };
}

async function until(what: string, done: () => Promise<boolean>, detail: () => string): Promise<void> {
  for (const end = Date.now() + 120_000; Date.now() < end; await delay(50)) if (await done().catch(() => false)) return;
  throw new Error(`timed out: ${what}\n${detail()}`);
}

/** When the API server got a request (ms since the epoch). */
export function timeOf(event: Pick<AuditEvent, "requestReceivedTimestamp">): number {
  return Date.parse(event.requestReceivedTimestamp);
}

function isSuccess({ responseStatus }: Pick<AuditEvent, "responseStatus">): boolean {
  const code = responseStatus?.code ?? 0;
  return code >= 200 && code < 300;
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

/** Uid of the pod that a pod was started in the place of. */
export function replaces(pod: Pod): string | undefined {
  return pod.metadata.annotations?.[MARKS.replaces];
}
