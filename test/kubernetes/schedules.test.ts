// The worst schedules of the simulator's exhaustive lane, on a real API server: between the operator and it stands a gateway
// that knows requests, and loses them, their answers and watches, delays and doubles events, and answers with what was.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { MARKS } from "../../src/platform/kubernetes/marks.ts";
import type { Pod } from "../../src/platform/kubernetes/objects.ts";
import { verifyAudit } from "../../src/record/verify.ts";
import { type AuditEvent, Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { NO_STORMS } from "../support/no-storms.ts";
import { Gateway, type Mishap, type Passing } from "./gateway.ts";
import { isReady, Operators, SHOP, story } from "./operators.ts";

/** Of each workload. */
const REPLICAS = 2;
/** RestartPod, but for the time that requests in flight have, of which nobody knows here. */
const STEPS = [
  { startReplacement: {}, timeout: "2m" },
  { awaitReady: {}, timeout: "2m" },
  { removeFromTraffic: {}, timeout: "2m" },
  { awaitInFlight: {}, timeout: "1s" },
  { stop: { gracePeriod: "1s" }, timeout: "2m" },
];
const POLICY = { ladder: [{ runbook: "runbook-0", timeout: "8m" }] };
/** Events are so much later: past what is decided next (ms). */
const LATE_MS = 3_000;

describe("the worst schedules", { skip: lacking({ nodes: false, tools: ["kube", "kwok"] }) }, () => {
  let cluster: Cluster;
  let gateway: Gateway;
  let operators: Operators;
  /** How many writes an episode has. */
  let writes = 0;

  before(async () => {
    cluster = await Cluster.start({ fakeNodes: 3 });
    gateway = await Gateway.start(cluster.access);
    operators = new Operators(cluster, gateway.access);
    await operators.prepare(REPLICAS, POLICY, [{ steps: STEPS }]);
    await cluster.apply([NO_STORMS]);
    await operators.start("one");
  });
  after(async () => {
    await operators?.stop();
    await gateway?.[Symbol.asyncDispose]();
    await cluster?.stop();
  });

  /** Whether a request is a write of an episode of the workload: to its Remediation, or to a pod. */
  const isWriteOf =
    (workload: string) =>
    ({ method, path, name }: Passing): boolean =>
      method !== "GET" && /\/namespaces\/shop\/(pods|remediations)(\/|$)/.test(path) && name?.startsWith(`${workload}-`) === true;

  /** The alert fires for one pod of each workload. Resolves with the pods. */
  async function fire(workloads: readonly string[]): Promise<ReadonlyMap<string, Pod>> {
    const pods = (await operators.pods()).filter(isReady);
    const targets = new Map<string, Pod>();
    for (const workload of workloads) {
      const pod = pods.find(({ metadata }) => metadata.labels?.["app"] === workload);
      assert.ok(pod !== undefined, workload);
      targets.set(workload, pod);
      operators.fire(pod.metadata.name);
    }
    return targets;
  }

  /**
   * Each was healed by one episode, and each effect happened once: as the API server answered, and as the audit trail has it.
   * @param isPast what was listed is of the past, which the API server promises never to do: then what was begun may also be
   * taken back as a whole and handed to a person, and another episode be on record in which nothing was done.
   */
  async function healed(targets: ReadonlyMap<string, Pod>, isPast = false): Promise<void> {
    for (const { metadata } of targets.values()) await operators.ended(metadata.name);
    const all = await operators.remediations();
    const pods = await cluster.until("the pods that there should be", async () => {
      const { items } = await cluster.get<{ items: Pod[] }>("pods", "-n", SHOP);
      const ready = items.filter(isReady);
      const isWhole = [...targets.keys()].every(
        (name) => ready.filter(({ metadata }) => metadata.name.startsWith(`${name}-`)).length === REPLICAS,
      );
      return isWhole && items.every(({ metadata }) => metadata.deletionTimestamp === undefined) && items;
    });
    const answered = cluster.audit(
      ({ objectRef, responseStatus, stage, verb }) =>
        stage === "ResponseComplete" &&
        objectRef?.namespace === SHOP &&
        ["create", "delete"].includes(verb) &&
        ["pods", "remediations"].includes(objectRef.resource ?? "") &&
        (responseStatus?.code ?? 500) < 300,
    );
    const records = readFileSync(join(operators.state("one"), "audit.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly type: string; readonly data?: { readonly effectId?: string } });
    for (const [name, target] of targets) {
      const uid = target.metadata.uid;
      const about = all.filter(({ spec }) => spec.signalTarget.name === target.metadata.name);
      const mine = about.filter(({ status }) => !isPast || status.attempts.length > 0);
      const told = about.map(story).join("\n");
      if (isPast && mine.length === 1 && mine[0]?.status.phase === "Escalated") {
        const own = pods.filter(({ metadata }) => metadata.name.startsWith(`${name}-`));
        assert.ok(
          own.some(
            ({ metadata }) =>
              metadata.uid === uid && metadata.labels?.["app"] === name && metadata.labels["pod-template-hash"] !== undefined,
          ),
          told,
        );
        assert.equal(operators.deletions(target.metadata.name), 0, told);
        continue;
      }
      assert.deepEqual(
        mine.map(({ status }) => [status.phase, status.outcome]),
        [["Succeeded", "Remediated"]],
        `${name}: ${told}\n${operators.logs}`,
      );
      const steps = mine.flatMap(({ status }) => status.attempts.flatMap((attempt) => attempt.steps));
      assert.deepEqual(new Set(steps.map(({ state }) => state)), new Set(["Done"]), `${name}: ${told}`);
      const isOf = ({ objectRef, requestURI }: AuditEvent): boolean =>
        objectRef?.name?.startsWith(`${name}-`) === true || new RegExp(`/${name}-`).test(requestURI);
      const of = (verb: string, resource: string): AuditEvent[] =>
        answered.filter((event) => event.verb === verb && event.objectRef?.resource === resource && isOf(event));
      const deleted = of("delete", "pods").filter(({ user }) => user.username.endsWith(":nightshift"));
      assert.deepEqual(
        deleted.map(({ objectRef }) => objectRef?.name),
        [target.metadata.name],
        `${name}: one deletion\n${told}`,
      );
      const own = pods.filter(({ metadata }) => metadata.name.startsWith(`${name}-`));
      assert.deepEqual(
        own.flatMap(({ metadata }) => metadata.annotations?.[MARKS.replaces] ?? []),
        [uid],
        `${name}: one replacement`,
      );
      assert.ok(
        own.every(({ metadata }) => metadata.labels?.["app"] === name && metadata.labels["pod-template-hash"] !== undefined),
        name,
      );
      // What was done is said before and after; again where nobody confirmed that it was stored.
      for (const { effectId } of steps) {
        const said = records.filter(({ data }) => data?.effectId === effectId).map(({ type }) => type);
        assert.equal(said[0], "Intent", `${effectId}: ${said.join(" ")}`);
        assert.ok(said.includes("Result"), `${effectId}: ${said.join(" ")}`);
      }
    }
    const { faults } = await verifyAudit({
      path: join(operators.state("one"), "audit.jsonl"),
      headPath: join(operators.state("one"), "audit.head"),
    });
    assert.deepEqual(faults, []);
  }

  it("none: an episode and its writes", async (t) => {
    const seen: string[] = [];
    gateway.mishap = (passing) => {
      if (isWriteOf("web")(passing)) seen.push(`${passing.method} ${passing.path.replace(/^.*\/shop\//, "")}`);
      return undefined;
    };
    await healed(await fire(["web"]));
    for (const line of seen) t.diagnostic(line);
    writes = seen.length;
    assert.ok(writes >= 10, `${writes} writes`);
  });

  it("each write of an episode is lost on its way, its answer is, and every watch is cut right after it", async (t) => {
    // Each episode meets all three, at writes far from each other, so that together they meet each at every write.
    const kinds = ["Lost", "AnswerLost", "WatchesCut"] as const;
    const apart = Math.ceil(writes / kinds.length);
    const left = new Map<string, { seen: number; readonly at: Map<number, Mishap> }>();
    for (let i = 0; i < writes; i++) {
      const at = new Map(kinds.map((kind, j) => [1 + ((i + j * apart) % writes), kind]));
      left.set(`cut${String(i + 1).padStart(2, "0")}`, { seen: 0, at });
    }
    const names = [...left.keys()];
    await operators.workloads(names, REPLICAS, POLICY);
    const struck: string[] = [];
    gateway.mishap = (passing): Mishap | undefined => {
      const name = passing.name?.slice(0, passing.name.indexOf("-")) ?? "";
      const schedule = left.get(name);
      if (schedule === undefined || !isWriteOf(name)(passing)) return undefined;
      schedule.seen += 1;
      const mishap = schedule.at.get(schedule.seen);
      if (mishap !== undefined)
        struck.push(`${name} ${JSON.stringify(mishap)} ${passing.method} ${passing.path.replace(/^.*\/shop\//, "")}`);
      return mishap;
    };
    await healed(await fire(names));
    gateway.mishap = () => undefined;
    for (const line of struck.toSorted()) t.diagnostic(line);
    // How often its state is stored while an episode waits is a matter of time: the last ones may not come.
    const most = Math.min(...[...left.values()].map(({ seen }) => seen));
    assert.ok(most >= 10, `an episode of ${most} writes`);
    assert.ok(struck.length >= names.length * 2, `${struck.length} mishaps`);
  });

  it("events come twice, and later than what is decided next", async (t) => {
    const names = ["late1", "late2", "late3", "late4"];
    await operators.workloads(names, REPLICAS, POLICY);
    let events = 0;
    gateway.news = ({ path }) => {
      if (!/\/(pods|remediations|replicasets|deployments)$/.test(path)) return {};
      events += 1;
      return { delayMs: LATE_MS, copies: 2 };
    };
    await healed(await fire(names));
    gateway.news = () => ({});
    t.diagnostic(`${events} events`);
    assert.ok(events > 20, `${events} events`);
  });

  it("lists after a reconnection are those of before the episode", async (t) => {
    const names = ["stale1", "stale2", "stale3", "stale4"];
    await operators.workloads(names, REPLICAS, POLICY);
    const collections = ["/api/v1/pods", "/apis/nightshift.dev/v1alpha1/remediations", "/apis/apps/v1/replicasets"];
    const old = new Map<string, string>();
    for (const path of collections) old.set(path, JSON.stringify(await cluster.request("GET", `${path}?limit=500`)));
    const targets = await fire(names);
    await cluster.until("a pod is out of traffic", async () =>
      (await operators.remediations()).some(({ spec, status }) =>
        names.some(
          (name) =>
            spec.workload.name === name &&
            status?.attempts.some(({ steps }) => steps.some((s) => s.type === "removeFromTraffic" && s.state !== "Pending")),
        ),
      ),
    );
    const gone = JSON.stringify({
      kind: "Status",
      apiVersion: "v1",
      status: "Failure",
      reason: "Expired",
      message: "too old resource version",
      code: 410,
    });
    const toExpire = new Set(collections);
    const served: string[] = [];
    gateway.mishap = ({ path, isWatch, method, name }): Mishap | undefined => {
      if (method !== "GET" || name !== undefined) return undefined;
      if (isWatch && toExpire.delete(path)) return { status: 410, body: gone };
      const body = isWatch || toExpire.has(path) ? undefined : old.get(path);
      if (body === undefined) return undefined;
      old.delete(path);
      served.push(path);
      return { status: 200, body };
    };
    gateway.cutWatches();
    // A pod that is gone was there again for a moment, and the episode about it was not.
    await healed(targets, true);
    gateway.mishap = () => undefined;
    for (const path of served) t.diagnostic(`stale: ${path}`);
    assert.deepEqual(served.toSorted(), collections.toSorted());
  });
});
