// What benches of an operator on a real Kubernetes have in common.
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { AuditEvent, Cluster } from "../../test/cluster/cluster.ts";
import { webhookAlert, webhookBody } from "../../test/support/webhook.ts";
import { Measured } from "./child.ts";
import type { SendOrder } from "./sender.ts";

const ROOT = join(import.meta.dirname, "../..");
export const TOKEN = "bench-token-0123456789abcdef0123456789abcdef";
/** Where the Deployments are. */
export const NAMESPACE = "shop";
/** Where the operator is. */
export const OURS = "nightshift-system";
/** Time in which what was asked for must have been written (ms). */
export const LIMIT_MS = 60_000;
export const REPLICAS = 2;
/** Inside the cluster's network, which is the bench's alone. */
const OPERATOR_PORT = 8080;
export const OPERATOR = `http://127.0.0.1:${OPERATOR_PORT}`;

/** Who writes, as the API server hears it. */
export const AGENTS = { nightshift: "nightshift/", peer: "peer-go", bound: "bound" } as const;

/** A Deployment that the policy is about. */
export function deployment(name: string): unknown {
  const labels = { app: name, bench: "target" };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: NAMESPACE, labels },
    spec: {
      replicas: REPLICAS,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels },
        spec: { terminationGracePeriodSeconds: 0, containers: [{ name: "app", image: "none" }] },
      },
    },
  };
}

/** Alerts and hints restart what they name. */
export const POLICY = {
  apiVersion: "nightshift.dev/v1alpha1",
  kind: "RemediationPolicy",
  metadata: { name: "bench", namespace: NAMESPACE },
  spec: {
    mode: "Enforce",
    targets: [{ selector: { matchLabels: { bench: "target" } } }],
    signals: [
      { name: "ill", alert: { alertname: "Ill" } },
      { name: "asked", hint: { action: "restart" } },
    ],
    ladder: [{ strategy: "RollingRestart" }],
  },
};

