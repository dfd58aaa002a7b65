import { resolve } from "node:path";
import { pino } from "pino";
import type { z } from "zod";
import { messageOf } from "../../src/api/errors.ts";
import { API_VERSION, type TargetRef } from "../../src/api/meta.ts";
import { policySpecSchema } from "../../src/api/policy.ts";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import { runbookSchema } from "../../src/api/runbook.ts";
import type { Alert } from "../../src/api/signal.ts";
import { Loop } from "../../src/loop/loop.ts";
import { TelemetryStore } from "../../src/observe/store.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { systemRandom } from "../../src/platform/host/random.ts";
import { kubeconfigAccess } from "../../src/platform/kubernetes/access.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import { KubernetesPlatform } from "../../src/platform/kubernetes/platform.ts";
import type { Replica, Workload } from "../../src/ports/platform.ts";
import { NO_METRICS } from "../../src/record/metrics.ts";
import type { Page } from "../../src/record/paging.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { BUSYBOX_IMAGE } from "../cluster/cluster.ts";
import { FAKE_NODE_ANNOTATION } from "../cluster/components.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { policySpec } from "./policy-spec.ts";

/** The namespace of the workloads in these tests. */
export const SHOP = "shop";
/** Nightshift's own. */
export const OWN = "nightshift-system";
/** The epoch of these tests. */
const EPOCH = 7;
export const CHART = resolve(import.meta.dirname, "../../deploy/chart");

/** What the chart installs, without its pods, and with a Lease that says that this process leads. */
async function installChart(cluster: Cluster): Promise<void> {
  await cluster.kubectl(["create", "namespace", OWN]);
  await cluster.exec(["helm", "install", "nightshift", CHART, "--namespace", OWN]);
  await cluster.kubectl(["scale", "deployment", "nightshift", "--replicas=0", "-n", OWN]);
  await cluster.request(
    "PATCH",
    `/apis/coordination.k8s.io/v1/namespaces/${OWN}/leases/nightshift`,
    { spec: { leaseTransitions: EPOCH, holderIdentity: "the-test" } },
    "application/merge-patch+json",
  );
  // Until the API servers know the policies, nothing is proven by what they let through.
  const account = `system:serviceaccount:${OWN}:nightshift`;
  const [node] = (await cluster.get<{ items: { metadata: { name: string } }[] }>("nodes")).items;
  const name = node?.metadata.name ?? "";
  await cluster.until("the admission policies", async () => {
    const refused = await cluster
      .kubectl(["annotate", "node", name, "example.org/x=y", `--as=${account}`])
      .then(() => false)
      .catch((error: unknown) => /ValidatingAdmissionPolicy/.test(messageOf(error)));
    if (!refused) await cluster.kubectl(["annotate", "node", name, "example.org/x-"]);
    return refused;
  });
}

/** How long an episode may take (ms): the machine may have much else to do. */
const EPISODE_MS = 240_000;

/** For pods on the nodes that kwok plays. */
export const FAKE = { spec: { nodeSelector: { type: "kwok" }, tolerations: [{ key: FAKE_NODE_ANNOTATION, operator: "Exists" }] } };

export type PodTemplate = { readonly container?: object; readonly spec?: object };

/** A web server that is ready at once. */
export function container(name: string, extra: object = {}): object {
  return {
    name,
    image: BUSYBOX_IMAGE,
    command: ["sh", "-c", "mkdir -p /tmp/w && echo ok > /tmp/w/index.html && exec busybox httpd -f -p 8080 -h /tmp/w"],
    readinessProbe: { httpGet: { path: "/index.html", port: 8080 }, periodSeconds: 1 },
    resources: { requests: { cpu: "5m", memory: "16Mi" }, limits: { memory: "64Mi" } },
    ...extra,
  };
}

function template(name: string, { container: extra, spec }: PodTemplate): object {
  return {
    metadata: { labels: { app: name } },
    spec: { terminationGracePeriodSeconds: 1, containers: [container("main", extra)], ...spec },
  };
}

export function deployment(name: string, replicas: number, pods: PodTemplate = {}, metadata: object = {}): object {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: SHOP, labels: { app: name }, ...metadata },
    spec: { replicas, selector: { matchLabels: { app: name } }, template: template(name, pods) },
  };
}

