import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { statsOf, type LoadStats } from "../../src/cli/demo/load.ts";
import type { LoadSample } from "../../examples/shop/load.ts";
import type { Remediation } from "../../src/api/remediation.ts";
import { nightshiftImage, shopImage } from "../../scripts/images.ts";
import { buildImage } from "../../scripts/oci.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";

const root = resolve(import.meta.dirname, "../..");
const RATE = 100;
/** A request is lost when it is not answered, not when the machine is slow: everyone waits for this many times as long. */
const PATIENCE = "5";
const ARTIFACTS = "/var/lib/nightshift/artifacts";

interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly deletionTimestamp?: string };
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly restartCount: number;
      readonly lastState?: { readonly terminated?: { readonly reason?: string; readonly exitCode: number; readonly finishedAt?: string } };
    }[];
  };
}

/** By the kernel, or by V8, which takes its own limit from the container's: whichever notices first. It aborts, and some builds crash then. */
function isOutOfMemory(terminated: { readonly reason?: string; readonly exitCode: number } | undefined): boolean {
  return terminated?.reason === "OOMKilled" || terminated?.exitCode === 134 || terminated?.exitCode === 139;
}

/** Customers: steady traffic to the storefront's Service, from a process in the cluster's network. */
class Customers {
  readonly samples: LoadSample[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  constructor(cluster: Cluster, url: string) {
    this.#child = cluster.spawn([process.execPath, join(root, "examples/shop/load.ts"), url, String(RATE), "--json"], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { SHOP_PATIENCE: PATIENCE },
    });
    this.#ended = new Promise((done) => this.#child.once("exit", done));
    const { stdout } = this.#child;
    assert.ok(stdout);
    createInterface({ input: stdout }).on("line", (line) => this.samples.push(...(JSON.parse(line) as LoadSample[])));
  }

  /** Requests that were lost from `from` on: when, after how long, and the status. */
  lost(from: number): string {
    return this.samples
      .filter(([endedAt, , status]) => endedAt >= from && (status === 0 || status >= 500))
      .map(([endedAt, ms, status]) => `${new Date(endedAt).toISOString()} ${status} after ${ms.toFixed(0)} ms`)
      .join(", ");
  }

  stats(from: number, to: number): LoadStats {
    return statsOf(this.samples, from, to);
  }

  async leave(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }
}

const line = (what: string, stats: readonly LoadStats[]): string =>
  `  ${what.padEnd(20)} ${stats
    .map(
      ({ requests, errors, p99Ms }) =>
        `${String(requests).padStart(6)} requests ${String(errors).padStart(4)} failed  p99 ${p99Ms?.toFixed(0).padStart(5) ?? "    -"} ms`,
    )
    .join("  |")}`;

