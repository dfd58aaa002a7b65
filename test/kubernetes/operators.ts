import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import { timeMs } from "../../src/api/time.ts";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import type { ApiAccess } from "../cluster/api.ts";
import type { AuditEvent, Cluster } from "../cluster/cluster.ts";
import { writeKubeconfig } from "../cluster/kubeconfig.ts";
import { unusedPort } from "../support/ports.ts";
import { policySpec } from "./policy-spec.ts";

export const SHOP = "shop";
export const OWN = "nightshift-system";
const ACCOUNT = `system:serviceaccount:${OWN}:nightshift`;
const TOKEN = "a-token-for-tests-only-1234567890";
const CRDS = "deploy/chart/files/crds";
/** How often alerts are sent again while they fire (ms); Alertmanager does it less often. */
const REPEAT_MS = 500;

/** Operators as processes of their own, started again when they end, as the kubelet does it. */
export class Operators {
  readonly cluster: Cluster;
  /** How each process ended that did so by itself. */
  readonly exits: { readonly name: string; readonly code: number | null }[] = [];
  readonly #dir = mkdtempSync(join(tmpdir(), "nightshift-operators-"));
  readonly #processes = new Map<string, { child: ChildProcess; readonly url: string; stopped: boolean; log: string }>();
  /** Pods that the alert `Ill` fires for, since when. */
  readonly #firing = new Map<string, number>();
  #kubeconfig = "";
  readonly #over = new AbortController();
  readonly #via: ApiAccess | undefined;
  #sending: Promise<void> = Promise.resolve();