/** The API server's audit log, read on from where it was: what the measured wrote. */
export class Trail {
  readonly #fd: number;
  readonly #chunk = Buffer.alloc(2 ** 20);
  #position = 0;
  #rest = "";
  readonly writes: AuditEvent[] = [];

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  read(): void {
    for (;;) {
      const bytes = readSync(this.#fd, this.#chunk, 0, this.#chunk.length, this.#position);
      if (bytes === 0) return;
      this.#position += bytes;
      const lines = (this.#rest + this.#chunk.toString("latin1", 0, bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) {
        const event = JSON.parse(line) as AuditEvent;
        const isWrite = !["get", "list", "watch"].includes(event.verb);
        if (isWrite && isDone(event) && Object.values(AGENTS).some((agent) => isBy(event, agent))) this.writes.push(event);
      }
    }
  }

  /** Waits for a write. */
  async until(what: string, matches: (event: AuditEvent) => boolean): Promise<void> {
    for (const end = Date.now() + LIMIT_MS; Date.now() < end; await delay(20)) {
      this.read();
      if (this.writes.some(matches)) return;
    }
    throw new Error(`${what}: not within ${LIMIT_MS} ms`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Requests sent from inside the cluster's network. */
export class Sender {
  readonly #process: Measured;
  #sent = 0;

  constructor(process: Measured) {
    this.#process = process;
  }

  /** Sends it; `at` is when that began (ms since the epoch), `took` how long many at once took (ms). @throws when one is not answered with 2xx. */
  async send(order: Omit<SendOrder, "id">): Promise<{ readonly at: number; readonly took: number; readonly text: string }> {
    const id = (this.#sent += 1);
    this.#process.tell({ ...order, id });
    const { at, took, status, text, failed } = await this.#process.hear("sent", (said) => said["id"] === id, LIMIT_MS);
    if (failed !== undefined || Number(status) < 200 || Number(status) > 299)
      throw new Error(`${order.method} ${order.url} was answered with ${String(failed ?? status)} ${String(text)}`);
    return { at: Number(at), took: Number(took), text: String(text) };
  }

  /** Sends an alert about a Deployment, and returns when that began. */
  async alert(url: string, deploymentName: string): Promise<number> {
    const body = webhookBody([webhookAlert({ labels: { namespace: NAMESPACE, deployment: deploymentName }, fingerprint: deploymentName })]);
    const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
    return (await this.send({ method: "POST", url: `${url}/webhooks/alertmanager`, headers, body })).at;
  }
}

/** Microseconds matter here, and `Date.parse` cuts them off. */
export function timeOf(timestamp: string): number {
  const micros = /\.(\d+)/.exec(timestamp)?.[1] ?? "0";
  return Date.parse(`${timestamp.slice(0, 19)}Z`) + Number(`0.${micros}`) * 1000;
}

const isDone = (event: AuditEvent): boolean => event.stage === "ResponseComplete" && (event.responseStatus?.code ?? 500) < 300;
export const isBy = (event: AuditEvent, agent: string): boolean => event.userAgent?.startsWith(agent) === true;
/** A change of a Deployment or of its pods: what is felt. */
export const isEffect = ({ objectRef }: AuditEvent): boolean => ["deployments", "pods"].includes(objectRef?.resource ?? "");
/** The same, of this one. */
export const isEffectOn = (name: string, event: AuditEvent): boolean =>
  isEffect(event) && `${event.objectRef?.name}-`.startsWith(`${name}-`);
/** The lock, diagnosis and decision: the first that Nightshift writes. */
export const isEpisode = ({ verb, objectRef }: AuditEvent): boolean => verb === "create" && objectRef?.resource === "remediations";

/** Makes what an operator needs of a cluster: its kinds, and namespaces. */
export async function prepare(cluster: Cluster): Promise<void> {
  const crds = join(ROOT, "deploy/chart/files/crds");
  for (const file of readdirSync(crds)) await cluster.apply(readFileSync(join(crds, file), "utf8"));
  await cluster.kubectl(["wait", "--for=condition=Established", "crd", "--all"]);
  await cluster.apply([NAMESPACE, OURS].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })));
}

/** Waits until every Deployment has all of its pods. */
export async function allAvailable(cluster: Cluster): Promise<void> {
  await cluster.until(
    "every Deployment is available",
    async () => {
      const { items } = await cluster.request<{ items: { status?: { availableReplicas?: number } }[] }>(
        "GET",
        `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`,
      );
      return items.every((item) => item.status?.availableReplicas === REPLICAS);
    },
    600_000,
  );
}

/** Processes inside the cluster's network. */
export class Inside {
  readonly #cluster: Cluster;
  readonly #dir: string;
  readonly #started: Measured[] = [];

  /** @param dir - for what they need of files. */
  constructor(cluster: Cluster, dir: string) {
    this.#cluster = cluster;
    this.#dir = dir;
    writeFileSync(join(dir, "ca.crt"), cluster.access.ca);
    writeFileSync(join(dir, "token"), TOKEN);
  }

  start(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Measured {
    const measured = new Measured(this.#cluster.spawn(argv, { stdio: ["pipe", "pipe", "pipe"], env }));
    this.#started.push(measured);
    return measured;
  }

  /** Starts what sends requests, and answers as Prometheus does. */
  async sender(): Promise<{ readonly sender: Sender; readonly prometheus: string }> {
    const sending = this.start([process.execPath, join(ROOT, "bench/kubernetes/sender.ts")], {
      NODE_EXTRA_CA_CERTS: join(this.#dir, "ca.crt"),
    });
    return { prometheus: String((await sending.hear("listening"))["url"]), sender: new Sender(sending) };
  }

  /** Starts an operator that listens at `OPERATOR`. */
  operator(): Measured {
    return this.start([
      process.execPath,
      join(ROOT, "src/cli/main.ts"),
      "operator",
      `--namespace=${OURS}`,
      `--listen=127.0.0.1:${OPERATOR_PORT}`,
      `--token-file=${join(this.#dir, "token")}`,
      `--state=${join(this.#dir, "state")}`,
      "--log-level=warn",
    ]);
  }

  async untilLeading(sender: Sender): Promise<void> {
    await this.#cluster.until("Nightshift leads", async () => {
      const { text } = await sender.send({
        method: "GET",
        url: `${OPERATOR}/api/v1/status`,
        headers: { authorization: `Bearer ${TOKEN}` },
      });
      // The rest of it is long, and cut off.
      return text.startsWith('{"leading":true');
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#started.map((each) => each.stop()));
  }
}
