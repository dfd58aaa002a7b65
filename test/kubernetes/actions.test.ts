// An application that heals in place, on a real kubelet: its pool hangs, it asks by a hint over OTLP, and the operator that the chart
// installed asks it, at its pod's address, for the action that it serves. And where it serves none, or trusts another key, it is left
// alone.
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { ACTIONS_PATH } from "../../hints/protocol.ts";
import { API_VERSION } from "../../src/api/meta.ts";
import { isTerminal, type Remediation } from "../../src/api/remediation.ts";
import { newActionKey } from "../../src/platform/actions.ts";
import { MARKS } from "../../src/platform/kubernetes/marks.ts";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import { NODE_PATH, nightshiftImage, shopImage } from "../../scripts/images.ts";
import type { Image } from "../../scripts/oci.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { isReady } from "./operators.ts";
import { CHART, deployment, OWN, SHOP, stepsOf, story } from "./support.ts";

const root = resolve(import.meta.dirname, "../..");
const IMAGE = "nightshift.dev/pooled-app:1";
const PORT = 9870;
/** How long an episode may take (ms): the machine may have much else to do. */
const EPISODE_MS = 240_000;

/** The application, with the npm packages that the shop has, and the package of hints as it is published. */
function pooledApp(): Image {
  const { layers, config } = shopImage();
  const hints = "/app/node_modules/@nightshift/hints";
  return {
    name: IMAGE,
    layers: [
      ...layers,
      [
        { to: `${hints}/package.json`, from: join(root, "hints/package.json") },
        { to: `${hints}/dist`, from: join(root, "hints/dist") },
        { to: "/app/pooled-app.mjs", from: join(root, "test/kubernetes/pooled-app.mjs") },
      ],
    ],
    config,
  };
}

const publicKeyOf = (privateKey: string): string =>
  createPublicKey(createPrivateKey(privateKey)).export({ type: "spki", format: "pem" }).toString();

/** A Deployment of the application as docs/hints.md says it, and its policy. */
function pooled(name: string, publicKey: string, { annotated = true, fallback = [] as readonly object[] } = {}): object[] {
  const env = {
    NIGHTSHIFT_ACTIONS_PORT: String(PORT),
    NIGHTSHIFT_ACTIONS_KEY: publicKey,
    OTEL_RESOURCE_ATTRIBUTES: `service.name=${name},k8s.pod.uid=$(NIGHTSHIFT_REPLICA_UID)`,
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://nightshift.${OWN}:4318`,
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20$(TOKEN)",
  };
  const container = {
    image: IMAGE,
    command: [NODE_PATH, "/app/pooled-app.mjs"],
    readinessProbe: { httpGet: { path: "/ready", port: 8080 }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1 },
    resources: { requests: { cpu: "5m", memory: "64Mi" } },
    env: [
      { name: "NIGHTSHIFT_REPLICA_UID", valueFrom: { fieldRef: { fieldPath: "metadata.uid" } } },
      { name: "TOKEN", valueFrom: { secretKeyRef: { name: "nightshift-token", key: "token" } } },
      ...Object.entries(env).map(([key, value]) => ({ name: key, value })),
    ],
  };
  const workload = deployment(name, 1, { container }) as { spec: { template: { metadata: object } } };
  const { template } = workload.spec;
  if (annotated) template.metadata = { ...template.metadata, annotations: { [MARKS.actionsPort]: String(PORT) } };
  return [
    workload,
    {
      apiVersion: API_VERSION,
      kind: "RemediationPolicy",
      metadata: { name, namespace: SHOP },
      spec: {
        mode: "Enforce",
        targets: [{ name }],
        signals: [{ name: "pool", hint: { action: "pool-reset" } }],
        ladder: [{ strategy: "ResetConnectionPool" }, ...fallback],
        verify: { stableFor: "3s", timeout: "1m" },
        cooldown: "1s",
        budgets: [{ maxUnavailable: 1 }],
      },
    },
  ];
}