export function statefulSet(name: string, replicas: number): object {
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name, namespace: SHOP, labels: { app: name } },
    spec: {
      replicas,
      serviceName: name,
      podManagementPolicy: "Parallel",
      selector: { matchLabels: { app: name } },
      template: template(name, {}),
    },
  };
}

export function service(name: string): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: SHOP },
    spec: { selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }] },
  };
}

/** The loop over a real cluster, with resources in memory and alerts as the test says. */
export class KubeLoop {
  readonly cluster: Cluster;
  readonly platform: KubernetesPlatform;
  readonly store = new MemoryStore(systemClock, systemRandom);
  readonly telemetry = new TelemetryStore(systemClock);
  readonly pages: Page[] = [];
  readonly errors: string[] = [];
  /** What went on record. */
  readonly records: string[] = [];
  readonly #client: HttpKubeClient;
  readonly #stop = new AbortController();
  readonly #alerts = new Map<string, Alert>();
  readonly #listeners = new Set<(changed: readonly Alert[]) => void>();
  #loop: Loop | undefined;

  private constructor(cluster: Cluster, client: HttpKubeClient) {
    this.cluster = cluster;
    this.#client = client;
    this.platform = new KubernetesPlatform({
      client,
      clock: systemClock,
      random: systemRandom,
      log: pino({ level: process.env["NIGHTSHIFT_TEST_LOG"] ?? "silent" }),
      epoch: () => EPOCH,
    });
  }

