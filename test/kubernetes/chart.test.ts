import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { before, describe, test } from "node:test";
import { isMap, isScalar, parse, parseAllDocuments, parseDocument, type Pair } from "yaml";
import { AgentMetrics } from "../../agent/metrics.ts";
import { slackName } from "../../src/api/slack.ts";
import { createProgram } from "../../src/cli/main.ts";
import { readOperatorConfig } from "../../src/cli/operator-config.ts";
import { NightshiftMetrics } from "../../src/server/metrics.ts";
import { lacking } from "../cluster/requirements.ts";
import { ensureTool } from "../cluster/toolchain.ts";

const root = resolve(import.meta.dirname, "../..");
const chart = join(root, "deploy/chart");

interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
  readonly verbs: readonly string[];
}
interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly rules?: readonly Rule[];
}
interface Container {
  readonly args: readonly string[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}
interface PodSpec {
  readonly containers: readonly [Container];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly hostPID?: boolean;
  readonly hostNetwork?: boolean;
  readonly volumes: readonly Readonly<Record<string, unknown>>[];
}

/** Everything that the chart can install. */
const EVERYTHING: readonly string[] = [
  "replicas=3",
  "agent.enabled=true",
  "actions.existingSecret=actions",
  "tls.secretName=tls",
  "receiverSecret=pager",
  "priorityClassName=system-cluster-critical",
  "receivers[0].name=oncall",
  "receivers[0].type=Webhook",
  "receivers[0].url=https://pager.example.com",
  "alertmanagers[0].url=http://alertmanager.monitoring:9093",
  "receivers[1].name=team",
  "receivers[1].type=Slack",
  "receivers[1].urlFile=/etc/nightshift/receivers/slack-webhook-url",
  "slack.signingSecretFile=/etc/nightshift/receivers/slack-signing-secret",
  "slack.teams={T0HOME}",
  "slack.approvers[0].id=U0JANE",
  "slack.approvers[0].name=jane",
  "slack.approvers[0].namespaces={shop,bank}",
  "slack.approvers[1].id=U0JOE",
  "slack.approvers[1].name=joe",
  "prometheus.url=http://prometheus.monitoring:9090",
  "auth.senders[0].namespace=monitoring",
  "auth.senders[0].name=alertmanager",
  "auth.scrapers[0].namespace=monitoring",
  "auth.scrapers[0].name=prometheus",
  "agent.s3.endpoint=https://s3.example.com",
  "agent.s3.bucket=heaps",
  "agent.s3.credentialsSecret=s3",
  "audit.volume.persistentVolumeClaim.claimName=audit",
];

describe("the chart", { skip: lacking({ nodes: false, tools: ["helm"] }) }, () => {
  let helm = "";
  before(async () => {
    helm = join(await ensureTool("helm", (line) => console.log(line)), "helm");
  });

  const run = (...args: readonly string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(helm, args, { encoding: "utf8", maxBuffer: 64 * 2 ** 20 });
  const text = (settings: readonly string[] = [], ...more: readonly string[]): string => {
    const { status, stdout, stderr } = run(
      "template",
      "nightshift",
      chart,
      "-n",
      "nightshift",
      ...settings.flatMap((value) => ["--set", value]),
      ...more,
    );
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const rendered = (settings: readonly string[] = [], ...more: readonly string[]): Manifest[] =>
    parseAllDocuments(text(settings, ...more)).flatMap((document) => {
      assert.deepEqual(document.errors, []);
      const value = document.toJS() as Manifest | null;
      return value === null ? [] : [value];
    });
  const one = (manifests: readonly Manifest[], kind: string, name: string): Manifest => {
    const found = manifests.filter((m) => m.kind === kind && m.metadata.name === name);
    assert.equal(found.length, 1, `${kind} ${name}`);
    return found[0] as Manifest;
  };
  const podOf = (manifest: Manifest): PodSpec => (manifest.spec as { template: { spec: PodSpec } }).template.spec;

  test("passes helm lint", () => {
    for (const settings of [[], EVERYTHING]) {
      const { status, stdout, stderr } = run("lint", chart, "--strict", ...settings.flatMap((value) => ["--set", value]));
      assert.equal(status, 0, stdout + stderr);
    }
  });

  test("has the version of what it installs", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const meta = parse(readFileSync(join(chart, "Chart.yaml"), "utf8")) as { version: string; appVersion: string };
    assert.deepEqual([meta.version, meta.appVersion], [version, version]);
    const [container] = podOf(one(rendered(), "Deployment", "nightshift")).containers;
    assert.equal((container as unknown as { image: string }).image, `nightshift.dev/nightshift:${version}`);
  });

  test("install.yaml is what it renders", () => {
    const { status, stderr } = spawnSync(process.execPath, [join(root, "scripts/render-install.ts"), "--check", helm], {
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
  });

  describe("its values", () => {
    /** Pairs of a mapping and of those inside it, with the path of each. */
    function* pairs(map: unknown, path = ""): Generator<[string, Pair]> {
      if (!isMap(map)) return;
      for (const pair of map.items) {
        const at = `${path}.${isScalar(pair.key) ? String(pair.key.value) : "?"}`;
        yield [at, pair];
        yield* pairs(pair.value, at);
      }
    }
    test("each says what it is", () => {
      const lines = readFileSync(join(chart, "values.yaml"), "utf8").split("\n");
      const document = parseDocument(lines.join("\n"));
      const silent = [...pairs(document.contents)].flatMap(([path, pair]) => {
        const offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
        const line = lines.join("\n").slice(0, offset).split("\n").length - 1;
        // What an entry of a default consists of, or what is grouped, is said by the line above the group.
        const grouped = isMap(pair.value) && pair.value.items.length > 0;
        const ofAnEntry = /^\.(resources|agent\.resources)\./.test(path);
        return grouped || ofAnEntry || /^\s*#/.test(lines[line - 1] ?? "") ? [] : [path];
      });
      assert.deepEqual(silent, []);
    });
    test("each is known to the schema, with its default", () => {
      const schema = JSON.parse(readFileSync(join(chart, "values.schema.json"), "utf8")) as Record<string, unknown>;
      const walk = (value: unknown, at: Record<string, unknown>, path: string): void => {
        if (typeof value !== "object" || value === null || Array.isArray(value)) return;
        const properties = at["properties"] as Record<string, Record<string, unknown>> | undefined;
        if (properties === undefined) return;
        assert.equal(at["additionalProperties"], false, `${path} lets anything in`);
        const names = Object.keys(properties).filter((name) => !["global", "claims"].includes(name));
        assert.deepEqual(Object.keys(value).toSorted(), names.toSorted(), path);
        for (const [name, inner] of Object.entries(value)) walk(inner, properties[name] ?? {}, `${path}.${name}`);
      };
      walk(parse(readFileSync(join(chart, "values.yaml"), "utf8")), schema, "values");
    });
    const refused: Readonly<Record<string, RegExp>> = {
      "replica=2": /'replica' not allowed/,
      "replicas=4": /replicas/,
      "replicas=0": /replicas/,
      "image.pullPolicy=Sometimes": /pullPolicy/,
      "agent.enabled=perhaps": /agent\/enabled|agent.enabled/,
      "service.otlpPort=70000": /otlpPort/,
      "watchNamespaces={Prod}": /watchNamespaces/,
      "agent.s3.endpoint=https://s3": /bucket is missing/,
      "receivers[0].name=a,receivers[0].type=Pigeon,receivers[0].url=https://a": /receivers/,
      "receivers[0].name=a,receivers[0].type=Slack": /receivers/,
      "alertmanagers[0].url=alertmanager:9093": /alertmanagers/,
      "slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane": /signingSecretFile is missing/,
      "slack.approvers[0].id=jane,slack.approvers[0].name=jane": /approvers\/0\/id/,
      "slack.approvers[0].id=U0JANE,slack.approvers[0].name=o'jane": /approvers\/0\/name/,
      "slack.signingSecretFile=/etc/nightshift/receivers/s": /approvers is empty/,
      "slack.signingSecretFile=/etc/nightshift/receivers/s,slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane": /teams is empty/,
      "slack.signingSecretFile=/etc/nightshift/receivers/s,slack.teams={T0A},slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane":
        /receiverSecret is missing/,
      "slack.signingSecretFile=/etc/nightshift/receivers/s,slack.teams={T0A},slack.approvers[0].id=U0JANE,slack.approvers[0].name=jane,receiverSecret=s":
        /none of type Slack/,
      "prometheus.uri=http://prometheus:9090": /prometheus/,
    };
    for (const [setting, message] of Object.entries(refused))
      test(`${setting} is refused`, () => {
        const { status, stderr } = run("template", "nightshift", chart, "--set", setting);
        assert.notEqual(status, 0);
        assert.match(stderr, message);
      });
  });

  describe("the roles", () => {
    const roles = (): Manifest[] => rendered(EVERYTHING).filter(({ kind }) => kind === "ClusterRole" || kind === "Role");
    const all = (): (Rule & { readonly of: string })[] =>
      roles().flatMap(({ metadata, rules = [] }) => rules.map((rule) => ({ ...rule, of: metadata.name })));

    test("have no wildcard", () => {
      assert.ok(all().length > 20);
      for (const rule of all())
        for (const list of [rule.apiGroups, rule.resources, rule.verbs, rule.nonResourceURLs, rule.resourceNames])
          for (const word of list ?? []) assert.ok(!word.includes("*"), `${rule.of}: ${word}`);
    });
    test("reach no Secret, no shell, no other account and no role", () => {
      const never = [
        "secrets",
        "configmaps",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "pods/ephemeralcontainers",
        "pods/proxy",
        "nodes/proxy",
        "services/proxy",
      ];
      const ever = [
        "serviceaccounts",
        "serviceaccounts/token",
        "roles",
        "rolebindings",
        "clusterroles",
        "clusterrolebindings",
        "pods/status",
        "nodes/status",
      ];
      for (const rule of all()) {
        for (const resource of rule.resources ?? []) assert.ok(![...never, ...ever].includes(resource), `${rule.of}: ${resource}`);
        for (const verb of rule.verbs)
          assert.ok(!["impersonate", "bind", "escalate", "deletecollection", "sign"].includes(verb), `${rule.of}: ${verb}`);
        for (const group of rule.apiGroups ?? [])
          assert.ok(!["rbac.authorization.k8s.io", "admissionregistration.k8s.io", "certificates.k8s.io"].includes(group), rule.of);
      }
    });
    test("give the operator these writes and no others", () => {
      const writesOf = (settings: readonly string[]): string[] =>
        rendered(settings).flatMap(({ metadata, rules = [] }) =>
          metadata.name === "nightshift-operator"
            ? rules.flatMap(({ resources = [], verbs }) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)))
            : [],
        );
      // Only where people answer in Slack.
      for (const write of ["approve remediations", "create remediationapprovals"])
        assert.deepEqual([writesOf([]).includes(write), writesOf(EVERYTHING).includes(write)], [false, true], write);
      const writes = all()
        .filter(({ of }) => of === "nightshift-operator" || of === "nightshift-leader")
        .flatMap(({ resources = [], verbs }) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)))
        .filter((word) => !/^(get|list|watch) /.test(word));
      assert.deepEqual([...new Set(writes)].toSorted(), [
        "approve remediations",
        "create events",
        "create jobs",
        "create leases",
        "create pods/eviction",
        "create remediationapprovals",
        "create remediations",
        "create subjectaccessreviews",
        "create tokenreviews",
        "delete pods",
        "patch controllerrevisions",
        "patch daemonsets",
        "patch deployments",
        "patch events",
        "patch horizontalpodautoscalers",
        "patch jobs",
        "patch nodes",
        "patch pods",
        "patch pods/resize",
        "patch remediationpolicies/status",
        "patch remediations",
        "patch remediations/status",
        "patch replicasets",
        "patch statefulsets",
        "update leases",
        "update remediationpolicies/status",
        "update remediations",
        "update remediations/status",
      ]);
      const leases = all().filter(({ resources }) => resources?.includes("leases"));
      for (const { verbs, resourceNames } of leases) assert.ok(verbs.join() === "create" || resourceNames?.join() === "nightshift");
      assert.ok(roles().every(({ kind, rules = [] }) => kind === "Role" || !rules.some(({ resources }) => resources?.includes("leases"))));
    });
    test("let nobody approve by the way", () => {
      const approving = all().filter(({ verbs }) => verbs.includes("approve"));
      assert.deepEqual(
        approving.map(({ of, apiGroups, resources, verbs }) => [of, apiGroups, resources, verbs]),
        [
          ["nightshift-operator", ["nightshift.dev"], ["remediations"], ["approve"]],
          ["nightshift-approver", ["nightshift.dev"], ["remediations"], ["approve"]],
        ],
      );
      const aggregated = roles().filter(({ metadata }) =>
        Object.keys(metadata.labels ?? {}).some((label) => label.includes("aggregate-to")),
      );
      assert.equal(aggregated.length, 2);
      for (const { rules = [] } of aggregated)
        for (const { resources, verbs } of rules)
          if (resources?.some((resource) => ["remediationapprovals", "remediations", "remediationbudgets"].includes(resource)) === true)
            assert.ok(verbs.every((verb) => ["get", "list", "watch"].includes(verb)));
    });
    test("are not aggregated where that is not wanted", () => {
      assert.doesNotMatch(text(["rbac.aggregate=false"]), /aggregate-to/);
    });
  });

  describe("the pods", () => {
    test("of the operator are as restricted as can be", () => {
      const pod = podOf(one(rendered(EVERYTHING), "Deployment", "nightshift"));
      const [container] = pod.containers;
      assert.deepEqual(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        runAsNonRoot: true,
        capabilities: { drop: ["ALL"] },
        seccompProfile: { type: "RuntimeDefault" },
      });
      assert.equal(pod.securityContext["runAsNonRoot"], true);
      assert.ok(pod.hostPID === undefined && pod.hostNetwork === undefined);
      assert.ok(pod.volumes.every((volume) => !("hostPath" in volume)));
    });
    test("of the agent have what it needs, and no more", () => {
      const pod = podOf(one(rendered(EVERYTHING), "DaemonSet", "nightshift-agent"));
      const [{ securityContext }] = pod.containers;
      assert.equal(pod.hostPID, true);
      assert.equal(pod.hostNetwork, undefined);
      assert.equal(securityContext["privileged"], undefined);
      assert.equal(securityContext["readOnlyRootFilesystem"], true);
      assert.deepEqual((securityContext["capabilities"] as { drop: string[] }).drop, ["ALL"]);
      assert.deepEqual(
        pod.volumes.flatMap((volume) => ("hostPath" in volume ? [volume["name"]] : [])),
        ["state", "cgroup"],
      );
    });
    test("mount what their arguments name", () => {
      const [container] = podOf(one(rendered(EVERYTHING), "Deployment", "nightshift")).containers;
      const files = container.args.flatMap((arg) => /=(\/etc\/nightshift\/[^ ]+)$/.exec(arg)?.[1] ?? []);
      assert.equal(files.length, 5, container.args.join(" "));
      for (const file of files)
        assert.ok(
          container.volumeMounts.some(({ mountPath }) => file.startsWith(`${mountPath}/`)),
          file,
        );
    });
  });

