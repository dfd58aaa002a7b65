import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { API_VERSION } from "../../src/api/meta.ts";
import { ApiError, call } from "../cluster/api.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { remediation } from "../support/remediation.ts";

const run = promisify(execFile);
const chart = resolve(import.meta.dirname, "../../deploy/chart");
const MAIN = resolve(import.meta.dirname, "../../src/cli/main.ts");

const MARK = "nightshift.dev/do-not-remediate";
const EPOCH = { "nightshift.dev/epoch": "7", "nightshift.dev/effect": "e1" };
/** Two policies refuse a write that carries none; either may be the first to be heard. */
const WITHOUT_EPOCH = "epoch|fence";
const MERGE = "application/merge-patch+json";

interface Stored {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly labels?: Record<string, string>;
  };
  readonly spec: Record<string, unknown>;
}

const container = { name: "c", image: "nightshift.dev/none:1", resources: { requests: { memory: "10Mi" }, limits: { memory: "20Mi" } } };
const pod = (name: string, labels: object = {}, annotations: object = {}, more: object = {}): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels, annotations, ...more },
  spec: { containers: [container] },
});
const template = (spec: object = {}): object => ({ metadata: { labels: { app: "w" } }, spec: { containers: [container], ...spec } });
const workload = (kind: string, name: string, spec: object): object => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name },
  spec: { selector: { matchLabels: { app: "w" } }, ...spec },
});
const job = (name: string, annotations: object, spec: object = { automountServiceAccountToken: false }): object => ({
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name, annotations },
  spec: { suspend: true, template: { spec: { restartPolicy: "Never", containers: [container], ...spec } } },
});