  /** @param via the way to the API server that operators take. Default: the cluster's own. */
  constructor(cluster: Cluster, via?: ApiAccess) {
    this.cluster = cluster;
    this.#via = via;
    writeFileSync(join(this.#dir, "token"), `${TOKEN}\n`, { mode: 0o600 });
  }

  /** A workload of pods that kwok plays, and the account that operators have. */
  async prepare(replicas: number, policy: Record<string, unknown>, runbooks: readonly object[] = []): Promise<void> {
    const { cluster } = this;
    await cluster.kubectl(["apply", "--server-side", "-f", CRDS]);
    await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", CRDS]);
    for (const namespace of [SHOP, OWN]) await cluster.kubectl(["create", "namespace", namespace]);
    await cluster.kubectl(["create", "serviceaccount", "nightshift", "-n", OWN]);
    await cluster.kubectl([
      "create",
      "clusterrolebinding",
      "nightshift",
      "--clusterrole=cluster-admin",
      `--serviceaccount=${OWN}:nightshift`,
    ]);
    const token = await cluster.token(OWN, "nightshift");
    this.#kubeconfig = cluster.kubeconfigFor(token, "nightshift").outer;
    if (this.#via !== undefined) writeKubeconfig(this.#kubeconfig, { ...this.#via, token }, "nightshift");
    await cluster.apply([
      ...runbooks.map((spec, i) => ({
        apiVersion: "nightshift.dev/v1alpha1",
        kind: "Runbook",
        metadata: { name: `runbook-${i}`, namespace: SHOP },
        spec,
      })),
      ...workload("web", replicas, policy),
    ]);
    await this.#ready(["web"], replicas);
    this.#sending = this.#send();
  }

  /** Workloads of pods that kwok plays, with a policy each; resolves when their pods are ready. */
  async workloads(names: readonly string[], replicas: number, policy: Record<string, unknown>): Promise<void> {
    await this.cluster.apply(names.flatMap((name) => workload(name, replicas, policy)));
    await this.#ready(names, replicas);
  }

  async #ready(names: readonly string[], replicas: number): Promise<void> {
    await this.cluster.until("pods", async () => {
      const ready = (await this.pods()).filter(isReady);
      return names.every((name) => ready.filter((pod) => pod.metadata.labels?.["app"] === name).length === replicas);
    });
  }

  /** Starts an operator; it is started again when it ends, until `stop` or `kill`. Its clock may be off. */
  async start(name: string, clockShiftMs = 0): Promise<void> {
    const port = unusedPort();
    const entry = { child: this.#spawn(name, port, clockShiftMs), url: `http://127.0.0.1:${port}`, stopped: false, log: "" };
    this.#processes.set(name, entry);
    const follow = (child: ChildProcess): void => {
      child.stderr?.setEncoding("utf8").on("data", (text: string) => (entry.log += text));
      child.once("exit", (code) => {
        if (entry.stopped || this.#over.signal.aborted) return;
        this.exits.push({ name, code });
        setTimeout(() => {
          if (entry.stopped || this.#over.signal.aborted) return;
          entry.child = this.#spawn(name, port, clockShiftMs);
          follow(entry.child);
        }, 1_000);
      });
    };
    follow(entry.child);
    await this.cluster.until(`${name} ready`, async () => (await fetch(`${entry.url}/readyz`)).ok);
  }

  /** Ends an operator for good: in order, or not. */
  async end(name: string, signal: NodeJS.Signals): Promise<void> {
    const entry = this.#processes.get(name);
    if (entry === undefined) return;
    entry.stopped = true;
    this.#processes.delete(name);
    if (entry.child.exitCode !== null || entry.child.signalCode !== null) return;
    const exit = once(entry.child, "exit");
    entry.child.kill(signal);
    await exit;
  }

  /** What the operators have logged. */
  get logs(): string {
    return [...this.#processes].map(([name, { log }]) => `--- ${name}\n${log}`).join("\n");
  }

  /** State directory of an operator. */
  state(name: string): string {
    return join(this.#dir, `state-${name}`);
  }

  pid(name: string): number | undefined {
    return this.#processes.get(name)?.child.pid;
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await this.#sending;
    await Promise.all([...this.#processes.keys()].map((name) => this.end(name, "SIGKILL")));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** The pods that Services select. */
  async pods(): Promise<Pod[]> {
    return (await this.cluster.get<{ items: Pod[] }>("pods", "-n", SHOP, "-l", "app")).items;
  }

  async remediations(): Promise<Remediation[]> {
    return (await this.cluster.get<{ items: Remediation[] }>("remediations", "-n", SHOP)).items;
  }

  /** The episodes about a pod. */
  async about(pod: string): Promise<Remediation[]> {
    return (await this.remediations()).filter((r) => r.spec.signalTarget.name === pod);
  }

  /** The alert fires for a pod until that is gone. */
  fire(pod: string): void {
    this.#firing.set(pod, Date.now());
  }

  /** Waits until the episode about a pod is in a step that only waits. */
  async pausing(pod: string): Promise<void> {
    await this.cluster.until("the episode waits", async () => {
      const [remediation] = await this.about(pod);
      return remediation?.status.attempts[0]?.steps.some(({ type, state }) => type === "wait" && state === "Intended");
    });
  }

  /** The one episode about a pod, when it is over. */
  async ended(pod: string): Promise<Remediation> {
    return this.cluster.until(
      `the end of ${pod}'s episode`,
      async () => {
        const [remediation] = await this.about(pod);
        return remediation?.status !== undefined && isTerminal(remediation) && remediation;
      },
      240_000,
    );
  }

  /** What operators asked for, from the API server's audit log, whatever the answer was. */
  requests(about: (event: AuditEvent) => boolean = () => true): AuditEvent[] {
    return this.cluster.audit((event) => event.user.username === ACCOUNT && about(event));
  }

  /** What operators wrote. */
  writes(about: (event: AuditEvent) => boolean = () => true): AuditEvent[] {
    return this.requests(
      (event) =>
        ["create", "update", "patch", "delete"].includes(event.verb) &&
        event.objectRef?.resource !== "leases" &&
        (event.responseStatus?.code ?? 500) < 300 &&
        about(event),
    );
  }

  /** How often operators have deleted a pod, with success. */
  deletions(pod: string): number {
    const isDeletion = ({ verb, objectRef }: AuditEvent): boolean => verb === "delete" || objectRef?.subresource === "eviction";
    return this.writes((event) => event.objectRef?.resource === "pods" && event.objectRef.name === pod && isDeletion(event)).length;
  }

  /** Most writes that operators sent within one second. */
  busiest(): number {
    const times = this.writes().map((event) => timeMs(event.requestReceivedTimestamp));
    return Math.max(0, ...times.map((from) => times.filter((time) => time >= from && time < from + 1_000).length));
  }

  #spawn(name: string, port: number, clockShiftMs: number): ChildProcess {
    const argv = ["src/cli/main.ts", "operator", "--kubeconfig", this.#kubeconfig, "-n", OWN, "--listen", `127.0.0.1:${port}`];
    const preload = clockShiftMs === 0 ? [] : ["--import", resolve("test/support/shifted-clock.ts")];
    return spawn(process.execPath, [...preload, ...argv, "--token-file", join(this.#dir, "token"), "--state", this.state(name), "--json"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, NIGHTSHIFT_CLOCK_SHIFT_MS: String(clockShiftMs), POD_NAME: undefined },
    });
  }

  /** Sends what fires to every operator, again and again, and that it is resolved once the pod is gone. */
  async #send(): Promise<void> {
    while (!this.#over.signal.aborted) {
      const known = await this.pods().then(
        (pods) => new Set(pods.map(({ metadata }) => metadata.name)),
        () => undefined,
      );
      const alerts = [...this.#firing].map(([pod, startsAt]) => {
        const isGone = known !== undefined && !known.has(pod);
        return {
          status: isGone ? "resolved" : "firing",
          labels: { alertname: "Ill", namespace: SHOP, pod },
          annotations: {},
          startsAt: new Date(startsAt).toISOString(),
          ...(isGone ? { endsAt: new Date().toISOString() } : {}),
          fingerprint: pod,
        };
      });
      for (const { url } of this.#processes.values())
        await fetch(`${url}/webhooks/alertmanager`, {
          method: "POST",
          headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
          body: JSON.stringify({ version: "4", groupKey: "g", status: "firing", receiver: "nightshift", alerts }),
          signal: AbortSignal.timeout(2_000),
        }).catch(() => undefined);
      await delay(REPEAT_MS);
    }
  }
}

/** A Deployment of pods that kwok plays, its Service, and a policy that `policy` is for. */
function workload(name: string, replicas: number, policy: Record<string, unknown>): object[] {
  const labels = { app: name };
  const metadata = { name, namespace: SHOP };
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { ...metadata, labels },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            nodeSelector: { type: "kwok" },
            tolerations: [{ operator: "Exists" }],
            terminationGracePeriodSeconds: 1,
            containers: [{ name: "main", image: "x", resources: { requests: { cpu: "1m" } } }],
          },
        },
      },
    },
    { apiVersion: "v1", kind: "Service", metadata, spec: { selector: labels, ports: [{ port: 80 }] } },
    {
      apiVersion: "nightshift.dev/v1alpha1",
      kind: "RemediationPolicy",
      metadata,
      spec: policySpec(name, { attempts: { max: 100, window: "1h" }, ...policy }),
    },
  ];
}

export function isReady({ status, metadata }: Pod): boolean {
  return metadata.deletionTimestamp === undefined && (status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false);
}

/** How an episode ended, for a failed assertion to show. */
export function story({ status }: Remediation): string {
  const steps = status.attempts.flatMap((a) => [...a.steps, ...a.undo].map((s) => `  ${s.name} ${s.state}: ${s.message ?? ""}`));
  return [`${status.phase} ${status.outcome ?? ""} ${status.reason ?? ""}: ${status.message ?? ""}`, ...steps].join("\n");
}