describe("hints and actions on a real kubelet", { skip: lacking({ nodes: true, tools: ["helm"] }) }, () => {
  const key = newActionKey();
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ node: true, images: [nightshiftImage(), pooledApp()], tools: ["helm"] });
    for (const namespace of [OWN, SHOP]) await cluster.kubectl(["create", "namespace", namespace]);
    await cluster.apply([
      { apiVersion: "v1", kind: "Secret", metadata: { name: "nightshift-actions", namespace: OWN }, stringData: { "actions.key": key } },
    ]);
    await cluster.exec(
      ["helm", "install", "nightshift", CHART, "-n", OWN, "--wait", "--timeout", "180s"].concat([
        "--set",
        `actions.existingSecret=nightshift-actions,networkPolicy.egress[0].ports[0].port=${PORT}`,
      ]),
      { timeoutMs: 200_000 },
    );
    const { data } = await cluster.get<{ data: object }>("secret", "-n", OWN, "nightshift-token");
    await cluster.apply([{ apiVersion: "v1", kind: "Secret", metadata: { name: "nightshift-token", namespace: SHOP }, data }]);
  });
  after(() => cluster?.stop());

  const podsOf = async (app: string): Promise<Pod[]> => (await cluster.get<{ items: Pod[] }>("pods", "-n", SHOP, "-l", `app=${app}`)).items;
  /** The one pod of a workload, when it is ready; with `other`, one that is not this. */
  const readyPod = (app: string, other?: string): Promise<Pod> =>
    cluster.until(`the pod of ${app}`, async () => {
      const pods = await podsOf(app);
      const [pod] = pods;
      return pods.length === 1 && pod !== undefined && isReady(pod) && pod.metadata.uid !== other && pod;
    });
  const request = async (pod: Pod, port: number, path: string, method = "GET"): Promise<string> => {
    const script = `fetch(process.argv[1], { method: process.argv[2] }).then(async (r) => console.log(r.status, await r.text()))`;
    const url = `http://${pod.status?.podIP ?? ""}:${port}${path}`;
    return (await cluster.exec([process.execPath, "-e", script, url, method])).stdout.trim();
  };
  /** Its containers: which, and how often each was started again. */
  const containersOf = ({ status }: Pod): unknown[] =>
    (status?.containerStatuses ?? []).map((each) => ["containerID" in each && each.containerID, each.restartCount]);
  const conditionOf = (pod: Pod): unknown => pod.status?.conditions?.find(({ type }) => type === "Ready");

  /** A workload with a policy that is looked at, whose pool hangs; and how its only episode ended. */
  const hang = async (name: string, manifests: readonly object[]): Promise<{ pod: Pod; episode: Remediation }> => {
    await cluster.apply(manifests);
    const pod = await readyPod(name);
    await cluster.until(`a look at the policy ${name}`, async () => {
      const { status } = await cluster.get<{ status?: object }>("remediationpolicy", "-n", SHOP, name);
      return status;
    });
    assert.equal(await request(pod, 8080, "/hang", "POST"), "200 hung");
    let episodes: readonly Remediation[] = [];
    try {
      await cluster.until(
        `the end of the episode of ${name}`,
        async () => {
          const { items } = await cluster.request<{ items: Remediation[] }>("GET", `/apis/${API_VERSION}/namespaces/${SHOP}/remediations`);
          episodes = items.filter(({ spec }) => spec.policy.name === name);
          return episodes.length > 0 && episodes.every(isTerminal);
        },
        EPISODE_MS,
      );
    } catch (cause) {
      const log = await cluster.kubectl(["logs", "-n", OWN, "deployment/nightshift", "--tail=20"]);
      throw new Error(`${name}: ${episodes.map(story).join("\n")}\n${log}`, { cause });
    }
    const [episode, ...others] = episodes;
    assert.ok(episode !== undefined && others.length === 0, episodes.map(story).join("\n"));
    assert.deepEqual(
      [episode.spec.signal.condition, episode.spec.signalTarget.uid],
      ["hint", pod.metadata.uid],
      "the pod itself has asked for it",
    );
    return { pod, episode };
  };

  it("a pool that hangs is reset inside the pod, and nothing restarts", async (t) => {
    const { pod, episode } = await hang("heals", pooled("heals", publicKeyOf(key)));
    assert.deepEqual([episode.status.phase, episode.status.outcome], ["Succeeded", "Remediated"], story(episode));
    assert.deepEqual(stepsOf(episode), ["invoke Done"], story(episode));
    const message = episode.status.attempts[0]?.steps[0]?.message ?? "";
    assert.match(message, /^pool-reset: replaced 1 pool: [1-9]\d* requests? sent again, 0 cut/);
    t.diagnostic(message);
    const healed = await readyPod("heals");
    assert.equal(healed.metadata.uid, pod.metadata.uid);
    assert.deepEqual(containersOf(healed), containersOf(pod));
    assert.deepEqual(
      healed.status?.containerStatuses?.map(({ restartCount }) => restartCount),
      [0],
    );
    assert.notDeepEqual(conditionOf(healed), conditionOf(pod), "it was not ready in between");
    assert.equal(healed.metadata.annotations?.[MARKS.invokedBy], episode.status.attempts[0]?.steps[0]?.effectId);
    assert.equal(await request(healed, 8080, "/resets"), "200 1");
    // Nobody else in the cluster can ask for it.
    assert.match(await request(healed, PORT, `${ACTIONS_PATH}pool-reset`, "POST"), /^401\b/);
    assert.equal(await request(healed, 8080, "/resets"), "200 1");
  });

  it("a pod without the annotation is not asked, and the ladder goes on", async () => {
    const { pod, episode } = await hang(
      "silent",
      pooled("silent", publicKeyOf(key), { annotated: false, fallback: [{ strategy: "RestartPod" }] }),
    );
    assert.deepEqual([episode.status.phase, episode.status.outcome], ["Succeeded", "Remediated"], story(episode));
    assert.deepEqual(
      episode.status.attempts.map(({ what }) => what),
      ["ResetConnectionPool", "RestartPod"],
      story(episode),
    );
    const [first] = episode.status.attempts;
    assert.deepEqual(
      first?.steps.map(({ type, state }) => [type, state]),
      [["invoke", "Failed"]],
    );
    assert.match(first?.steps[0]?.message ?? "", /serves no actions/);
    assert.equal(await request(await readyPod("silent", pod.metadata.uid), 8080, "/resets"), "200 0");
  });

  it("a pod with the public key of another Nightshift refuses, does nothing, and a person is asked", async () => {
    const { pod, episode } = await hang("foreign", pooled("foreign", publicKeyOf(newActionKey())));
    assert.equal(episode.status.phase, "Escalated", story(episode));
    assert.deepEqual(stepsOf(episode), ["invoke Failed"], story(episode));
    assert.match(episode.status.attempts[0]?.steps[0]?.message ?? "", /does not take the signature/);
    assert.deepEqual(
      (await podsOf("foreign")).map(({ metadata }) => metadata.uid),
      [pod.metadata.uid],
    );
    assert.equal(await request(pod, 8080, "/resets"), "200 0");
  });

  it("an operator asks while it leads, and not when the lease has gone to another", async () => {
    await cluster.apply(pooled("led", publicKeyOf(key)).slice(0, 1));
    const pod = await readyPod("led");
    const keyFile = join(cluster.dir, "actions.key");
    writeFileSync(keyFile, key, { mode: 0o600 });
    const { inner } = cluster.kubeconfigFor(await cluster.token(OWN, "nightshift"), "nightshift");
    const lease = async (): Promise<{ readonly leaseTransitions: number; readonly holderIdentity?: string }> =>
      (await cluster.get<{ spec: { leaseTransitions: number; holderIdentity?: string } }>("lease", "-n", OWN, "nightshift")).spec;
    const { leaseTransitions: epoch } = await lease();
    const { namespace = "", name, uid } = pod.metadata;
    const ask = async (id: string): Promise<string> => {
      const script = join(root, "test/kubernetes/ask-pod.ts");
      return (await cluster.exec([process.execPath, script, inner, keyFile, String(epoch), id, namespace, name, uid])).stdout;
    };
    assert.match(await ask("while-it-leads"), /^pool-reset: replaced 1 pool/);
    assert.equal(await request(pod, 8080, "/resets"), "200 1");
    await cluster.kubectl(["delete", "pod", "-n", OWN, "-l", "app.kubernetes.io/component=operator"]);
    await cluster.until("another leader", async () => {
      const { leaseTransitions, holderIdentity = "" } = await lease();
      return leaseTransitions !== epoch && holderIdentity !== "";
    });
    // It goes on trying, as an operator that does lead would have to; the pod itself is never reached.
    assert.match(await ask("afterwards"), /EFFECT_TIMEOUT/);
    const refusals = cluster.audit(
      ({ verb, objectRef, responseStatus }) =>
        verb === "patch" && objectRef?.resource === "pods" && objectRef.name === name && responseStatus?.code === 403,
    );
    assert.ok(refusals.length > 0, "the admission policy holds it back");
    assert.equal(await request(pod, 8080, "/resets"), "200 1");
    const asked = await readyPod("led");
    assert.deepEqual([asked.metadata.uid, asked.metadata.annotations?.[MARKS.invokedBy]], [uid, "while-it-leads"]);
  });
});