  test("the commands know the arguments that they are given", () => {
    const manifests = rendered([...EVERYTHING, "watchNamespaces={a,b}"]);
    const onNode = rendered(["agent.enabled=true"]);
    for (const manifest of [
      one(manifests, "Deployment", "nightshift"),
      one(manifests, "DaemonSet", "nightshift-agent"),
      one(onNode, "DaemonSet", "nightshift-agent"),
    ]) {
      const [name, ...args] = podOf(manifest).containers[0].args;
      const command = createProgram().commands.find((candidate) => candidate.name() === name);
      assert.ok(command !== undefined, name);
      const known = new Set(command.options.map(({ long }) => long));
      for (const arg of args) assert.ok(known.has(arg.split("=")[0]), `${name} ${arg}`);
    }
  });

  test("the configuration is one that the operator takes", async () => {
    const { data } = one(rendered(EVERYTHING), "ConfigMap", "nightshift") as unknown as { data: Record<string, string> };
    const dir = mkdtempSync(join(tmpdir(), "nightshift-chart-"));
    try {
      const file = join(dir, "operator.yaml");
      writeFileSync(file, data["operator.yaml"] ?? "");
      const { config } = await readOperatorConfig(file);
      assert.deepEqual(
        config.receivers.map(({ name }) => name),
        ["oncall", "team"],
      );
      assert.deepEqual(config.slack?.approvers, [
        { id: "U0JANE", name: "jane", namespaces: ["shop", "bank"] },
        { id: "U0JOE", name: "joe" },
      ]);
      // The admission policy knows them by the names that they go on record with.
      const policy = JSON.stringify(one(rendered(EVERYTHING), "ValidatingAdmissionPolicy", "nightshift-approvals"));
      for (const approver of config.slack?.approvers ?? []) assert.ok(policy.includes(`'${slackName(approver)}'`), policy);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test("the Service leads to the leader, the other to all", () => {
    const manifests = rendered();
    const selector = (name: string): Record<string, string> =>
      (one(manifests, "Service", name).spec as { selector: Record<string, string> }).selector;
    assert.equal(selector("nightshift")["nightshift.dev/leader"], "true");
    assert.equal(selector("nightshift-metrics")["nightshift.dev/leader"], undefined);
    assert.equal(one(manifests, "Service", "nightshift-metrics").spec?.["clusterIP"], "None");
  });

  test("monitoring is there only where the cluster knows it, and goes by metrics that there are", async () => {
    const kinds = (manifests: readonly Manifest[]): string[] =>
      manifests.map(({ kind }) => kind).filter((kind) => /Monitor|Prometheus/.test(kind));
    assert.deepEqual(kinds(rendered()), []);
    const known = ["--api-versions", "monitoring.coreos.com/v1"];
    assert.deepEqual(kinds(rendered([], ...known)), ["PrometheusRule", "ServiceMonitor"]);
    assert.deepEqual(kinds(rendered(["monitoring.serviceMonitor.enabled=false", "monitoring.prometheusRule.enabled=false"], ...known)), []);

    const metrics = new NightshiftMetrics({ processMetrics: false });
    metrics.observed(() => ({
      series: 0,
      telemetryRefused: {},
      pointsAccepted: 0,
      pointsRefused: {},
      spansAccepted: 0,
      spansRefused: {},
      logsAccepted: 0,
      logsRefused: {},
    }));
    const agents = new AgentMetrics("0.0.0");
    const all = [...(await metrics.registry.getMetricsAsJSON()), ...(await agents.registry.getMetricsAsJSON())];
    const exposed = new Set(all.map(({ name }) => name));
    const rule = one(rendered(["agent.enabled=true"], ...known), "PrometheusRule", "nightshift");
    const { groups } = rule.spec as { groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[] };
    const alerts = groups.flatMap(({ rules }) => rules);
    assert.ok(alerts.length >= 11);
    for (const { alert, expr, annotations } of alerts) {
      const names = [...expr.matchAll(/nightshift_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, ""));
      assert.ok(names.length > 0, alert);
      for (const name of names) assert.ok(exposed.has(name), `${alert}: ${name}`);
      assert.match(
        expr,
        names.every((name) => name.startsWith("nightshift_agent_"))
          ? /namespace="nightshift"/
          : /job="nightshift-metrics",namespace="nightshift"/,
        alert,
      );
      assert.match(annotations["summary"] ?? "", /^[A-Z].*\.$/, alert);
    }
  });

  test("what is turned off is not there", () => {
    const kinds = (...settings: string[]): Set<string> => new Set(rendered(settings).map(({ kind }) => kind));
    assert.ok(!kinds("crds.install=false").has("CustomResourceDefinition"));
    assert.ok(!kinds("networkPolicy.enabled=false").has("NetworkPolicy"));
    assert.ok(!kinds("auth.existingSecret=mine").has("Secret"));
    assert.ok(!kinds().has("PodDisruptionBudget") && kinds("replicas=2").has("PodDisruptionBudget"));
    const none = kinds("admission.guard=false", "admission.fence=false", "admission.agent=false", "admission.approvals=false");
    assert.ok(!none.has("ValidatingAdmissionPolicy") && !none.has("ValidatingAdmissionPolicyBinding"));
    assert.ok(!text(["auth.tokenReview=false"]).includes("tokenreviews"));
  });

  test("several releases do not meet", () => {
    const names = (release: string): string[] =>
      parseAllDocuments(
        run("template", release, chart, "-n", release, "--set", "crds.install=false", ...EVERYTHING.flatMap((value) => ["--set", value]))
          .stdout,
      ).flatMap((document) => {
        const value = document.toJS() as Manifest | null;
        return value === null ? [] : [`${value.kind} ${value.metadata.namespace ?? ""}/${value.metadata.name}`];
      });
    const first = new Set(names("one"));
    assert.ok(first.size > 20);
    assert.deepEqual(
      names("two").filter((name) => first.has(name)),
      [],
    );
  });
});
