// Every policy of examples/library: checked, its alert rules and their unit tests run by promtool, its alerts sent by a real
// Alertmanager as its fixtures have them, what these are to its policy, and its two scenarios played in the simulator.
//
// UPDATE_FIXTURES=1 writes the fixtures anew, from the alerts that the unit tests of the rules expect.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { parse } from "yaml";
import { checkResources } from "../src/api/check.ts";
import { checkFiles } from "../src/cli/commands/policy.ts";
import { type Cluster, clusterSchema } from "../src/api/cluster.ts";
import type { TargetRef } from "../src/api/meta.ts";
import { parseDocument, type ParsedResource, parseResources, problemText } from "../src/api/parse.ts";
import type { RemediationPolicy } from "../src/api/policy.ts";
import { decodeAlerts } from "../src/observe/alertmanager.ts";
import { TelemetryStore } from "../src/observe/store.ts";
import { detectSignals } from "../src/orient/detect.ts";
import { CallGraph } from "../src/orient/call-graph.ts";
import { diagnose } from "../src/orient/diagnose.ts";
import { systemClock } from "../src/platform/host/clock.ts";
import { type Resources, targetsOf } from "../src/platform/sim/rehearsal/cast.ts";
import { rehearse, type RehearsalReport, remarks } from "../src/platform/sim/rehearsal/rehearse.ts";
import { type ScenarioFile, scenarioFileSchema } from "../src/platform/sim/rehearsal/scenario-file.ts";
import { heardBy, namingsOf } from "../src/platform/sim/rehearsal/symptoms.ts";
import type { Replica, Workload } from "../src/ports/platform.ts";
import { unusedPort } from "./support/ports.ts";
import { until } from "./support/until.ts";

const LIBRARY = resolve(import.meta.dirname, "../examples/library");
const REHEARSAL = join(LIBRARY, "rehearsal");
const ALERTMANAGER = "/usr/bin/prometheus-alertmanager";
const PROMTOOL = "/usr/bin/promtool";
const lacks = [ALERTMANAGER, PROMTOOL].every((path) => existsSync(path))
  ? false
  : "no Prometheus here: scripts/apt-install.sh prometheus prometheus-alertmanager";
if (lacks !== false && process.env["CI"] === "true") throw new Error(lacks);
const UPDATE = process.env["UPDATE_FIXTURES"] === "1";
/** Faults of the service itself in the library's scenarios; the others are what keeps a policy from acting on them. */
const ILLS: ReadonlySet<string> = new Set(["PodCondition", "WorkloadCondition", "BadRollout", "CrashLoop", "PodLeak", "NodeDown"]);
/** When the alerts of the fixtures began. */
const STARTS_AT = "2026-11-30T03:14:00.000Z";

const names = readdirSync(LIBRARY, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== "rehearsal")
  .map(({ name }) => name);
const read = (...path: string[]): string => readFileSync(join(LIBRARY, ...path), "utf8");
const resourcesOf = (name: string): ParsedResource[] => parseResources(read(name, "policy.yaml"), `${name}/policy.yaml`).resources;
const policiesIn = (name: string): RemediationPolicy[] =>
  resourcesOf(name).flatMap(({ resource }) => (resource.kind === "RemediationPolicy" ? [resource] : []));

/** Whether nothing that Nightshift does would be an honest cure: then it tells a person, and does nothing else. */
const onlyTells = (name: string): boolean =>
  policiesIn(name).every(({ spec }) => spec.ladder.every(({ strategy }) => strategy === "Notify"));