describe("the story: payments leaks on a real kubelet", { skip: lacking({ nodes: true, tools: ["helm"] }) }, () => {
  let cluster: Cluster;
  let plain: readonly LoadStats[] = [];
  /** Whoever shops just now, also where a test has failed. */
  let present: Customers | undefined;

  before(async () => {
    const images = [await buildImage(shopImage()), await buildImage(nightshiftImage())];
    cluster = await Cluster.start({ node: true, images, tools: ["helm"] });
  });
  after(async () => {
    await present?.leave();
    await cluster?.stop();
  });

  const pods = async (app: string): Promise<Pod[]> =>
    (await cluster.request<{ items: Pod[] }>("GET", `/api/v1/namespaces/shop/pods?labelSelector=app%3D${app}`)).items;
  const isReady = (pod: Pod): boolean => pod.status.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
  const addressOf = async (namespace: string, service: string): Promise<string> =>
    (await cluster.get<{ spec: { clusterIP: string } }>("service", "-n", namespace, service)).spec.clusterIP;

  /** The shop, its telemetry sent to `endpoint`; resolves when all of it is ready. */
  const openShop = async (endpoint: string, token: string): Promise<Customers> => {
    await cluster.apply([
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
      { apiVersion: "v1", kind: "Secret", metadata: { name: "nightshift-token", namespace: "shop" }, stringData: { token } },
    ]);
    const manifest = readFileSync(join(root, "examples/kubernetes/shop.yaml"), "utf8");
    // Larger receipts, so that the tests need not last as long.
    const leaky = manifest.replace(
      "- { name: SHOP_FAULT, value: leak }",
      '- { name: SHOP_FAULT, value: leak }\n            - { name: SHOP_RECEIPT_KB, value: "96" }',
    );
    assert.notEqual(leaky, manifest);
    const patient = leaky.replaceAll(
      "- { name: HOST, value: 0.0.0.0 }",
      `- { name: HOST, value: 0.0.0.0 }\n            - { name: SHOP_PATIENCE, value: "${PATIENCE}" }`,
    );
    assert.equal(patient.split("SHOP_PATIENCE").length, 4);
    await cluster.apply(patient.replaceAll("http://nightshift.nightshift-system.svc:8080", endpoint));
    await cluster.until("the shop", async () => {
      const counts = await Promise.all(["storefront", "payments", "bank"].map(async (app) => (await pods(app)).filter(isReady).length));
      return counts.join() === "1,3,1";
    });
    await present?.leave();
    return (present = new Customers(cluster, `http://${await addressOf("shop", "storefront")}/checkout`));
  };
  const closeShop = async (customers: Customers): Promise<void> => {
    await customers.leave();
    await cluster.kubectl(["delete", "namespace", "shop", "--wait=true", "--timeout=120s"]);
  };

  it("without Nightshift its memory limit kills it", { timeout: 600_000 }, async (t) => {
    const began = Date.now();
    const customers = await openShop("http://127.0.0.1:9", "nobody-listens-there");
    const killed = await cluster.until(
      "its end",
      async () => {
        const statuses = (await pods("payments")).flatMap((pod) => pod.status.containerStatuses ?? []);
        return statuses.map((status) => status.lastState?.terminated).find(isOutOfMemory);
      },
      300_000,
    );
    await delay(10_000);
    const at = Date.parse(killed?.finishedAt ?? "");
    plain = [customers.stats(began, at - 3_000), customers.stats(at - 3_000, at + 5_000), customers.stats(at + 5_000, Date.now())];
    t.diagnostic(`it was ended by ${killed?.reason === "OOMKilled" ? "the kernel" : `V8, exit code ${killed?.exitCode}`}`);
    await closeShop(customers);
  });

  it("with Nightshift it is healed before, its heap saved, and no request is lost", { timeout: 1_200_000 }, async (t) => {
    await cluster.exec(
      ["helm", "install", "nightshift", join(root, "deploy/chart"), "-n", "nightshift-system", "--create-namespace", "--wait"].concat([
        "--timeout",
        "180s",
        "--set",
        "agent.enabled=true",
        "--set",
        `agent.artifactsPath=${ARTIFACTS}`,
      ]),
    );
    const secret = await cluster.get<{ data: { token: string } }>("secret", "-n", "nightshift-system", "nightshift-token");
    const token = Buffer.from(secret.data.token, "base64").toString("utf8");
    const customers = await openShop(`http://${await addressOf("nightshift-system", "nightshift")}:8080`, token);
    const initial = (await pods("payments")).map((pod) => pod.metadata.uid);
    await cluster.apply(readFileSync(join(root, "examples/kubernetes/policies.yaml"), "utf8"));
    const began = Date.now();
    const episodes = async (): Promise<Remediation[]> =>
      (await cluster.request<{ items: Remediation[] }>("GET", "/apis/nightshift.dev/v1alpha1/namespaces/shop/remediations")).items;
    const [first] = await cluster.until(
      "the leak to be found",
      async () => {
        const found = await episodes();
        return found.length > 0 && found;
      },
      600_000,
    );
    const foundAt = Date.now();
    await cluster.kubectl(["wait", "-n", "shop", "--for=condition=Ready", "--timeout=60s", "rp/payments-leak"]);
    t.diagnostic((await cluster.kubectl(["get", "remediationpolicies", "-n", "shop"])).trimEnd());
    await cluster.kubectl(["wait", "-n", "shop", "--for=condition=Complete", "--timeout=240s", `rem/${first?.metadata.name}`]);
    const healedAt = Date.now();
    await delay(10_000);
    const healed = [customers.stats(began, foundAt), customers.stats(foundAt, healedAt), customers.stats(healedAt, Date.now())];
    const [episode, ...others] = await episodes();
    const now = (await pods("payments")).filter((pod) => pod.metadata.deletionTimestamp === undefined);
    t.diagnostic(`                     before the fault shows${" ".repeat(24)}| while it is dealt with${" ".repeat(25)}| after`);
    t.diagnostic(line("without Nightshift", plain));
    t.diagnostic(line("with Nightshift", healed));
    await closeShop(customers);

    assert.deepEqual(others, [], "one fault, one episode");
    assert.ok(episode !== undefined);
    assert.deepEqual([episode.status.phase, episode.status.outcome], ["Succeeded", "Remediated"], JSON.stringify(episode.status, null, 1));
    const target = episode.spec.remediationTarget.uid ?? "";
    assert.ok(initial.includes(target), "the target is one of the first three");
    assert.equal(now.length, 3);
    assert.ok(now.every((pod) => isReady(pod) && pod.metadata.uid !== target));
    assert.ok(
      initial.filter((uid) => uid !== target).every((uid) => now.some((pod) => pod.metadata.uid === uid)),
      "the others stay",
    );
    assert.ok(now.every((pod) => pod.status.containerStatuses?.every((status) => status.restartCount === 0)));
    // Not its whole time: the pod itself said that it was asked nothing any more.
    const waited = episode.status.attempts[0]?.steps.find(({ type }) => type === "awaitInFlight");
    t.diagnostic(`in flight: ${waited?.message ?? ""}`);
    assert.match(waited?.message ?? "", /^no request is in flight: http.server.active_requests was 0 at /);
    const [artifact] = episode.status.artifacts;
    assert.equal(artifact?.type, "HeapSnapshot");
    const bytes = readFileSync(artifact?.path ?? "");
    assert.equal(bytes.length, artifact?.bytes);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), artifact?.sha256);
    const snapshot = JSON.parse(bytes.toString("utf8")) as { snapshot: { node_count: number }; strings: string[] };
    assert.ok(snapshot.snapshot.node_count > 10_000);
    assert.ok(snapshot.strings.includes("idempotencyKey"), "what leaked is in it");
    assert.equal(
      healed.reduce((sum, { errors }) => sum + errors, 0),
      0,
      `no request was lost: ${customers.lost(began)}; ${JSON.stringify(episode.status.attempts[0]?.steps.map((s) => [s.name, s.intendedAt, s.endedAt]))}`,
    );
  });
});
