import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import type { CaptureRecord, Remediation } from "../../src/api/remediation.ts";
import { nightshiftImage, nodeImage } from "../../scripts/images.ts";
import { buildImage } from "../../scripts/oci.ts";
import { call } from "../cluster/api.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { remediationObject } from "../support/objects.ts";

const root = resolve(import.meta.dirname, "../..");
const API = "/apis/nightshift.dev/v1alpha1/namespaces/default/remediations";
const APP_IMAGE = "nightshift.dev/agent-app:1";

interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number }[];
  };
}

/** A pod whose program leaks, under a real memory limit. */
function app(name: string, container: object = {}, spec: object = {}): object {
  const main = {
    name: "app",
    image: APP_IMAGE,
    args: ["--disable-warning=ExperimentalWarning", "/app/app.ts"],
    env: [{ name: "LEAK_OBJECTS", value: "100000" }],
    resources: { requests: { cpu: "10m", memory: "64Mi" }, limits: { memory: "256Mi" } },
    securityContext: { allowPrivilegeEscalation: false, runAsNonRoot: true, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
    ...container,
  };
  return { apiVersion: "v1", kind: "Pod", metadata: { name }, spec: { terminationGracePeriodSeconds: 1, containers: [main], ...spec } };
}

describe("the agent, as the chart installs it", { skip: lacking({ nodes: true, tools: ["kube", "helm"] }) }, () => {
  let cluster: Cluster;
  /** Stands for the node's own directories. */
  const dir = mkdtempSync(join(tmpdir(), "nightshift-agent-"));

  before(async () => {
    execFileSync("npm", ["run", "build"], { cwd: root });
    const program = nodeImage(APP_IMAGE, [{ to: "/app/app.ts", from: join(root, "agent/fixtures/app.ts") }]);
    const images = [await buildImage(nightshiftImage()), await buildImage(program)];
    cluster = await Cluster.start({ node: true, tools: ["helm"], images });
    const values = ["agent.enabled=true", `agent.statePath=${join(dir, "state")}`, `agent.artifactsPath=${join(dir, "artifacts")}`];
    const helm = ["helm", "install", "nightshift", join(root, "deploy/chart"), "-n", "nightshift", "--create-namespace"];
    await cluster.exec([...helm, ...values.flatMap((value) => ["--set", value])]);
    // The test stands for the operator: no other is to judge its episodes.
    await cluster.kubectl(["scale", "-n", "nightshift", "deployment/nightshift", "--replicas=0"]);
    await cluster.apply([
      app("leaky"),
      app("sleepy", { args: ["-e", "setInterval(() => {}, 1000)"], resources: { requests: { cpu: "10m" }, limits: { memory: "80Mi" } } }),
    ]);
    await cluster.until("the agent alone", async () => {
      const all = await pods("nightshift");
      return all.length === 1 && isReady(all[0]);
    });
    await cluster.until("the pods", async () => (await pods("default")).filter(isReady).length === 2);
    // Ready is not yet leaked: the program says when.
    await cluster.until("what leaks", async () => (await cluster.kubectl(["logs", "leaky"])).includes("ready"));
  });
  after(async () => {
    await cluster?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  const pods = async (namespace: string): Promise<Pod[]> => (await cluster.get<{ items: Pod[] }>("pods", "-n", namespace)).items;
  const isReady = (pod: Pod | undefined): boolean =>
    pod?.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;

  /** Writes an episode whose capture step waits for its answer, as the operator does. */
  async function ask(name: string, podName: string, params: object): Promise<string> {
    const { metadata } = await cluster.get<Pod>("pod", podName);
    const target = { kind: "Pod", namespace: "default", name: podName, uid: metadata.uid };
    const { status, ...object } = remediationObject(name);
    const created = await cluster.request<Remediation>("POST", API, { ...object, spec: { ...object.spec, remediationTarget: target } });
    const effectId = `default/${name}/0/1`;
    const at = new Date().toISOString();
    const step = {
      name: "capture",
      type: "capture",
      params: { type: "HeapSnapshot", required: true, raiseLimit: true, ...params },
      timeoutMs: 120_000,
      state: "Intended",
      effectId,
      intendedAt: at,
    };
    const deadline = new Date(Date.now() + 600_000).toISOString();
    await cluster.request("PUT", `${API}/${name}/status`, {
      ...created,
      status: {
        ...status,
        revision: 1,
        epoch: 1,
        phase: "Executing",
        attempts: [{ rung: 0, what: "RestartPod", startedAt: at, deadline, steps: [step], undo: [] }],
      },
    });
    return effectId;
  }

  const answer = (name: string): Promise<CaptureRecord> =>
    cluster.until(`the answer in ${name}`, async () => {
      const { status } = await cluster.request<Remediation>("GET", `${API}/${name}`);
      return status.captures?.find(({ state }) => state !== "Running");
    });

  it("makes a heap snapshot of a pod's process under its memory limit, which opens and has what leaked", async () => {
    const effectId = await ask("episode-1", "leaky", {});
    const done = await answer("episode-1");
    assert.equal(done.state, "Done", done.message);
    assert.equal(done.effectId, effectId);
    const { artifact } = done;
    assert.ok(artifact);
    assert.equal(artifact.node, (await pods("nightshift"))[0]?.spec.nodeName);
    const data = readFileSync(artifact.path);
    assert.equal(data.length, artifact.bytes);
    assert.equal(createHash("sha256").update(data).digest("hex"), artifact.sha256);
    const snapshot = JSON.parse(data.toString("utf8")) as {
      snapshot: { meta: { node_fields: string[]; edge_fields: string[] }; node_count: number };
      nodes: number[];
      edges: number[];
      strings: string[];
    };
    assert.equal(snapshot.nodes.length, snapshot.snapshot.node_count * snapshot.snapshot.meta.node_fields.length);
    assert.ok(snapshot.snapshot.node_count > 100_000);
    const { edge_fields: fields } = snapshot.snapshot.meta;
    const leaked = snapshot.strings.indexOf("leaked");
    const properties = snapshot.edges.filter((value, i) => i % fields.length === fields.indexOf("name_or_index") && value === leaked);
    assert.ok(properties.length >= 100_000, `${properties.length} objects with the property that leaked ones have`);
    const [leaky] = (await pods("default")).filter(({ metadata }) => metadata.name === "leaky");
    assert.equal(leaky?.status.containerStatuses?.[0]?.restartCount, 0);
    const logs = await cluster.kubectl(["logs", "-n", "nightshift", "daemonset/nightshift-agent"]);
    assert.match(logs, /raised a memory limit/);
  });

  it("makes a CPU profile of a pod of another user in its own namespaces, by the container's name", async () => {
    await ask("episode-2", "leaky", { type: "CpuProfile", container: "app" });
    const done = await answer("episode-2");
    assert.equal(done.state, "Done", done.message);
    const profile = JSON.parse(readFileSync(done.artifact?.path ?? "", "utf8")) as { nodes: unknown[]; samples: unknown[] };
    assert.ok(profile.nodes.length > 0 && profile.samples.length > 0);
  });

  it("says why where it cannot", async () => {
    await ask("episode-3", "sleepy", { raiseLimit: false });
    assert.match((await answer("episode-3")).message ?? "", /CAPTURE_NO_HEADROOM/);
    await ask("episode-4", "sleepy", { container: "none" });
    assert.match((await answer("episode-4")).message ?? "", /no running container none.*It has: app/);
  });

  it("is killed, starts again, and neither repeats nor forgets what it has answered", async () => {
    const earlier = await cluster.request<Remediation>("GET", `${API}/episode-1`);
    const [old] = await pods("nightshift");
    await cluster.kubectl(["delete", "pod", "-n", "nightshift", old?.metadata.name ?? "", "--grace-period=0", "--force"]);
    await ask("episode-5", "leaky", { type: "CpuProfile" });
    const done = await answer("episode-5");
    assert.equal(done.state, "Done", done.message);
    const now = await cluster.request<Remediation>("GET", `${API}/episode-1`);
    assert.equal(now.metadata.resourceVersion, earlier.metadata.resourceVersion);
  });

  it("may do no more than it needs", async () => {
    const can = async (verb: string, resource: string): Promise<string> => {
      const as = "system:serviceaccount:nightshift:nightshift-agent";
      return (await cluster.kubectl(["auth", "can-i", verb, resource, "--as", as, "-A"]).catch(() => "no")).trim();
    };
    for (const [verb, resource] of [
      ["get", "secrets"],
      ["list", "pods"],
      ["create", "pods/exec"],
      ["patch", "pods"],
      ["update", "remediations"],
      ["delete", "remediations"],
    ] as const)
      assert.equal(await can(verb, resource), "no", `${verb} ${resource}`);
    // Of an episode it may write its own node's answers, and nothing else.
    const pod = (await pods("nightshift"))[0]?.metadata;
    const bound = { kind: "Pod", apiVersion: "v1", name: pod?.name, uid: pod?.uid };
    const { status } = await cluster.request<{ status: { token: string } }>(
      "POST",
      "/api/v1/namespaces/nightshift/serviceaccounts/nightshift-agent/token",
      { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { audiences: [], boundObjectRef: bound } },
    );
    const patch = (body: object): Promise<unknown> =>
      call({ ...cluster.access, token: status.token }, "PATCH", `${API}/episode-1/status`, body, "application/merge-patch+json");
    await assert.rejects(patch({ status: { phase: "Succeeded" } }), /an agent writes status.captures, nothing else/);
    const answer0 = (await cluster.request<Remediation>("GET", `${API}/episode-1`)).status.captures[0];
    await assert.rejects(patch({ status: { captures: [{ ...answer0, node: "another" }] } }), /answers for its own node/);
    const states = await cluster.kubectl(["get", "rem", "episode-1", "-o", "jsonpath={.status.captures[*].state}"]);
    assert.equal(states, "Done");
  });
});