describe("the chart on a real cluster", { skip: lacking({ nodes: false, tools: ["helm"] }) }, () => {
  let cluster: Cluster;
  /** Everything that there is, before the chart. */
  let first: ReadonlySet<string>;

  const helm = (...argv: readonly string[]): Promise<{ stdout: string; stderr: string }> =>
    cluster.exec(["helm", ...argv, "--namespace", "nightshift"]);
  const user = (name: string, extra: Readonly<Record<string, string>> = {}) => {
    const headers = { "Impersonate-User": name, ...extra };
    return <T = Stored>(method: string, path: string, body?: unknown, type?: string): Promise<T> =>
      call<T>({ ...cluster.access, headers }, method, path, body, type);
  };
  const account = (name: string): string => `system:serviceaccount:nightshift:${name}`;
  const operator = <T = Stored>(method: string, path: string, body?: unknown, type = MERGE): Promise<T> =>
    user(account("nightshift"))<T>(method, path, body, method === "PATCH" ? type : undefined);
  const admin = <T = Stored>(method: string, path: string, body?: unknown, type = MERGE): Promise<T> =>
    cluster.request<T>(method, path, body, method === "PATCH" ? type : undefined);
  const pods = (namespace: string, name = ""): string => `/api/v1/namespaces/${namespace}/pods${name === "" ? "" : `/${name}`}`;
  const apps = (plural: string, name = ""): string => `/apis/apps/v1/namespaces/team/${plural}${name === "" ? "" : `/${name}`}`;
  const annotate = (annotations: object, more: object = {}): object => ({
    metadata: { annotations: { ...EPOCH, ...annotations }, ...more },
  });

  const can = async (who: string, ...what: readonly string[]): Promise<boolean> =>
    (await cluster.exec(["sh", "-c", `kubectl auth can-i ${what.join(" ")} --as=${who} || true`])).stdout.trim() === "yes";

  /** That the API server refuses, by which policy or policies (`rbac` for RBAC) and with which words. */
  async function refused(doing: Promise<unknown>, by: string, message = /./): Promise<void> {
    await assert.rejects(doing, (error) => {
      assert.ok(error instanceof ApiError, String(error));
      assert.equal(error.status, 403, error.message);
      const { message: said } = JSON.parse(error.body) as { message: string };
      if (by === "rbac") assert.doesNotMatch(said, /ValidatingAdmissionPolicy/);
      else assert.match(said, new RegExp(`ValidatingAdmissionPolicy 'nightshift-(${by})'`));
      assert.match(said, message);
      return true;
    });
  }

  /** All objects that there are, but those that come and go by themselves. */
  async function everything(): Promise<Set<string>> {
    const kinds = (await cluster.kubectl(["api-resources", "--verbs=list", "-o", "name"])).trim().split("\n");
    const listed = kinds.filter((kind) => !/^(events|componentstatuses|controllerrevisions|leases|endpoints)(\.|$)/.test(kind));
    const objects = await cluster.kubectl(["get", listed.join(","), "-A", "-o", "name", "--ignore-not-found", "--show-kind"]);
    const leases = await cluster.kubectl(["get", "leases", "-n", "nightshift", "-o", "name"]);
    return new Set([...objects.trim().split("\n"), ...leases.trim().split("\n")]);
  }

  const setLease = (spec: object): Promise<Stored> =>
    admin("PATCH", "/apis/coordination.k8s.io/v1/namespaces/nightshift/leases/nightshift", { spec });

  before(async () => {
    cluster = await Cluster.start({ tools: ["helm"] });
    // The agent is privileged on its node, and nothing else is. Warnings of what is not restricted would be the agent's.
    await cluster.kubectl(["create", "namespace", "nightshift"]);
    first = await everything();
    await helm(
      "install",
      "nightshift",
      chart,
      "--set",
      "agent.enabled=true,replicas=3,admission.protectedNamespaces={kube-system,kube-public,nightshift}",
      "--set",
      "auth.scrapers[0].namespace=team,auth.scrapers[0].name=default",
    );
    for (const [name, marks] of Object.entries({
      team: {},
      off: { labels: { [MARK]: "" } },
      offnote: { annotations: { [MARK]: "true" } },
      on: { labels: { [MARK]: "false" } },
    }))
      await admin("POST", "/api/v1/namespaces", { metadata: { name, ...marks } });
    for (const namespace of ["team", "off", "offnote", "on", "kube-system", "kube-public", "nightshift"])
      await cluster.until(`accounts in ${namespace}`, () => admin("GET", `/api/v1/namespaces/${namespace}/serviceaccounts/default`));
    await setLease({ leaseTransitions: 7, holderIdentity: "somebody" });
    await admin("POST", pods("team"), pod("probe", { app: "probe" }));
    // Policies and their parameters reach the API server's admission a moment after they are stored.
    const isRefused = (patch: object): Promise<boolean> =>
      operator("PATCH", `${pods("team", "probe")}?dryRun=All`, patch).then(
        () => false,
        () => true,
      );
    await cluster.until("the guard", () => isRefused(annotate({ foreign: "x" })));
    await cluster.until("the fence", () => isRefused({ metadata: { annotations: { "nightshift.dev/epoch": "6" } } }));
    await cluster.until("the Lease as it is", async () => !(await isRefused(annotate({}))));
  });
  after(() => cluster?.stop());

  test("says nothing against its own policies", async () => {
    interface Policy {
      readonly metadata: { readonly name: string };
      readonly status?: { readonly typeChecking?: { readonly expressionWarnings?: readonly { readonly warning: string }[] } };
    }
    const policies = await cluster.until("type checking", async () => {
      const { items } = await cluster.get<{ items: readonly Policy[] }>("validatingadmissionpolicies");
      return items.every(({ status }) => status?.typeChecking !== undefined) ? items : undefined;
    });
    assert.equal(policies.length, 9);
    for (const { metadata, status } of policies) assert.deepEqual(status?.typeChecking?.expressionWarnings ?? [], [], metadata.name);
  });

  test("its pods are let in where pods must be restricted", async () => {
    await cluster.kubectl(["create", "namespace", "strict"]);
    await cluster.kubectl(["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    await cluster.exec(["helm", "install", "strict", chart, "-n", "strict", "--set", "crds.install=false"]);
    await cluster.until("a pod", async () => (await cluster.get<{ items: unknown[] }>("pods", "-n", "strict")).items.length === 1);
    await cluster.exec(["helm", "uninstall", "strict", "-n", "strict", "--wait"]);
    await cluster.kubectl(["delete", "namespace", "strict"]);
  });

  describe("RBAC", () => {
    test("gives the operator what it needs, and no secrets, no shells, no other's Lease", async () => {
      const it = account("nightshift");
      for (const good of [
        "patch pods -A",
        "create pods --subresource=eviction -A",
        "patch nodes",
        "list endpointslices.discovery.k8s.io -A",
        "create remediations -A",
        "update leases/nightshift -n nightshift",
      ])
        assert.ok(await can(it, good), good);
      const never = [
        "get secrets -A",
        "create pods -A",
        "create pods --subresource=exec -A",
        "update pods -A",
        "update leases/other -n nightshift",
        "update leases/nightshift -n team",
        "delete leases/nightshift -n nightshift",
      ];
      for (const bad of [
        ...never,
        "delete deployments.apps -A",
        "delete nodes",
        "create remediationapprovals -A",
        "approve remediations -A",
        "delete remediations -A",
        "update remediationpolicies -A",
        "patch validatingadmissionpolicies",
      ])
        assert.ok(!(await can(it, bad)), bad);
    });
    test("gives teams their policies, and approvals apart", async () => {
      for (const role of ["view", "edit", "admin"])
        await cluster.kubectl(["create", "rolebinding", role, `--clusterrole=${role}`, `--user=${role}`, "-n", "team"]);
      await cluster.kubectl(["create", "rolebinding", "approver", "--clusterrole=nightshift-approver", "--user=approver", "-n", "team"]);
      await cluster.kubectl(["create", "clusterrolebinding", "platform", "--clusterrole=nightshift-budgets", "--user=platform"]);
      await cluster.until("aggregation", () => can("view", "list remediations -n team"));
      for (const role of ["view", "edit", "admin"]) {
        for (const kind of ["remediationpolicies", "remediations", "remediationapprovals"])
          assert.ok(await can(role, `get ${kind} -n team`), `${role} ${kind}`);
        for (const kind of ["remediationpolicies", "runbooks", "servicedependencies"])
          assert.equal(await can(role, `create ${kind} -n team`), role !== "view", `${role} ${kind}`);
        for (const bad of [
          "create remediationapprovals -n team",
          "approve remediations -n team",
          "patch remediations -n team",
          "delete remediations -n team",
          "create remediationbudgets",
          "get remediations -n on",
        ])
          assert.ok(!(await can(role, bad)), `${role} ${bad}`);
      }
      assert.ok(await can("approver", "create remediationapprovals -n team"));
      assert.ok(await can("approver", "approve remediations -n team"));
      assert.ok(!(await can("approver", "approve remediations -n on")));
      assert.ok(!(await can("approver", "create remediationapprovals -n on")));
      assert.ok(!(await can("approver", "update remediationapprovals -n team")));
      assert.ok(await can("platform", "create remediationbudgets"));
    });
    test("lets in senders that are named", async () => {
      assert.ok(await can("system:serviceaccount:team:default", "get /metrics"));
      assert.ok(!(await can("system:serviceaccount:team:default", "post /v1/metrics")));
      assert.ok(!(await can("system:serviceaccount:on:default", "get /metrics")));
    });
  });

  describe("of pods the operator may change", () => {
    test("its own annotations and labels, and the deletion cost", async () => {
      await operator(
        "PATCH",
        pods("team", "probe"),
        annotate({ "controller.kubernetes.io/pod-deletion-cost": "-1" }, { labels: { "nightshift.dev/x": "y" } }),
      );
      await operator(
        "PATCH",
        pods("team", "probe"),
        annotate({ "controller.kubernetes.io/pod-deletion-cost": null }, { labels: { "nightshift.dev/x": null } }),
      );
    });
    test("no other annotation or label", async () => {
      await refused(
        operator("PATCH", pods("team", "probe"), annotate({ "example.com/x": "y" })),
        "pods",
        /these annotations: example.com\/x/,
      );
      await refused(operator("PATCH", pods("team", "probe"), annotate({}, { labels: { app: "other" } })), "pods", /these labels so: app/);
      await refused(operator("PATCH", pods("team", "probe"), annotate({}, { labels: { app: null } })), "pods", /these labels so: app/);
      await refused(operator("PATCH", pods("team", "probe"), annotate({}, { labels: { new: "y" } })), "pods", /these labels so: new/);
    });
    test("nothing in its spec, no owner, no finalizer, no status", async () => {
      await refused(
        operator("PATCH", pods("team", "probe"), { ...annotate({}), spec: { activeDeadlineSeconds: 10 } }),
        "pods",
        /nothing in a pod's spec/,
      );
      const owner = { apiVersion: "v1", kind: "Pod", name: "x", uid: "x" };
      await refused(
        operator("PATCH", pods("team", "probe"), annotate({}, { ownerReferences: [owner] })),
        "pods",
        /neither owners nor finalizers/,
      );
      await refused(
        operator("PATCH", pods("team", "probe"), annotate({}, { finalizers: ["a.b/c"] })),
        "pods",
        /neither owners nor finalizers/,
      );
      await refused(operator("PATCH", `${pods("team", "probe")}/status`, annotate({})), "rbac");
      await refused(operator("POST", pods("team"), pod("made", {}, EPOCH)), "rbac");
    });
    test("the resources, by the subresource that is for them", async () => {
      const resize = { spec: { containers: [{ name: "c", resources: { limits: { memory: "40Mi" } } }] } };
      const strategic = "application/strategic-merge-patch+json";
      await operator("PATCH", pods("team", "probe"), annotate({}));
      await operator("PATCH", `${pods("team", "probe")}/resize`, resize, strategic);
      const { spec } = await admin("GET", pods("team", "probe"));
      assert.equal(
        (spec as { containers: { resources: { limits: { memory: string } } }[] }).containers[0]?.resources.limits.memory,
        "40Mi",
      );
      await admin("POST", pods("team"), pod("marked-resize", { [MARK]: "" }, EPOCH));
      await refused(operator("PATCH", `${pods("team", "marked-resize")}/resize`, resize, strategic), "pods", /do-not-remediate/);
    });
    test("the label of its ReplicaSet, with the note that puts it back", async () => {
      await admin("POST", pods("team"), pod("replica", { app: "w", "pod-template-hash": "abc", tier: "web" }));
      const off = (note: string): Promise<Stored> =>
        operator(
          "PATCH",
          pods("team", "replica"),
          annotate({ "nightshift.dev/detached-from": note }, { labels: { "pod-template-hash": null } }),
        );
      await refused(
        operator("PATCH", pods("team", "replica"), annotate({}, { labels: { "pod-template-hash": null } })),
        "pods",
        /pod-template-hash/,
      );
      await refused(off("web-1/other"), "pods", /pod-template-hash/);
      await off("web-1/abc");
      const on = (hash: string): Promise<Stored> =>
        operator(
          "PATCH",
          pods("team", "replica"),
          annotate({ "nightshift.dev/detached-from": null }, { labels: { "pod-template-hash": hash } }),
        );
      await refused(on("other"), "pods", /pod-template-hash/);
      await on("abc");
    });
    test("the labels of its Services, with the note that puts them back", async () => {
      const off = (note: object): Promise<Stored> =>
        operator(
          "PATCH",
          pods("team", "replica"),
          annotate({ "nightshift.dev/removed-labels": JSON.stringify(note) }, { labels: { tier: null } }),
        );
      await refused(off({ app: "w" }), "pods", /tier/);
      await refused(off({ tier: "other" }), "pods", /tier/);
      await off({ tier: "web" });
      const on = (value: string): Promise<Stored> =>
        operator("PATCH", pods("team", "replica"), annotate({ "nightshift.dev/removed-labels": null }, { labels: { tier: value } }));
      await refused(on("other"), "pods", /tier/);
      await on("web");
    });
    test("nothing where people said no", async () => {
      for (const [namespace, name, labels, annotations] of [
        ["team", "by-label", { [MARK]: "" }, {}],
        ["team", "by-annotation", {}, { [MARK]: "true" }],
        ["off", "by-namespace", {}, {}],
        ["offnote", "by-namespace-too", {}, {}],
      ] as const) {
        await admin("POST", pods(namespace), pod(name, labels, { ...annotations, ...EPOCH }));
        await refused(operator("PATCH", pods(namespace, name), annotate({ "nightshift.dev/x": "y" })), "pods", /do-not-remediate/);
        await refused(operator("DELETE", pods(namespace, name)), "pods", /do-not-remediate/);
        await refused(
          operator("PATCH", pods(namespace, name), annotate({ [MARK]: null }, { labels: { [MARK]: null } })),
          "pods",
          /do-not-remediate/,
        );
      }
      await refused(operator("PATCH", pods("team", "probe"), annotate({ [MARK]: "false" })), "pods", /these annotations/);
      await refused(operator("PATCH", pods("team", "probe"), annotate({}, { labels: { [MARK]: "false" } })), "pods", /these labels/);
      // Neither is `false` a no.
      await admin("POST", pods("on"), pod("yes", { [MARK]: "false" }, EPOCH));
      await operator("PATCH", pods("on", "yes"), annotate({ "nightshift.dev/x": "y" }));
      await operator("DELETE", pods("on", "yes"));
    });
    test("what it did before people said no: it is taken back, and nothing else", async () => {
      const notes = { "nightshift.dev/detached-from": "web-1/abc", "nightshift.dev/removed-labels": JSON.stringify({ tier: "web" }) };
      const resized = { "nightshift.dev/resized-from": JSON.stringify({ container: "c", resources: { limits: { memory: "16Mi" } } }) };
      await admin("POST", pods("off"), pod("taken", { keep: "x" }, { ...EPOCH, ...notes, ...resized }));
      const to = (labels: object, annotations: object = {}): Promise<Stored> =>
        operator("PATCH", pods("off", "taken"), annotate(annotations, { labels }));
      await refused(to({ tier: "web", "nightshift.dev/x": "y" }), "pods", /do-not-remediate/);
      await refused(to({ tier: "other" }), "pods");
      await to({ tier: "web" }, { "nightshift.dev/removed-labels": null, "nightshift.dev/restored-by": "e2" });
      await to({ "pod-template-hash": "abc" }, { "nightshift.dev/detached-from": null, "nightshift.dev/reattached-by": "e2" });
      await refused(to({ tier: null }, { "nightshift.dev/removed-labels": JSON.stringify({ tier: "web" }) }), "pods", /do-not-remediate/);
      const resize = (memory: string): Promise<Stored> =>
        operator(
          "PATCH",
          `${pods("off", "taken")}/resize`,
          { spec: { containers: [{ name: "c", resources: { limits: { memory }, requests: { memory: "10Mi" } } }] } },
          "application/strategic-merge-patch+json",
        );
      await to({});
      await refused(resize("512Mi"), "pods", /do-not-remediate/);
      await resize("16Mi");
      await refused(operator("DELETE", pods("off", "taken")), "pods", /do-not-remediate/);
      await admin("POST", pods("off"), pod("replacement", {}, { ...EPOCH, "nightshift.dev/started-by": "e1" }));
      await operator("PATCH", pods("off", "replacement"), annotate({ "controller.kubernetes.io/pod-deletion-cost": "-1" }));
      await refused(operator("DELETE", pods("off", "replacement")), "pods", /do-not-remediate/);
    });
    test("nothing in a namespace that is protected", async () => {
      for (const namespace of ["kube-system", "kube-public"]) {
        await admin("POST", pods(namespace), pod("bystander", {}, EPOCH));
        const message = new RegExp(`nothing in the namespace ${namespace}`);
        await refused(operator("PATCH", pods(namespace, "bystander"), annotate({ "nightshift.dev/x": "y" })), "pods", message);
        await refused(operator("DELETE", pods(namespace, "bystander")), "pods", message);
        await admin("DELETE", pods(namespace, "bystander"));
      }
    });
    test("who leads, of its own", async () => {
      await admin("POST", pods("nightshift"), pod("nightshift-0"));
      const epoch = { "nightshift.dev/epoch": "7" };
      await operator("PATCH", pods("nightshift", "nightshift-0"), {
        metadata: { labels: { "nightshift.dev/leader": "true" }, annotations: epoch },
      });
      await operator("PATCH", pods("nightshift", "nightshift-0"), {
        metadata: { labels: { "nightshift.dev/leader": null }, annotations: epoch },
      });
      await refused(
        operator("PATCH", pods("nightshift", "nightshift-0"), { metadata: { labels: { "nightshift.dev/x": "y" }, annotations: epoch } }),
        "pods",
        /nothing in the namespace nightshift/,
      );
      await refused(operator("DELETE", pods("nightshift", "nightshift-0")), "pods", /nothing in the namespace/);
      await refused(
        operator("PATCH", pods("nightshift", "nightshift-0"), {
          metadata: { labels: { "nightshift.dev/leader": "true" }, annotations: { "nightshift.dev/epoch": "6" } },
        }),
        "fence",
        /another leads now/,
      );
      await admin("DELETE", pods("nightshift", "nightshift-0"));
    });
  });

  describe("pods the operator may delete and evict", () => {
    const evict = (namespace: string, name: string, annotations: object, preconditions?: object): Promise<unknown> =>
      operator("POST", `${pods(namespace, name)}/eviction`, {
        apiVersion: "policy/v1",
        kind: "Eviction",
        metadata: { name, namespace, annotations },
        deleteOptions: { preconditions },
      });
    test("that it has marked under its epoch", async () => {
      await admin("POST", pods("team"), pod("unmarked"));
      await refused(operator("DELETE", pods("team", "unmarked")), WITHOUT_EPOCH, /epoch/);
      await admin("POST", pods("team"), pod("older", {}, { "nightshift.dev/epoch": "6" }));
      await refused(operator("DELETE", pods("team", "older")), "fence", /epoch 6, and the Lease is at 7/);
      await operator("PATCH", pods("team", "older"), annotate({}));
      await operator("DELETE", pods("team", "older"));
    });
    test("in the version that it has marked", async () => {
      const { metadata } = await operator("PATCH", pods("team", "unmarked"), annotate({}));
      await refused(evict("team", "unmarked", EPOCH), "pods", /names the version/);
      await refused(evict("team", "unmarked", {}, { resourceVersion: metadata.resourceVersion }), WITHOUT_EPOCH, /epoch/);
      await refused(
        evict("team", "unmarked", { "nightshift.dev/epoch": "8" }, { resourceVersion: metadata.resourceVersion }),
        "fence",
        /epoch 8/,
      );
      await evict("team", "unmarked", EPOCH, { uid: metadata.uid, resourceVersion: metadata.resourceVersion });
      await cluster.until("the eviction", () =>
        admin("GET", pods("team", "unmarked")).then(
          () => false,
          (error) => (error as ApiError).status === 404,
        ),
      );
    });
    test("but not where people said no", async () => {
      await refused(evict("off", "by-namespace", EPOCH, { resourceVersion: "1" }), "pods", /do-not-remediate/);
      await refused(evict("kube-system", "any", EPOCH, { resourceVersion: "1" }), "pods", /nothing in the namespace kube-system/);
    });
  });

  describe("of workloads the operator may change", () => {
    before(async () => {
      await admin("POST", apps("deployments"), workload("Deployment", "d", { replicas: 0, template: template() }));
      await admin("POST", apps("statefulsets"), workload("StatefulSet", "s", { replicas: 0, serviceName: "s", template: template() }));
      await admin("POST", apps("daemonsets"), workload("DaemonSet", "ds", { template: template({ nodeSelector: { none: "such" } }) }));
      await admin("POST", apps("replicasets"), workload("ReplicaSet", "r", { replicas: 0, template: template() }));
      await admin("POST", apps("controllerrevisions"), {
        apiVersion: "apps/v1",
        kind: "ControllerRevision",
        metadata: { name: "cr" },
        data: { a: 1 },
        revision: 1,
      });
    });
    const restart = (at: string): object => ({ template: { metadata: { annotations: { "kubectl.kubernetes.io/restartedAt": at } } } });
    const image = (name: string, more: object = {}): object => ({
      template: { spec: { containers: [{ ...container, image: name, ...more }] } },
    });
    const patch = (plural: string, name: string, annotations: object, spec: object): Promise<Stored> =>
      operator("PATCH", apps(plural, name), { ...annotate(annotations), spec });

    for (const [plural, name] of [
      ["deployments", "d"],
      ["statefulsets", "s"],
      ["daemonsets", "ds"],
    ] as const) {
      test(`the ${plural}' restart, and nothing with it`, async () => {
        await patch(plural, name, { "nightshift.dev/restarted-by": "e1" }, restart("2026-11-02T03:14:00Z"));
        await patch(plural, name, {}, restart("2026-11-02T03:15:00Z"));
        await refused(
          patch(plural, name, {}, { template: { metadata: { annotations: { "example.com/x": "y" } } } }),
          "workloads",
          /changes a template only/,
        );
        await refused(
          patch(plural, name, {}, { template: { metadata: { labels: { app: "w", more: "x" } } } }),
          "workloads",
          /changes a template only/,
        );
        await refused(patch(plural, name, {}, image("other:1")), "workloads", /changes a template only/);
      });
      test(`the ${plural}' resources, and nothing with them`, async () => {
        const resources = { resources: { requests: { memory: "10Mi" }, limits: { memory: "64Mi" } } };
        await refused(patch(plural, name, {}, image(container.image, resources)), "workloads", /changes a template only/);
        await refused(
          patch(plural, name, { "nightshift.dev/resized-by": "e2" }, image("other:1", resources)),
          "workloads",
          /changes a template only/,
        );
        await patch(plural, name, { "nightshift.dev/resized-by": "e2" }, image(container.image, resources));
        await patch(plural, name, { "nightshift.dev/resized-back-by": "e3" }, image(container.image));
      });
      test(`the ${plural}' template to an earlier one that reaches no further`, async () => {
        await patch(plural, name, { "nightshift.dev/rolled-back-by": "e4" }, image("older:1", { command: ["x"] }));
        const further: readonly object[] = [
          { hostPID: true },
          { hostNetwork: true },
          { serviceAccountName: "strong" },
          { volumes: [{ name: "root", hostPath: { path: "/" } }] },
          { hostIPC: true },
          { containers: [{ ...container, securityContext: { privileged: true } }] },
          { initContainers: [{ ...container, name: "i", securityContext: { capabilities: { add: ["SYS_ADMIN"] } } }] },
        ];
        for (const [i, spec] of further.entries())
          await refused(
            patch(plural, name, { "nightshift.dev/rolled-back-by": `e5-${i}` }, { template: { spec } }),
            "workloads",
            /changes a template only/,
          );
      });
    }
    test("the replicas, with a note of it", async () => {
      for (const [plural, name] of [
        ["deployments", "d"],
        ["statefulsets", "s"],
      ] as const) {
        await refused(patch(plural, name, {}, { replicas: 1 }), "workloads", /only together with nightshift.dev\/scaled-by/);
        await patch(plural, name, { "nightshift.dev/scaled-by": "e6" }, { replicas: 1 });
        await patch(plural, name, { "nightshift.dev/scaled-back-by": "e7" }, { replicas: 0 });
        await refused(operator("PATCH", `${apps(plural, name)}/scale`, { spec: { replicas: 1 } }), "rbac");
      }
      await refused(
        patch("replicasets", "r", { "nightshift.dev/scaled-by": "e6" }, { replicas: 1 }),
        "workloads",
        /only replicas and the template/,
      );
    });
    test("nothing else", async () => {
      await refused(patch("deployments", "d", {}, { paused: true }), "workloads", /not paused/);
      await refused(patch("statefulsets", "s", {}, { minReadySeconds: 9 }), "workloads", /not minReadySeconds/);
      await refused(
        patch("daemonsets", "ds", {}, { updateStrategy: { type: "OnDelete", rollingUpdate: null } }),
        "workloads",
        /not updateStrategy/,
      );
      await refused(operator("PATCH", apps("deployments", "d"), annotate({}, { labels: { app: "x" } })), "workloads", /these labels: app/);
      await refused(
        operator("PATCH", apps("deployments", "d"), annotate({ "deployment.kubernetes.io/revision": "9" })),
        "workloads",
        /these annotations/,
      );
      await refused(operator("DELETE", apps("deployments", "d")), "rbac");
    });
    test("a mark on what was healthy", async () => {
      const mark = annotate({ "nightshift.dev/healthy-since": "2026-11-02T03:14:00Z" });
      await operator("PATCH", apps("replicasets", "r"), mark);
      await operator("PATCH", apps("controllerrevisions", "cr"), mark);
      await refused(operator("PATCH", apps("controllerrevisions", "cr"), { ...mark, revision: 2 }), "workloads", /changes no revision/);
    });
    test("not one that carries a no", async () => {
      await admin("PATCH", apps("deployments", "d"), { metadata: { annotations: { [MARK]: "" } } });
      await refused(patch("deployments", "d", {}, restart("2026-11-02T03:16:00Z")), "workloads", /do-not-remediate/);
      // But what was there before comes back.
      await admin("PATCH", apps("deployments", "d"), { metadata: { annotations: { "nightshift.dev/scaled-from": "2" } } });
      await refused(patch("deployments", "d", { "nightshift.dev/scaled-back-by": "e8" }, { replicas: 3 }), "workloads", /do-not-remediate/);
      await patch("deployments", "d", { "nightshift.dev/scaled-back-by": "e8", "nightshift.dev/scaled-from": null }, { replicas: 2 });
      await admin("PATCH", apps("deployments", "d"), { metadata: { annotations: { "nightshift.dev/resized-from": "{}" } } });
      const resources = { resources: { requests: { memory: "10Mi" }, limits: { memory: "20Mi" } } };
      await patch(
        "deployments",
        "d",
        { "nightshift.dev/resized-back-by": "e9", "nightshift.dev/resized-from": null },
        image("older:1", { command: ["x"], ...resources }),
      );
      await admin("PATCH", apps("deployments", "d"), { metadata: { annotations: { [MARK]: null } } });
      await patch("deployments", "d", {}, restart("2026-11-02T03:16:00Z"));
    });
  });

  describe("of nodes the operator may change", () => {
    const node = "/api/v1/nodes/n1";
    before(() =>
      admin("POST", "/api/v1/nodes", {
        metadata: { name: "n1", labels: { zone: "a" } },
        spec: { taints: [{ key: "gpu", effect: "NoSchedule" }] },
      }),
    );
    test("whether pods are scheduled to it, and its own taint", async () => {
      await operator("PATCH", node, { ...annotate({ "nightshift.dev/cordoned-by": "e1" }), spec: { unschedulable: true } });
      // The cluster itself taints it then: what is sent without that would take it off.
      const { spec } = await cluster.until("the cluster's own taint", async () => {
        const found = await admin("GET", node);
        return JSON.stringify(found.spec).includes("node.kubernetes.io/unschedulable") ? found : undefined;
      });
      await operator("PATCH", node, {
        ...annotate({}),
        spec: { taints: [...(spec["taints"] as object[]), { key: "nightshift.dev/ill", effect: "NoSchedule" }] },
      });
      await operator("PATCH", node, { ...annotate({}), spec: { unschedulable: null } });
    });
    test("nothing else", async () => {
      await refused(operator("PATCH", node, { ...annotate({}), spec: { providerID: "x" } }), "nodes", /nothing in a node's spec/);
      await refused(operator("PATCH", node, { ...annotate({}), spec: { taints: null } }), "nodes", /only its own taints/);
      await refused(operator("PATCH", node, annotate({}, { labels: { zone: "b" } })), "nodes", /these labels: zone/);
      await refused(operator("PATCH", node, annotate({ "example.com/x": "y" })), "nodes", /these annotations/);
      await refused(operator("DELETE", node), "rbac");
    });
    test("not one that carries a no, nor without the epoch", async () => {
      await admin("PATCH", node, { metadata: { annotations: { "nightshift.dev/epoch": null } } });
      await refused(operator("PATCH", node, { spec: { unschedulable: true } }), WITHOUT_EPOCH, /epoch/);
      await admin("PATCH", node, { metadata: { labels: { [MARK]: "" } } });
      await refused(operator("PATCH", node, { ...annotate({}), spec: { unschedulable: true } }), "nodes", /do-not-remediate/);
      // But one that was cordoned before is used again.
      await admin("PATCH", node, { metadata: { annotations: { "nightshift.dev/cordoned-by": "e1" } }, spec: { unschedulable: true } });
      await operator("PATCH", node, {
        ...annotate({ "nightshift.dev/cordoned-by": null, "nightshift.dev/uncordoned": "e1" }),
        spec: { unschedulable: null },
      });
    });
  });

  describe("of autoscalers the operator may change", () => {
    const path = "/apis/autoscaling/v2/namespaces/team/horizontalpodautoscalers";
    before(() =>
      admin("POST", path, {
        metadata: { name: "h" },
        spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "none" }, minReplicas: 1, maxReplicas: 5 },
      }),
    );
    test("the floor, and nothing else", async () => {
      await operator("PATCH", `${path}/h`, { ...annotate({ "nightshift.dev/scaled-by": "e1" }), spec: { minReplicas: 3 } });
      await refused(
        operator("PATCH", `${path}/h`, { ...annotate({}), spec: { maxReplicas: 50 } }),
        "autoscalers",
        /nothing of an autoscaler but minReplicas/,
      );
      await refused(
        operator("PATCH", `${path}/h`, { ...annotate({}), spec: { scaleTargetRef: { name: "other" } } }),
        "autoscalers",
        /but minReplicas/,
      );
      await refused(
        operator("PATCH", `${path}/h`, { spec: { minReplicas: 3 }, metadata: { annotations: { "nightshift.dev/epoch": "6" } } }),
        "fence",
      );
    });
    test("not in a namespace that carries a no", async () => {
      const there = "/apis/autoscaling/v2/namespaces/off/horizontalpodautoscalers";
      await admin("POST", there, {
        metadata: { name: "h" },
        spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "none" }, maxReplicas: 5 },
      });
      await refused(operator("PATCH", `${there}/h`, { ...annotate({}), spec: { minReplicas: 3 } }), "autoscalers", /do-not-remediate/);
      await admin("PATCH", `${there}/h`, { metadata: { annotations: { "nightshift.dev/scaled-from": "2" } }, spec: { minReplicas: 4 } });
      const back = (minReplicas: number): Promise<Stored> =>
        operator("PATCH", `${there}/h`, { ...annotate({ "nightshift.dev/scaled-back-by": "e2" }), spec: { minReplicas } });
      await refused(back(3), "autoscalers", /do-not-remediate/);
      await back(2);
    });
  });

  describe("what the operator states by server-side apply", () => {
    const stated = (kind: "Deployment" | "Node", name: string, spec: object, annotations: object = {}, force = false): Promise<Stored> =>
      operator(
        "PATCH",
        `${kind === "Node" ? `/api/v1/nodes/${name}` : apps("deployments", name)}?fieldManager=nightshift&force=${force}`,
        { apiVersion: kind === "Node" ? "v1" : "apps/v1", kind, metadata: { name, annotations: { ...EPOCH, ...annotations } }, spec },
        "application/apply-patch+yaml",
      );
    before(async () => {
      await admin("POST", apps("deployments"), workload("Deployment", "stated", { replicas: 0, template: template() }));
      await admin("POST", "/api/v1/nodes", { metadata: { name: "n2" } });
    });
    after(() => admin("DELETE", "/api/v1/nodes/n2"));

    test("is held to the same fields as what it patches", async () => {
      await stated("Deployment", "stated", { replicas: 2 }, { "nightshift.dev/scaled-by": "e1" }, true);
      await stated("Deployment", "stated", { replicas: 3 }, { "nightshift.dev/scaled-by": "e2" });
      const by = { "nightshift.dev/scaled-by": "e2" };
      await refused(stated("Deployment", "stated", { replicas: 4 }, by), "workloads", /changes replicas only together with/);
      await refused(stated("Deployment", "stated", { replicas: 3, paused: true }, by), "workloads");
      await refused(stated("Deployment", "stated", { replicas: 3 }, { ...by, "example.com/x": "y" }), "workloads", /these annotations/);
      // What is given up goes with it, here back to one: that is a change, too.
      await refused(stated("Deployment", "stated", {}, by), "workloads", /changes replicas only together with/);
      await stated("Node", "n2", { unschedulable: true });
      await refused(stated("Node", "n2", { unschedulable: true, podCIDR: "10.9.0.0/24" }), "nodes", /nothing in a node's spec/);
    });

    test("may be that a revision was healthy", async () => {
      for (const [kind, path] of [
        ["ReplicaSet", apps("replicasets", "r")],
        ["ControllerRevision", apps("controllerrevisions", "cr")],
      ] as const) {
        const { metadata } = await admin("GET", path);
        const annotations = { "nightshift.dev/epoch": "7", "nightshift.dev/healthy-since": "2026-11-02T03:14:00Z" };
        const { name, uid, resourceVersion } = metadata;
        const body = { apiVersion: "apps/v1", kind, metadata: { name, uid, resourceVersion, annotations } };
        const apply = (): Promise<Stored> =>
          operator("PATCH", `${path}?fieldManager=nightshift&force=true`, body, "application/apply-patch+yaml");
        await apply();
        await assert.rejects(apply(), (error) => error instanceof ApiError && error.status === 409, "it has changed since it was read");
      }
    });

    test("carries the epoch, and cannot give it up", async () => {
      const by = { "nightshift.dev/scaled-by": "e2" };
      await refused(stated("Deployment", "stated", { replicas: 3 }, { ...by, "nightshift.dev/epoch": null }), WITHOUT_EPOCH);
      await refused(stated("Deployment", "stated", { replicas: 3 }, { ...by, "nightshift.dev/epoch": "6" }), "fence", /under epoch 6/);
    });

    test("makes nothing that is not there", async () => {
      await refused(stated("Deployment", "absent", { selector: { matchLabels: { app: "w" } }, template: template() }), "rbac");
      await refused(stated("Node", "absent", {}), "rbac");
    });
  });

  describe("jobs the operator may make", () => {
    const path = "/apis/batch/v1/namespaces/team/jobs";
    test("that have no privileges, and cut off", async () => {
      await operator("POST", path, job("clean", EPOCH));
      await operator("PATCH", `${path}/clean`, annotate({ "nightshift.dev/x": "y" }));
      await refused(operator("PATCH", `${path}/clean`, { ...annotate({}), spec: { suspend: false } }), "jobs", /but when it ends/);
      await operator("PATCH", `${path}/clean`, { ...annotate({}), spec: { activeDeadlineSeconds: 1 } });
      await refused(operator("DELETE", `${path}/clean`), "rbac");
    });
    test("that reach nothing of their node's or namespace's", async () => {
      const quiet = { automountServiceAccountToken: false };
      for (const spec of [
        { ...quiet, hostPID: true },
        { ...quiet, hostNetwork: true },
        { ...quiet, volumes: [{ name: "root", hostPath: { path: "/" } }] },
        { ...quiet, containers: [{ ...container, securityContext: { privileged: true } }] },
        { ...quiet, containers: [{ ...container, securityContext: { capabilities: { add: ["SYS_ADMIN"] } } }] },
      ])
        await refused(operator("POST", path, job("reach", EPOCH, spec)), "jobs", /no privileges/);
      await refused(operator("POST", path, job("token", EPOCH, {})), "jobs", /gets no token/);
    });
    test("but touch none of others, nor where people said no", async () => {
      await refused(operator("POST", path, job("plain", { "nightshift.dev/epoch": "7" })), "jobs", /but those that it made/);
      await admin("POST", path, job("theirs", { "nightshift.dev/epoch": "7" }));
      await refused(operator("PATCH", `${path}/theirs`, { spec: { activeDeadlineSeconds: 1 } }), "jobs", /but those that it made/);
      await refused(operator("POST", path.replace("team", "off"), job("clean", EPOCH)), "jobs", /do-not-remediate/);
      await refused(operator("POST", path, job("older", { ...EPOCH, "nightshift.dev/epoch": "6" })), "fence", /another leads now/);
    });
  });

  describe("an epoch that is over", () => {
    const write = (epoch: string): Promise<Stored> =>
      operator("PATCH", pods("team", "probe"), { metadata: { annotations: { "nightshift.dev/epoch": epoch } } });
    const settled = async (epoch: string): Promise<void> => {
      await cluster.until(`epoch ${epoch} is let in`, () => write(epoch).then(() => true));
    };
    test("writes nothing, from the moment that another leads", async () => {
      await write("7");
      await admin("POST", pods("team"), pod("late", {}, EPOCH));
      await setLease({ leaseTransitions: 8, holderIdentity: "another" });
      await settled("8");
      await refused(write("7"), "fence", /written under epoch 7, and the Lease is at 8/);
      await refused(operator("DELETE", pods("team", "late")), "fence", /epoch 7/);
    });
    test("begins no episode", async () => {
      const path = `/apis/${API_VERSION}/namespaces/team/remediations`;
      const begin = (name: string, annotations: object): Promise<Stored> => {
        const { metadata, ...rest } = remediation(name);
        return operator("POST", path, { ...rest, metadata: { ...metadata, namespace: "team", annotations } });
      };
      await cluster.until("the fence is around episodes", () =>
        begin("older", { "nightshift.dev/epoch": "7" }).then(
          () => admin("DELETE", `${path}/older`).then(() => false),
          () => true,
        ),
      );
      await refused(
        begin("older", { "nightshift.dev/epoch": "7" }),
        "fence",
        /written under epoch 7, and the Lease is at 8: another leads now/,
      );
      await refused(begin("nobodys", {}), WITHOUT_EPOCH, /epoch/);
      await begin("newer", { "nightshift.dev/epoch": "8" });
      await admin("POST", path, { ...remediation("by-people"), metadata: { name: "by-people", namespace: "team" } });
      for (const name of ["newer", "by-people"]) await admin("DELETE", `${path}/${name}`);
    });
    test("nor one that is to come, nor none", async () => {
      await refused(write("9"), "fence", /epoch 9/);
      await refused(write("x"), WITHOUT_EPOCH, /epoch/);
      await admin("PATCH", pods("team", "probe"), { metadata: { annotations: { "nightshift.dev/epoch": null } } });
      await refused(operator("PATCH", pods("team", "probe"), { metadata: { annotations: { "nightshift.dev/x": "y" } } }), WITHOUT_EPOCH);
    });
    test("nor anything while nobody leads", async () => {
      await setLease({ holderIdentity: "" });
      await cluster.until("nobody leads", () =>
        write("8").then(
          () => false,
          (error) => /nobody leads/.test((error as ApiError).body),
        ),
      );
      await setLease({ holderIdentity: "another" });
      await settled("8");
    });
    test("is nobody else's affair, with a Lease or without", async () => {
      await admin("DELETE", "/apis/coordination.k8s.io/v1/namespaces/nightshift/leases/nightshift");
      // Whatever happens to the Lease, the cluster goes on: nobody but the operator is asked for an epoch.
      for (let i = 0; i < 20; i++) {
        await admin("POST", `${pods("team")}?dryRun=All`, pod(`other-${i}`));
        await admin("PATCH", `${apps("deployments", "d")}?dryRun=All`, { spec: { paused: true } });
      }
      await refused(
        operator("PATCH", pods("team", "probe"), { metadata: { annotations: { "nightshift.dev/epoch": null } } }),
        "epoch",
        /without the epoch/,
      );
      await admin("POST", "/apis/coordination.k8s.io/v1/namespaces/nightshift/leases", {
        metadata: { name: "nightshift" },
        spec: { leaseTransitions: 8, holderIdentity: "another" },
      });
      await cluster.until("the Lease is known", () =>
        write("7").then(
          () => false,
          () => true,
        ),
      );
      await settled("8");
    });
    test("and others change and delete whatever they may", async () => {
      await admin("PATCH", pods("team", "probe"), { metadata: { labels: { anything: "goes" } } });
      await admin("DELETE", pods("off", "by-namespace"));
    });
  });

  describe("an agent", () => {
    const path = `/apis/${API_VERSION}/namespaces/default/remediations`;
    const at = `${path}/payments-leak-4c1f`;
    const agent = (node: string | undefined, method: string, to: string, body?: unknown): Promise<Stored> =>
      user(account("nightshift-agent"), node === undefined ? {} : { "Impersonate-Extra-authentication.kubernetes.io%2fnode-name": node })(
        method,
        to,
        body,
        method === "PATCH" ? MERGE : undefined,
      );
    const capture = (node: string, effectId = "e1"): object => ({ effectId, state: "Running", node, startedAt: "2026-11-02T03:14:02Z" });
    const captures = (...list: object[]): object => ({ status: { captures: list } });

    before(async () => {
      await admin("POST", path, remediation());
      await admin("PATCH", `${at}/status`, { status: { phase: "Executing", revision: 1, epoch: 1 } });
    });
    test("answers for its own node", async () => {
      await agent("n1", "PATCH", `${at}/status`, captures(capture("n1")));
      await agent("n2", "PATCH", `${at}/status`, captures(capture("n1"), capture("n2", "e2")));
      await refused(
        agent("n2", "PATCH", `${at}/status`, captures({ ...capture("n1"), state: "Done" }, capture("n2", "e2"))),
        "agent",
        /own node, which is n2/,
      );
      await refused(agent("n2", "PATCH", `${at}/status`, captures(capture("n2", "e2"))), "agent", /own node/);
      await refused(
        agent(undefined, "PATCH", `${at}/status`, captures(capture("n1"), capture("n2", "e2"), capture("", "e3"))),
        "agent",
        /not known/,
      );
    });
    test("changes nothing else", async () => {
      await refused(agent("n1", "PATCH", `${at}/status`, { status: { phase: "Succeeded" } }), "agent", /status.captures, nothing else/);
      await refused(agent("n1", "PATCH", `${at}/status`, { status: { revision: 2 } }), "agent", /status.captures, nothing else/);
      await refused(agent("n1", "PATCH", at, { metadata: { labels: { a: "b" } } }), "rbac");
      await refused(agent("n1", "GET", "/api/v1/namespaces/team/pods"), "rbac");
      await refused(agent("n1", "GET", "/api/v1/namespaces/nightshift/secrets"), "rbac");
      assert.equal((await agent("n1", "GET", pods("team", "probe"))).metadata.name, "probe");
    });
  });

  describe("an answer", () => {
    const path = `/apis/${API_VERSION}/namespaces/team/remediationapprovals`;
    const answer = (by: string, name: string, spec: object = {}): object => ({
      apiVersion: API_VERSION,
      kind: "RemediationApproval",
      metadata: { name },
      spec: { remediation: "r", decision: "Approved", by, at: "2026-11-02T03:14:00Z", ...spec },
    });
    const mayCreate = { apiGroups: ["nightshift.dev"], resources: ["remediationapprovals"], verbs: ["create"] };
    const grant = async (name: string, ...rules: readonly object[]): Promise<void> => {
      const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team";
      await admin("POST", `${rbac}/roles`, { metadata: { name }, rules });
      await admin("POST", `${rbac}/rolebindings`, {
        metadata: { name },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
        subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name }],
      });
    };

    test("is given in one's own name", async () => {
      await refused(user("approver")("POST", path, answer("somebody-else", "a")), "approvals", /your own name, which is approver/);
      await user("approver")("POST", path, answer("approver", "a"));
      await user("approver")("POST", path, answer("approver", "a-denied", { decision: "Denied" }));
      await user("approver")("POST", path, answer("approver", "a-closed", { decision: "CircuitClosed" }));
    });

    test("takes the verb approve, and not only that its record may be written", async () => {
      await grant("writer", mayCreate);
      await grant("everything", { apiGroups: ["*"], resources: ["*"], verbs: ["get", "list", "create", "update", "patch", "delete"] });
      await cluster.until("the roles are known", () =>
        user("everything")("GET", path).then(
          () => true,
          () => false,
        ),
      );
      for (const who of ["writer", "everything"])
        for (const decision of ["Approved", "Denied", "CircuitClosed"])
          await refused(
            user(who)("POST", path, answer(who, `${who}-${decision.toLowerCase()}`, { decision })),
            "approvals",
            new RegExp(
              `${who} may not answer for team/r: it takes the verb "approve" on remediations.nightshift.dev, as .*nightshift-approver`,
            ),
          );
    });

    test("may be granted for single remediations", async () => {
      const approves = { apiGroups: ["nightshift.dev"], resources: ["remediations"], resourceNames: ["mine"], verbs: ["approve"] };
      await grant("owner", mayCreate, approves);
      await cluster.until("the role is known", () =>
        user("owner")("POST", `${path}?dryRun=All`, answer("owner", "known", { remediation: "mine" })).then(
          () => true,
          () => false,
        ),
      );
      await user("owner")("POST", path, answer("owner", "mine", { remediation: "mine" }));
      await refused(user("owner")("POST", path, answer("owner", "r")), "approvals", /owner may not answer for team\/r/);
    });

    test("is not the operator's to give, whatever it is bound to", async () => {
      const own = answer(account("nightshift"), "own");
      await refused(operator("POST", path, own), "rbac");
      await cluster.kubectl(["create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", `--user=${account("nightshift")}`]);
      await cluster.until("the binding is known", () => can(account("nightshift"), "create remediationapprovals -n team"));
      await refused(operator("POST", path, own), "approvals", /nightshift does not answer what it asks/);
      await cluster.kubectl(["delete", "clusterrolebinding", "too-much"]);
      await cluster.until("the binding is gone", async () => !(await can(account("nightshift"), "create remediationapprovals -n team")));
    });
  });

  test("nightshift approve answers in the name of the kubeconfig's user, and in no other", async () => {
    const path = `/apis/${API_VERSION}/namespaces/team/remediations`;
    await admin("POST", path, { ...remediation("asked"), metadata: { name: "asked" } });
    await admin("PATCH", `${path}/asked/status`, { status: { phase: "AwaitingApproval" } });
    const nightshift = (...argv: readonly string[]): Promise<{ stdout: string }> =>
      run(process.execPath, [MAIN, ...argv, "--kubeconfig", cluster.kubeconfig, "-n", "team"], { encoding: "utf8" });
    const who = await cluster.kubectl(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    assert.match((await nightshift("status")).stdout, /\nteam\/asked +payments-leak .* AwaitingApproval /);
    await assert.rejects(nightshift("approve", "asked", "--by", "somebody-else"), (error: Error & { code: number; stderr: string }) => {
      assert.equal(error.code, 2);
      assert.match(error.stderr, /spec.by must be your own name.*\[FORBIDDEN\]/);
      return true;
    });
    // An account that may read and write approvals, and lacks the verb.
    await cluster.kubectl([
      "create",
      "role",
      "no-verb",
      "-n",
      "team",
      "--verb=get,list,create",
      "--resource=remediationapprovals,remediations",
    ]);
    await cluster.kubectl(["create", "rolebinding", "no-verb", "-n", "team", "--role=no-verb", "--serviceaccount=team:default"]);
    const { outer } = cluster.kubeconfigFor(await cluster.token("team", "default"), "no-verb");
    await cluster.until("the role is known", () => can("system:serviceaccount:team:default", "create remediationapprovals -n team"));
    await assert.rejects(
      run(process.execPath, [MAIN, "approve", "asked", "--kubeconfig", outer, "-n", "team"], { encoding: "utf8" }),
      (error: Error & { code: number; stderr: string }) => {
        assert.equal(error.code, 2);
        assert.match(error.stderr, /may not answer for team\/asked: it takes the verb "approve".*\[FORBIDDEN\]/);
        return true;
      },
    );
    const { stdout } = await nightshift("approve", "asked");
    assert.ok(stdout.startsWith("approved: team/asked on ") && stdout.endsWith(`, by ${who}\n`), stdout);
    const { items } = await admin<{ items: { spec: { remediation: string; by: string } }[] }>(
      "GET",
      `/apis/${API_VERSION}/namespaces/team/remediationapprovals`,
    );
    assert.deepEqual(
      items.filter(({ spec }) => spec.remediation === "asked").map(({ spec }) => spec.by),
      [who],
    );
  });

  test("an upgrade keeps the token, and changes what it is told to", async () => {
    const token = async (): Promise<string> =>
      (await cluster.get<{ data: { token: string } }>("secret", "nightshift-token", "-n", "nightshift")).data.token;
    const made = await token();
    assert.ok(Buffer.from(made, "base64").length >= 32);
    await helm(
      "upgrade",
      "nightshift",
      chart,
      "--set",
      "agent.enabled=true,replicas=1,crds.keep=false,admission.protectedNamespaces={team}",
      "--set",
      "receivers[0].name=team,receivers[0].type=Slack,receivers[0].urlFile=/etc/nightshift/receivers/url,receiverSecret=slack",
      "--set",
      "slack.signingSecretFile=/etc/nightshift/receivers/secret,slack.teams={T0HOME},slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane",
      "--set",
      "slack.approvers[0].namespaces={team},slack.approvers[1].id=U0JOE,slack.approvers[1].name=joe",
    );
    assert.equal(await token(), made);
    await cluster.until("team is protected", () =>
      operator("PATCH", `${pods("team", "probe")}?dryRun=All`, { metadata: { annotations: { "nightshift.dev/epoch": "8" } } }).then(
        () => false,
        (error) => /nothing in the namespace team/.test((error as ApiError).body),
      ),
    );
  });

  test("what people answer in Slack is the operator's to write, and nothing else of that kind", async () => {
    const write = (namespace: string, name: string, by: string, spec: object = {}): Promise<Stored> =>
      operator("POST", `/apis/${API_VERSION}/namespaces/${namespace}/remediationapprovals`, {
        apiVersion: API_VERSION,
        kind: "RemediationApproval",
        metadata: { name },
        spec: { remediation: "r", decision: "Approved", by, via: "Slack", at: "2026-11-02T03:14:00Z", ...spec },
      });
    const [jane, joe] = ["slack:U0JANE (jane)", "slack:U0JOE (joe)"];
    await cluster.until("the policy as it is now", () =>
      write("team", "jane", jane).then(
        () => true,
        () => false,
      ),
    );
    await write("team", "no", jane, { decision: "Denied" });
    await write("on", "joe", joe);
    const no = /nightshift does not answer what it asks, but for those whom slack.approvers names/;
    await refused(write("on", "jane", jane), "approvals", no);
    for (const by of ["jane", "slack:U0JANE (joe)", "slack:U0MALLORY (mallory)", account("nightshift")])
      await refused(write("team", "other", by), "approvals", no);
    await refused(write("team", "circuit", jane, { decision: "CircuitClosed" }), "approvals", no);
    await refused(write("team", "unsaid", jane, { via: undefined }), "approvals", no);
    const path = `/apis/${API_VERSION}/namespaces/team/remediationapprovals`;
    const own = { remediation: "r", decision: "Approved", by: "approver", via: "Slack", at: "2026-11-02T03:14:00Z" };
    await refused(
      user("approver")("POST", path, { apiVersion: API_VERSION, kind: "RemediationApproval", metadata: { name: "via" }, spec: own }),
      "approvals",
      /spec.via says that nightshift wrote it/,
    );
  });

  test("the plain manifest is taken as it is", async () => {
    // Only what the release has not: it would be the release's else.
    await cluster.kubectl(["apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", resolve(chart, "../install.yaml")]);
  });

  test("an uninstall leaves nothing", async () => {
    await cluster.kubectl(["delete", "clusterrolebinding", "platform"]);
    await cluster.kubectl(["delete", "node", "n1"]);
    await helm("uninstall", "nightshift", "--wait");
    await cluster.kubectl(["delete", "namespace", "team", "off", "offnote", "on"]);
    let left: string[] = [];
    const gone = async (): Promise<boolean> => {
      left = [...(await everything())].filter((name) => !first.has(name));
      return left.length === 0;
    };
    await cluster.until("nothing is left", gone).catch(() => {});
    assert.deepEqual(left, []);
  });
});
