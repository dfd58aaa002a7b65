import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type AuditEvent, Cluster } from "../test/cluster/cluster.ts";
import { NO_STORMS } from "../test/support/no-storms.ts";
import { webhookAlert, webhookBody } from "../test/support/webhook.ts";
import { Measured } from "./kubernetes/child.ts";
import type { SendOrder } from "./kubernetes/sender.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

const ROOT = join(import.meta.dirname, "..");
const TOKEN = "bench-token-0123456789abcdef0123456789abcdef";
const NAMESPACE = "shop";
const OURS = "nightshift-system";
/** Rounds before those that count. */
const WARM_UP = 3;
/** Time in which both must have written (ms). */
const LIMIT_MS = 60_000;
/** After a rollout, before the next sample (ms). */
const REST_MS = 250;
const REPLICAS = 2;
/** Inside the cluster's network, which is the bench's alone. */
const OPERATOR_PORT = 8080;

/** Who writes, as the API server hears it. */
const AGENTS = { nightshift: "nightshift/", peer: "peer-go", bound: "bound" } as const;

function deployment(name: string): unknown {
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

const POLICY = {
  apiVersion: "nightshift.dev/v1alpha1",
  kind: "RemediationPolicy",
  metadata: { name: "bench", namespace: NAMESPACE },
  spec: {
    mode: "Enforce",
    targets: [{ selector: { matchLabels: { bench: "target" } } }],
    signals: [{ name: "ill", alert: { alertname: "Ill" } }],
    ladder: [{ strategy: "RollingRestart" }],
  },
};

/** The API server's audit log, read on from where it was: what the measured wrote. */
class Trail {
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
class Sender {
  readonly #process: Measured;
  #sent = 0;

  constructor(process: Measured) {
    this.#process = process;
  }

  /** Sends it; `at` is when that began (ms since the epoch). @throws when it is not answered with 2xx. */
  async send(order: Omit<SendOrder, "id">): Promise<{ readonly at: number; readonly text: string }> {
    const id = (this.#sent += 1);
    this.#process.tell({ ...order, id });
    const { at, status, text, failed } = await this.#process.hear("sent", (said) => said["id"] === id, LIMIT_MS);
    if (failed !== undefined || Number(status) < 200 || Number(status) > 299)
      throw new Error(`${order.method} ${order.url} was answered with ${String(failed ?? status)} ${String(text)}`);
    return { at: Number(at), text: String(text) };
  }

  /** Sends an alert about a Deployment, and returns when that began. */
  async alert(url: string, deploymentName: string): Promise<number> {
    const body = webhookBody([webhookAlert({ labels: { namespace: NAMESPACE, deployment: deploymentName }, fingerprint: deploymentName })]);
    const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
    return (await this.send({ method: "POST", url: `${url}/webhooks/alertmanager`, headers, body })).at;
  }
}

/** Microseconds matter here, and `Date.parse` cuts them off. */
function timeOf(timestamp: string): number {
  const micros = /\.(\d+)/.exec(timestamp)?.[1] ?? "0";
  return Date.parse(`${timestamp.slice(0, 19)}Z`) + Number(`0.${micros}`) * 1000;
}

const isDone = (event: AuditEvent): boolean => event.stage === "ResponseComplete" && (event.responseStatus?.code ?? 500) < 300;
const isBy = (event: AuditEvent, agent: string): boolean => event.userAgent?.startsWith(agent) === true;
/** A change of a Deployment or of its pods: what is felt. */
const isEffect = ({ objectRef }: AuditEvent): boolean => ["deployments", "pods"].includes(objectRef?.resource ?? "");
/** The same, of this one. */
const isEffectOn = (name: string, event: AuditEvent): boolean => isEffect(event) && `${event.objectRef?.name}-`.startsWith(`${name}-`);
/** The lock, diagnosis and decision: the first that Nightshift writes. */
const isEpisode = ({ verb, objectRef }: AuditEvent): boolean => verb === "create" && objectRef?.resource === "remediations";

/** From each sending to the end of the first write after it (ms). */
function latencies(sent: readonly number[], writes: readonly AuditEvent[]): number[] {
  const times = writes.map((event) => ({ begun: timeOf(event.requestReceivedTimestamp), ended: timeOf(event.stageTimestamp) }));
  return sent.map((at, i) => {
    const next = sent[i + 1] ?? Number.POSITIVE_INFINITY;
    const ends = times.filter(({ begun }) => begun >= at && begun < next).map(({ ended }) => ended);
    if (ends.length === 0) throw new Error(`nothing was written after alert ${i + 1}`);
    return Math.min(...ends) - at;
  });
}

/** Waits until a Deployment's pods have all been replaced, and what that set off has come to rest: it is not to be measured. */
async function rolledOut(cluster: Cluster, name: string): Promise<void> {
  await cluster.until(`${name} is rolled out`, async () => {
    const { metadata, status } = await cluster.request<{
      metadata: { generation: number };
      status: { observedGeneration?: number; replicas?: number; updatedReplicas?: number; availableReplicas?: number };
    }>("GET", `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/${name}`);
    const { replicas, updatedReplicas, availableReplicas } = status;
    return (
      status.observedGeneration === metadata.generation &&
      [replicas, updatedReplicas, availableReplicas].every((count) => count === REPLICAS)
    );
  });
  await delay(REST_MS);
}

/**
 * From an alert's sending to the first write at a real API server.
 * @param bin - where the peer is.
 */
export async function run(short: boolean, bin: string): Promise<BenchResult> {
  const rounds = short ? 20 : 120;
  const dir = mkdtempSync(join(tmpdir(), "nightshift-bench-"));
  // Room for two pods, and one more while they are renewed, of every Deployment: a node takes 110.
  const cluster = await Cluster.start({ fakeNodes: short ? 4 : 8 });
  const trail = new Trail(cluster.apiserver.auditLog);
  const started: Measured[] = [];
  const start = (argv: readonly string[], env: NodeJS.ProcessEnv = {}): Measured => {
    const measured = new Measured(cluster.spawn(argv, { stdio: ["pipe", "pipe", "pipe"], env }));
    started.push(measured);
    return measured;
  };
  try {
    const names = (whose: string): string[] => Array.from({ length: rounds + WARM_UP }, (_, i) => `${whose}-${i}`);
    const mine = names("ours");
    const peers = names("peers");
    const crds = join(ROOT, "deploy/chart/files/crds");
    for (const file of readdirSync(crds)) await cluster.apply(readFileSync(join(crds, file), "utf8"));
    await cluster.kubectl(["wait", "--for=condition=Established", "crd", "--all"]);
    await cluster.apply([NAMESPACE, OURS].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })));
    await cluster.apply([POLICY, NO_STORMS, ...[...mine, ...peers, "bound"].map(deployment)]);
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

    const { ca, token } = cluster.access;
    writeFileSync(join(dir, "ca.crt"), ca);
    writeFileSync(join(dir, "token"), TOKEN);
    const sending = start([process.execPath, join(ROOT, "bench/kubernetes/sender.ts")], { NODE_EXTRA_CA_CERTS: join(dir, "ca.crt") });
    const prometheus = String((await sending.hear("listening"))["url"]);
    const sender = new Sender(sending);
    const peer = start([join(bin, "peer"), "reconcile", "-prometheus", prometheus, "-token", TOKEN, "-namespace", OURS]);
    const operator = `http://127.0.0.1:${OPERATOR_PORT}`;
    start([
      process.execPath,
      join(ROOT, "src/cli/main.ts"),
      "operator",
      `--namespace=${OURS}`,
      `--listen=127.0.0.1:${OPERATOR_PORT}`,
      `--token-file=${join(dir, "token")}`,
      `--state=${join(dir, "state")}`,
      "--log-level=warn",
    ]);
    const peerUrl = String((await peer.hear("listening"))["url"]);
    await cluster.until("Nightshift leads", async () => {
      const { text } = await sender.send({
        method: "GET",
        url: `${operator}/api/v1/status`,
        headers: { authorization: `Bearer ${TOKEN}` },
      });
      // The rest of it is long, and cut off.
      return text.startsWith('{"leading":true');
    });

    const sent: Record<keyof typeof AGENTS, number[]> = { nightshift: [], peer: [], bound: [] };
    for (let round = 0; round < rounds + WARM_UP; round += 1) {
      const ofPeer = peers[round]!;
      const ofNightshift = mine[round]!;
      const patch = await sender.send({
        method: "PATCH",
        url: `https://127.0.0.1:6443/apis/apps/v1/namespaces/${NAMESPACE}/deployments/bound`,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/merge-patch+json", "user-agent": AGENTS.bound },
        body: JSON.stringify({ metadata: { annotations: { bench: String(round) } } }),
      });
      const toPeer = await sender.alert(peerUrl, ofPeer);
      await trail.until(`the peer's effect on ${ofPeer}`, (event) => isBy(event, AGENTS.peer) && isEffectOn(ofPeer, event));
      await rolledOut(cluster, ofPeer);
      const toNightshift = await sender.alert(operator, ofNightshift);
      await trail.until(
        `Nightshift's effect on ${ofNightshift}`,
        (event) => isBy(event, AGENTS.nightshift) && isEffectOn(ofNightshift, event),
      );
      if (round < WARM_UP) continue;
      sent.bound.push(patch.at);
      sent.peer.push(toPeer);
      sent.nightshift.push(toNightshift);
    }

    const by = (agent: keyof typeof AGENTS): AuditEvent[] => trail.writes.filter((event) => isBy(event, AGENTS[agent]));
    const bound = latencies(sent.bound, by("bound"));
    const theirs = latencies(sent.peer, by("peer").filter(isEffect));
    const first = latencies(sent.nightshift, by("nightshift").filter(isEpisode));
    const effect = latencies(sent.nightshift, by("nightshift").filter(isEffect));
    const rows = (q: number): BenchRow[] => {
      const of = (label: string, values: readonly number[], beside?: readonly number[]): BenchRow => ({
        label: `${label}, p${q * 100}`,
        value: quantile(values, q),
        unit: "ms",
        ...(beside === undefined ? {} : { ratio: quantile(values, q) / quantile(beside, q) }),
      });
      const ours: BenchRow = { ...of("Nightshift, first write", first, theirs), beside: "the peer's" };
      return [
        of("a bare PATCH", bound),
        of("Go peer, first write and effect", theirs, bound),
        // Noise on a shared machine is for people to judge; a short run has too few samples to say anything of a p99.
        { ...ours, ...(short ? {} : { goal: q === 0.5 ? { of: "ratio", atMost: 1 } : { of: "value", atMost: 50 } }) },
        { ...of("Nightshift, first effect", effect, theirs), beside: "the peer's" },
      ];
    };
    return {
      name: "signal to the first write at the API server",
      method:
        `${rounds} alerts each, in turn, each on another Deployment of 2 pods (played by kwok) in one cluster with etcd, API server and controllers on this machine; ` +
        `from the sending of Alertmanager's webhook to the answer of the write, by the API server's audit log. A budget keeps the storm brake from holding so many that are ill. Nightshift's first write is the Remediation, the first effect what it then does to the pods. ` +
        `Peer: controller-runtime with leader election and a cache; it looks up the policy, asks Prometheus (a server that answers at once), and patches the Deployment: no record, no lock, no gate. ` +
        `Bound: one PATCH of a Deployment's annotation, sent in turn with them.`,
      rows: [...rows(0.5), ...rows(0.99)],
    };
  } finally {
    await Promise.all(started.map((process) => process.stop()));
    trail.close();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