interface ExpectedAlert {
  readonly alertname: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
interface RuleTests {
  readonly tests: readonly {
    readonly name?: string;
    readonly alert_rule_test?: readonly {
      readonly alertname: string;
      readonly exp_alerts?: readonly { readonly exp_labels: Record<string, string>; readonly exp_annotations?: Record<string, string> }[];
    }[];
  }[];
}

/** The alerts of a policy's rules. */
function rulesOf(name: string): string[] {
  const { groups } = parse(read(name, "rules.yaml")) as { groups: { rules: { alert: string }[] }[] };
  return groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
}

/** What the unit tests of the rules expect to fire, the first of each alert. */
function firing(name: string): ExpectedAlert[] {
  const { tests } = parse(read(name, "rules.test.yaml")) as RuleTests;
  const all = tests.flatMap(({ alert_rule_test: asked = [] }) =>
    asked.flatMap(({ alertname, exp_alerts: expected = [] }) =>
      expected.map(({ exp_labels: labels, exp_annotations: annotations = {} }) => ({ alertname, labels, annotations })),
    ),
  );
  return rulesOf(name).flatMap((alert) => all.find(({ alertname }) => alertname === alert) ?? []);
}

const fixturePath = (name: string, alertname: string): string => join(LIBRARY, name, `webhook.${alertname}.json`);

describe("the library", () => {
  it("has at least 20 policies, each with all of its files and a row in the table", () => {
    const table = read("README.md");
    for (const name of names) {
      const files = readdirSync(join(LIBRARY, name)).toSorted();
      const fixtures = rulesOf(name).map((alert) => `webhook.${alert}.json`);
      const wanted = ["acts.yaml", "holds.yaml", "policy.yaml", "rules.test.yaml", "rules.yaml", ...fixtures].toSorted();
      assert.deepEqual(files, wanted, name);
      assert.match(table, new RegExp(`^\\| \\[\`${name}\`\\]\\(${name}/policy.yaml\\) *\\|`, "m"));
    }
    assert.equal([...table.matchAll(/^\| \[`/gm)].length, names.length);
    assert.ok(names.length >= 20, `${names.length} policies`);
  });

  it("is clean by policy check, also as a directory, and all of it can be applied together", async () => {
    const { ok, problems } = await checkFiles([LIBRARY], { strict: true, now: Date.now() });
    assert.deepEqual([ok, problems], [true, []]);
    const parsed = names.map((name) => parseResources(read(name, "policy.yaml"), `${name}/policy.yaml`));
    const all = parsed.flatMap(({ resources }) => resources);
    assert.deepEqual([...parsed.flatMap(({ errors }) => errors), ...checkResources(all, Date.now())].map(problemText), []);
  });

  for (const name of names)
    it(`${name}: observes at first, is opted in to by its own label, bounded, and hears each of its alerts`, () => {
      const policies = policiesIn(name);
      assert.ok(policies.length > 0);
      for (const { spec } of policies) {
        assert.equal(spec.mode, "Observe");
        assert.ok(spec.budgets.every(({ maxUnavailable }) => maxUnavailable !== 0));
        for (const { selector } of spec.targets) assert.deepEqual(selector?.matchLabels, { [`library.nightshift.dev/${name}`]: "true" });
      }
      const heard = policies.flatMap(({ spec }) => spec.signals.flatMap(({ alert }) => alert?.alertname ?? []));
      assert.deepEqual([...new Set(heard)].toSorted(), rulesOf(name).toSorted());
    });
});

describe("the alert rules of the library", { skip: lacks }, () => {
  function promtool(name: string, ...args: string[]): void {
    const { status, stdout, stderr } = spawnSync(PROMTOOL, args, { cwd: join(LIBRARY, name), encoding: "utf8", timeout: 60_000 });
    assert.equal(status, 0, `${stdout}${stderr}`);
  }
  for (const name of names)
    it(`${name}: valid, fire on what they are for, and not on what looks like it`, () => {
      promtool(name, "check", "rules", "rules.yaml");
      promtool(name, "test", "rules", "rules.test.yaml");
      const { tests } = parse(read(name, "rules.test.yaml")) as RuleTests;
      for (const alert of rulesOf(name)) {
        const asked = tests.flatMap(({ alert_rule_test: all = [] }) => all.filter(({ alertname }) => alertname === alert));
        assert.ok(
          asked.some(({ exp_alerts: expected = [] }) => expected.length > 0),
          `${alert} is shown to fire`,
        );
        assert.ok(
          asked.some(({ exp_alerts: expected = [] }) => expected.length === 0),
          `${alert} is shown not to fire`,
        );
      }
    });
});

describe("the fixtures of the library", { skip: lacks }, () => {
  let dir = "";
  let child: ChildProcess | undefined;
  /** Webhooks that came, by the alert's name. */
  const came = new Map<string, Record<string, unknown>>();
  const receiver = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown> & { groupLabels: { alertname: string } };
      came.set(body.groupLabels.alertname, body);
      response.end();
    });
  });

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "nightshift-library-"));
    await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
    const { port } = receiver.address() as { port: number };
    await writeFile(
      join(dir, "alertmanager.yml"),
      `route: { receiver: nightshift, group_by: [alertname, namespace], group_wait: 1s }
receivers: [{ name: nightshift, webhook_configs: [{ url: "http://127.0.0.1:${port}/webhooks/alertmanager" }] }]
`,
    );
    const own = unusedPort();
    const flags = [`--config.file=${join(dir, "alertmanager.yml")}`, `--storage.path=${join(dir, "data")}`, "--cluster.listen-address="];
    const external = "--web.external-url=http://alertmanager.monitoring:9093";
    child = spawn(ALERTMANAGER, [...flags, `--web.listen-address=127.0.0.1:${own}`, "--web.route-prefix=/", external], { stdio: "ignore" });
    const api = `http://127.0.0.1:${own}`;
    await until(async () => assert.equal((await fetch(`${api}/-/ready`)).status, 200));
    const alerts = names.flatMap(firing).map(({ alertname, labels, annotations }) => ({
      labels: { alertname, ...labels },
      annotations,
      startsAt: STARTS_AT,
      generatorURL: `http://prometheus.monitoring:9090/graph?g0.expr=ALERTS%7Balertname%3D%22${alertname}%22%7D&g0.tab=1`,
    }));
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${api}/api/v2/alerts`, { method: "POST", headers, body: JSON.stringify(alerts) });
    assert.equal(response.status, 200, await response.text());
    await until(() => assert.equal(came.size, alerts.length));
  });

  after(async () => {
    if (child !== undefined) {
      const exit = new Promise((ended) => child?.once("exit", ended));
      child.kill("SIGKILL");
      await exit;
    }
    await new Promise((closed) => receiver.close(closed));
    await rm(dir, { recursive: true, force: true });
  });

  for (const name of names)
    for (const alertname of rulesOf(name))
      it(`${name}: ${alertname} is what Alertmanager sends`, async () => {
        const body = came.get(alertname);
        assert.ok(body !== undefined, "it came");
        if (UPDATE) await writeFile(fixturePath(name, alertname), `${JSON.stringify(body, null, 2)}\n`);
        assert.deepEqual(JSON.parse(readFileSync(fixturePath(name, alertname), "utf8")), body);
      });
});

/** A workload with everything by which the fixtures name it, and a replica of each name that they have. */
function workloadOf(name: string, policy: RemediationPolicy): Workload {
  const [target] = policy.spec.targets;
  const alerts = firing(name).map(({ labels }) => labels);
  const node = target?.kind === "Node";
  const kind = node ? "NodePool" : alerts.some(({ statefulset }) => statefulset !== undefined) ? "StatefulSet" : "Deployment";
  const namespace = node ? policy.metadata.namespace : (alerts[0]?.["namespace"] ?? "");
  const called = alerts.map(({ deployment, statefulset, workload, service }) => deployment ?? statefulset ?? workload ?? service);
  const ref = { kind, namespace, name: called.find((each) => each !== undefined) ?? "payments", uid: "w" };
  const labels = target?.selector?.matchLabels ?? {};
  const pods = alerts.flatMap(({ pod, node: named }) => (node ? named : pod) ?? []);
  const replica = (pod: string, i: number): Replica => ({
    ref: { kind: node ? "Node" : "Pod", namespace, name: pod, uid: `p${i}` },
    workload: ref,
    phase: "Running",
    ready: true,
    everReady: true,
    inTraffic: true,
    startedAt: 0,
    restarts: 0,
    labels: node ? labels : {},
    annotations: {},
    ...(node ? { conditions: [{ type: "Ready", status: "True" as const, since: 0, message: "" }] } : {}),
  });
  const replicas = [...new Set([...pods, `${ref.name}-one`, `${ref.name}-two`])].map(replica);
  return { ref, desired: replicas.length, replicas, labels: node ? {} : labels, annotations: {}, enclosing: [], rollsOut: true };
}

describe("what a fixture is to its policy", () => {
  const receivedAt = Date.parse(STARTS_AT) + 60_000;
  const silence = new TelemetryStore(systemClock);
  for (const name of names)
    for (const { alertname, labels } of firing(name))
      it(`${name}: ${alertname} is a signal of the right target, and enough to act on`, () => {
        const { alerts, refused } = decodeAlerts(readFileSync(fixturePath(name, alertname)), receivedAt);
        assert.deepEqual([refused, alerts.length], [[], 1]);
        const listening = policiesIn(name).filter(({ spec }) => spec.signals.some(({ alert }) => alert?.alertname === alertname));
        assert.ok(listening.length > 0);
        for (const authored of listening) {
          const { namespace } = workloadOf(name, authored).ref;
          // As `kubectl apply -n NAMESPACE` puts it there.
          const policy = { ...authored, metadata: { ...authored.metadata, namespace } };
          const workload = workloadOf(name, policy);
          const { signals, missing } = detectSignals(policy, workload, silence, alerts, receivedAt);
          const single = labels["pod"] ?? (workload.ref.kind === "NodePool" ? labels["node"] : undefined);
          const wanted: TargetRef | undefined =
            single === undefined ? workload.ref : workload.replicas.find(({ ref }) => ref.name === single)?.ref;
          assert.deepEqual(
            signals.map(({ state, target }) => ({ state, target })),
            [{ state: "Firing", target: wanted }],
          );
          const [signal] = signals;
          assert.ok(signal !== undefined);
          const diagnosis = diagnose(signal, policy, [workload], new CallGraph([], [], [workload]), silence, receivedAt);
          assert.deepEqual([missing, diagnosis.missing, diagnosis.remediationTarget], [[], [], wanted]);
          const other = { ...workload, ref: { ...workload.ref, namespace: "another" } };
          assert.deepEqual(detectSignals(policy, other, silence, alerts, receivedAt).signals, []);
        }
      });
});

describe("the scenarios of the library", () => {
  const cluster: Cluster = clusterSchema.parse(parse(readFileSync(join(REHEARSAL, "cluster.yaml"), "utf8")));
  const beside = parseResources(readFileSync(join(REHEARSAL, "resources/dependencies.yaml"), "utf8"), "dependencies.yaml").resources;

  function scenario(name: string, which: "acts" | "holds"): ScenarioFile {
    const { value, errors } = parseDocument(read(name, `${which}.yaml`), `${name}/${which}.yaml`, scenarioFileSchema);
    assert.deepEqual(errors.map(problemText), []);
    assert.ok(value !== undefined);
    return value;
  }

  /** What is wrong with the service in a scenario, one replica of it, without what keeps a policy from acting on it. */
  function unhindered({ faults, ...file }: ScenarioFile): ScenarioFile {
    const own = faults.filter(({ kind }) => ILLS.has(kind)).map((fault) => ({ ...fault, replicas: 1, for: file.lasts, expect: undefined }));
    return { ...file, faults: own, time: scenarioFileSchema.shape.time.parse(undefined), expect: {} };
  }

  async function play(name: string, file: ScenarioFile, deaf = false): Promise<RehearsalReport> {
    const all = [...resourcesOf(name), ...beside].map(({ resource }) => resource);
    const policies = policiesIn(name);
    const resources: Resources = {
      policies: deaf ? policies.map((each) => ({ ...each, spec: { ...each.spec, mode: "Observe" } })) : policies,
      budgets: [],
      runbooks: all.filter((each) => each.kind === "Runbook"),
      dependencies: all.filter((each) => each.kind === "ServiceDependency"),
    };
    const [target] = targetsOf(cluster, policies);
    assert.ok(target !== undefined, `something of the cluster carries the label of ${name}`);
    const namings = namingsOf(file, []);
    const heard = policies.flatMap(({ spec }) => spec.signals).filter((signal) => heardBy(signal, namings) !== undefined);
    assert.ok(heard.length > 0, "the scenario shows what the policy hears");
    assert.deepEqual(
      remarks({ cluster, resources, namings }).filter((remark) => remark.includes("takes no part")),
      [],
    );
    return rehearse({
      name,
      file,
      cluster,
      resources,
      target,
      seed: 1,
      namings: [],
      ...(deaf ? {} : { mode: "Enforce" as const }),
    });
  }

  for (const name of names) {
    it(`${name}: acts`, async () => {
      const report = await play(name, scenario(name, "acts"));
      assert.deepEqual([report.violations, report.unmet], [[], []], JSON.stringify(report.faults));
      assert.ok(report.faults.length > 0);
      const results = new Set(report.faults.map(({ result }) => result));
      // What nothing that Nightshift does can cure is told to a person, and nothing else.
      if (onlyTells(name)) assert.deepEqual([[...results], report.effects], [["Escalated"], []]);
      else assert.ok(results.has("Healed") && report.effects.length > 0, JSON.stringify(report.faults));
    });

    it(`${name}: holds`, async () => {
      const report = await play(name, scenario(name, "holds"));
      assert.deepEqual([report.violations, report.unmet, report.effects], [[], [], []], JSON.stringify(report.faults));
      const free = await play(name, unhindered(scenario(name, "holds")));
      assert.ok(onlyTells(name) ? free.pages.length > 0 : free.effects.length > 0, "it would act on it, but for what holds it back");
    });

    it(`${name}: changes nothing as it is shipped`, async () => {
      const report = await play(name, scenario(name, "acts"), true);
      assert.deepEqual([report.violations, report.effects], [[], []]);
    });
  }
});