  /** Starts it as the account that the chart gives to the operator, under the chart's admission policies. */
  static async start(cluster: Cluster): Promise<KubeLoop> {
    await installChart(cluster);
    const { outer } = cluster.kubeconfigFor(await cluster.token(OWN, "nightshift"), "nightshift");
    const access = await kubeconfigAccess([outer]);
    const loop = new KubeLoop(cluster, new HttpKubeClient({ access, clock: systemClock, version: "test" }));
    await loop.platform.start(loop.#stop.signal);
    await loop.#begin();
    return loop;
  }

  async #begin(): Promise<void> {
    this.#loop = new Loop({
      store: this.store,
      platform: this.platform,
      telemetry: this.telemetry,
      alerts: {
        alerts: () => [...this.#alerts.values()],
        onChange: (listener) => {
          this.#listeners.add(listener);
          return () => void this.#listeners.delete(listener);
        },
      },
      audit: { append: async (records) => void this.records.push(...records.map((record) => `${record.policy ?? ""} ${record.message}`)) },
      receivers: [{ name: "oncall", send: async (page) => void this.pages.push(page) }],
      metrics: NO_METRICS,
      clock: systemClock,
      random: systemRandom,
      onError: (message) => this.errors.push(message),
    });
    await this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop?.stop();
    this.#stop.abort();
    await this.platform.stop();
    await this.#client.close();
  }

  /** A policy on the alert `Ill`, with short times. */
  async policy(name: string, spec: Record<string, unknown>, namespace = SHOP): Promise<void> {
    await this.store.create({
      apiVersion: API_VERSION,
      kind: "RemediationPolicy",
      metadata: { name, namespace },
      spec: policySpecSchema.parse(policySpec(name, spec)),
    });
  }

  async runbook(name: string, steps: readonly object[]): Promise<void> {
    await this.store.create(
      runbookSchema.parse({ apiVersion: API_VERSION, kind: "Runbook", metadata: { name, namespace: SHOP }, spec: { steps } }),
    );
  }

  /** Changes what a policy says. */
  async change(name: string, spec: Partial<z.input<typeof policySpecSchema>>): Promise<void> {
    const policy = await this.store.get("RemediationPolicy", SHOP, name);
    if (policy === undefined) throw new Error(`there is no policy ${name}`);
    await this.store.update({ ...policy, spec: policySpecSchema.parse({ ...policy.spec, ...spec }) });
  }

  /** The alert fires, for a pod, a deployment or a node, until it is resolved. `agoMs`: it was heard of that long ago. */
  fire(labels: Record<string, string>, status: "firing" | "resolved" = "firing", agoMs = 0): void {
    const fingerprint = JSON.stringify(labels);
    const now = Date.now() - agoMs;
    const known = this.#alerts.get(fingerprint);
    const alert: Alert = {
      status,
      alertname: "Ill",
      labels: { alertname: "Ill", ...(labels["node"] === undefined ? { namespace: SHOP } : {}), ...labels },
      annotations: {},
      startsAt: known?.status === "firing" ? known.startsAt : now,
      endsAt: status === "resolved" ? now : undefined,
      fingerprint,
      receivedAt: now,
    };
    this.#alerts.set(fingerprint, alert);
    for (const listener of this.#listeners) listener([alert]);
  }

  /** Fires until the pod is gone. */
  firePod(name: string, labels: Record<string, string> = {}): void {
    this.fire({ pod: name, ...labels });
    const stop = this.platform.onChange(() => {
      if (this.platform.workloads().some((w) => w.replicas.some((r) => r.ref.name === name && r.phase !== "Exited"))) return;
      this.fire({ pod: name, ...labels }, "resolved");
      stop();
    });
  }

  workload(name: string): Workload | undefined {
    return this.platform.workloads().find((w) => w.ref.name === name);
  }

  /** Waits until a workload has all of its replicas ready, and nothing is under way there. */
  whole(name: string, replicas?: number): Promise<Workload> {
    return this.cluster.until(`${name} whole`, async () => {
      const workload = this.workload(name);
      if (workload === undefined || workload.busy !== undefined) return false;
      const live = workload.replicas.filter((r) => r.phase === "Running");
      const isWhole =
        live.length === workload.desired &&
        workload.replicas.length === workload.desired &&
        live.every((r) => r.ready && r.inTraffic) &&
        (replicas === undefined || replicas === workload.desired);
      return isWhole && workload;
    });
  }

  async one(name: string, replicas?: number): Promise<Replica> {
    const [first] = (await this.whole(name, replicas)).replicas;
    if (first === undefined) throw new Error(`${name} has no replica`);
    return first;
  }

  async remediations(policy: string): Promise<readonly Remediation[]> {
    return (await this.store.list("Remediation")).filter((r) => r.spec.policy.name === policy);
  }

  /**
   * Waits until an episode of the policy is as `what` wants it, by default until its newest has ended; the newest of several.
   * Signals of one millisecond make episodes of which none is newer: one that is not wanted must not hide the one that is.
   */
  async episode(policy: string, what?: (remediation: Remediation) => boolean): Promise<Remediation> {
    let newest: Remediation | undefined;
    try {
      return await this.cluster.until(
        `an episode of ${policy}`,
        async () => {
          const all = await this.remediations(policy);
          const byAge = all.toSorted((x, y) => y.spec.startedAt.localeCompare(x.spec.startedAt));
          newest = byAge[0];
          return what === undefined ? newest !== undefined && isTerminal(newest) && newest : byAge.find(what);
        },
        EPISODE_MS,
      );
    } catch (cause) {
      const last = newest === undefined ? "there is none" : story(newest);
      throw new Error(`${messageOf(cause)}\n${last}\n${this.errors.slice(-5).join("\n")}\n${this.records.slice(-10).join("\n")}`, {
        cause,
      });
    }
  }

  async pods(app: string): Promise<Pod[]> {
    return (await this.cluster.get<{ items: Pod[] }>("pods", "-n", SHOP, "-l", `app=${app}`)).items;
  }
}

/** How an episode ended, for a failed assertion to show. */
export function story(remediation: Remediation): string {
  const { phase, outcome, reason, message, attempts, gates } = remediation.status;
  const steps = attempts.flatMap((a) => [...a.steps, ...a.undo].map((s) => `  ${s.name} ${s.state}: ${s.message ?? ""}`));
  const blocks = gates.filter((gate) => gate.verdict === "Block").map((gate) => `  ${gate.gate}: ${gate.message}`);
  return [`${phase} ${outcome ?? ""} ${reason ?? ""}: ${message ?? ""}`, ...steps, ...blocks].join("\n");
}

export function stepsOf(remediation: Remediation): string[] {
  return remediation.status.attempts.flatMap((a) => [...a.steps, ...a.undo].map((s) => `${s.type} ${s.state}`));
}

export type { TargetRef };
