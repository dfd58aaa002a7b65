import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import * as fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { customResourceDefinitions, PLURALS, undescribed, type StructuralSchema } from "../../src/api/crd.ts";
import { API_VERSION, CLUSTER_SCOPED, KINDS, type Kind } from "../../src/api/meta.ts";
import { SCHEMAS } from "../../src/api/resources.ts";
import { ApiError } from "../cluster/api.ts";
import { Cluster } from "../cluster/cluster.ts";
import { lacking } from "../cluster/requirements.ts";
import { AUTHORED, anyStep, broken, ONLY_BY_CHECK, SPECS } from "../support/arbitraries.ts";
import { ACCEPTED, REFUSED } from "../support/refusals.ts";
import { remediation } from "../support/remediation.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Where objects of a kind are. */
const collection = (kind: Kind): string => `/apis/${API_VERSION}/${CLUSTER_SCOPED.has(kind) ? "" : "namespaces/default/"}${PLURALS[kind]}`;

const wrapped = (kind: Kind, spec: unknown): object => ({
  apiVersion: API_VERSION,
  kind,
  metadata: { name: "tried", ...(CLUSTER_SCOPED.has(kind) ? {} : { namespace: "default" }) },
  spec,
});

/** What the API server says of an error: a word on what was wrong. */
const said = (error: unknown): string => {
  if (!(error instanceof ApiError)) throw error;
  return `${error.status} ${(JSON.parse(error.body) as { message: string }).message}`;
};

describe("the CRDs on a real API server", { skip: lacking({ nodes: false }) }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start();
    // As users apply them: kubectl keeps all of an object in an annotation, which has a limit.
    const files = globSync("deploy/chart/files/crds/*.yaml", { cwd: root });
    assert.equal(files.length, KINDS.length);
    await cluster.kubectl(["apply", ...files.flatMap((file) => ["-f", `${root}${file}`])]);
    await cluster.kubectl([
      "wait",
      "--for=condition=Established",
      "crd",
      ...customResourceDefinitions().map(({ metadata }) => metadata.name),
    ]);
    // Established is not served yet, not by every path.
    for (const kind of KINDS) await cluster.until(`${kind} is served`, () => cluster.request("GET", collection(kind)));
    await cluster.until("short names", () => cluster.kubectl(["get", "rp,rb,rem,rbud,ra,sd"]).then(() => true));
  });
  after(() => cluster?.stop());

  /** What the API server would store of a spec. @throws ApiError when it refuses it */
  const tried = async (kind: Kind, spec: unknown): Promise<unknown> =>
    (await cluster.request<{ spec: unknown }>("POST", `${collection(kind)}?dryRun=All&fieldValidation=Strict`, wrapped(kind, spec))).spec;

  const accepts = async (kind: Kind, spec: unknown): Promise<true | string> => {
    try {
      await tried(kind, spec);
      return true;
    } catch (error) {
      return said(error);
    }
  };

  test("are structural, and nobody has a word against them", async () => {
    interface Crd {
      readonly metadata: { readonly name: string };
      readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string; readonly message: string }[] };
    }
    const { items } = await cluster.get<{ items: readonly Crd[] }>("crd");
    assert.equal(items.length, KINDS.length);
    for (const { metadata, status } of items) {
      const wrong = status.conditions.filter(({ type, status: is }) =>
        ["Established", "NamesAccepted"].includes(type) ? is !== "True" : is === "True",
      );
      assert.deepEqual(wrong, [], metadata.name);
    }
  });

  test("are what the API server keeps: applied again they change nothing", async () => {
    const out = await cluster.kubectl(["apply", "-f", `${root}deploy/chart/files/crds`]);
    assert.equal(
      out
        .trim()
        .split("\n")
        .filter((line) => line.endsWith(" unchanged")).length,
      KINDS.length,
      out,
    );
  });

  test("explain every field", async () => {
    interface OpenApi {
      readonly components: { readonly schemas: Readonly<Record<string, StructuralSchema & { allOf?: unknown }>> };
    }
    const document = await cluster.until("OpenAPI", async () => {
      const found = await cluster.request<OpenApi>("GET", `/openapi/v3/apis/${API_VERSION}`);
      return Object.keys(found.components.schemas).length > KINDS.length ? found : undefined;
    });
    for (const kind of KINDS) {
      const schema = document.components.schemas[`dev.nightshift.v1alpha1.${kind}`];
      assert.ok(schema !== undefined, kind);
      assert.deepEqual(undescribed(schema), [], kind);
      assert.ok(Object.keys(schema.properties?.["spec"]?.properties ?? {}).length > 0);
    }
  });

  test("kubectl explain teaches, by the short names too", async () => {
    const explained: Readonly<Record<string, RegExp>> = {
      rp: /For which targets, on which signals/,
      "rp.spec.ladder.strategy": /ENUM:[\s\S]*RestartPod[\s\S]*A strategy that needs no runbook/,
      "rp.spec.budgets.maxUnavailable": /Most replicas of a workload/,
      "rb.spec.steps.stop.gracePeriod": /Between SIGTERM and SIGKILL/,
      "rem.status.phase": /How far the episode is/,
      "rem.status.captures.effectId": /capture step/,
      "rbud.spec.paused": /emergency\s+brake/,
      "ra.spec.decision": /Yes or no/,
      "sd.spec.unhealthyAbove": /Error rate/,
    };
    for (const [path, text] of Object.entries(explained)) assert.match(await cluster.kubectl(["explain", path]), text, path);
  });

  test("every example applies, and again", async () => {
    const files = globSync("examples/{policies,shop/policies}/*.yaml", { cwd: root });
    assert.ok(files.length >= 6);
    for (const file of files) await cluster.kubectl(["apply", "--dry-run=server", "-f", `${root}${file}`]);
    await cluster.kubectl(["apply", "-f", `${root}examples/policies`]);
    const generations = (): Promise<string> =>
      cluster.kubectl(["get", "nightshift", "-o", "jsonpath={range .items[*]}{.metadata.name}={.metadata.generation} {end}"]);
    const generation = await generations();
    await cluster.kubectl(["apply", "-f", `${root}examples/policies`]);
    assert.equal(await generations(), generation, "applied again they are the same");
    // What came out is what our own parser makes of the file.
    for (const file of globSync("examples/policies/*.yaml", { cwd: root }))
      for (const document of parseAllDocuments(readFileSync(`${root}${file}`, "utf8"))) {
        const given = document.toJS() as { kind: Kind; metadata: { name: string } };
        const { spec } = await cluster.request<{ spec: unknown }>("GET", `${collection(given.kind)}/${given.metadata.name}`);
        assert.deepEqual(spec, SCHEMAS[given.kind].parse(given).spec, `${file} ${given.metadata.name}`);
      }
    const shown = await cluster.kubectl(["get", "nightshift"]);
    assert.match(shown, /NAME +MODE +TARGET +FIRST +ACCEPTED +READY +AGE\nremediationpolicy.nightshift.dev\/payments-hung +Approve/);
  });

  describe("refuse what policy check refuses", () => {
    for (const { what, kind, spec, message } of REFUSED)
      test(what, async () => {
        const answer = await accepts(kind, spec);
        assert.match(String(answer), /^4(00|22) /);
        const byRule = customResourceDefinitions().some((crd) =>
          [...rules(crd.spec.versions[0].schema.openAPIV3Schema)].some((rule) => message.test(rule)),
        );
        if (byRule) assert.match(String(answer), message);
      });
    test("and not what is next to it", async () => {
      for (const { kind, spec } of ACCEPTED) assert.equal(await accepts(kind, spec), true, JSON.stringify(spec));
    });
    test("kubectl says which field is unknown", async () => {
      const manifest = JSON.stringify(wrapped("RemediationPolicy", { ...(ACCEPTED[0]?.spec as object), coldown: "1m" }));
      await assert.rejects(cluster.kubectl(["apply", "-f", "-"], { input: manifest }), /unknown field "spec.coldown"/);
    });
  });

  describe("say of any spec what zod says", () => {
    for (const kind of AUTHORED) {
      test(`${kind}: what people write is stored as zod reads it`, () =>
        fc.assert(
          fc.asyncProperty(SPECS[kind] as fc.Arbitrary<unknown>, async (spec) => {
            assert.deepEqual(await tried(kind, spec), SCHEMAS[kind].shape.spec.parse(spec));
          }),
          { numRuns: 60 },
        ));
      test(`${kind}: what is broken is refused by both or by neither`, () =>
        fc.assert(
          fc.asyncProperty(broken(kind), async (spec) => {
            const answer = await accepts(kind, spec);
            const { success } = SCHEMAS[kind].shape.spec.safeParse(spec);
            if (success && answer !== true) assert.match(answer, ONLY_BY_CHECK, JSON.stringify(spec));
            else assert.equal(answer === true, success, `${JSON.stringify(spec)}: ${answer}`);
          }),
          { numRuns: 150 },
        ));
    }
    test("any order of steps", () =>
      fc.assert(
        fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 7 }), async (steps) => {
          const { success } = SCHEMAS.Runbook.shape.spec.safeParse({ steps });
          assert.equal((await accepts("Runbook", { steps })) === true, success, JSON.stringify(steps));
        }),
        { numRuns: 200 },
      ));
  });

  describe("a Remediation", () => {
    const path = `${collection("Remediation")}/payments-leak-4c1f`;
    const merge = (at: string, change: unknown): Promise<{ status?: Record<string, unknown>; spec: Record<string, unknown> }> =>
      cluster.request("PATCH", at, change, "application/merge-patch+json");
    const status = (fields: object): Promise<{ status?: Record<string, unknown> }> => merge(`${path}/status`, { status: fields });

    before(async () => {
      await cluster.request("POST", collection("Remediation"), { ...remediation(), status: { phase: "Succeeded" } });
    });

    test("has no status when it is created, whatever was sent", async () => {
      const stored = await cluster.request<{ status?: unknown; spec: unknown }>("GET", path);
      assert.equal(stored.status, undefined);
      assert.deepEqual(stored.spec, SCHEMAS.Remediation.shape.spec.parse(remediation().spec));
    });
    test("never changes its spec", async () => {
      await assert.rejects(merge(path, { spec: { mode: "Observe" } }), (error) =>
        /immutable: it is its lock and its record/.test(said(error)),
      );
      await merge(path, { metadata: { labels: { seen: "yes" } } });
    });
    test("gets its status by the subresource only, with its defaults", async () => {
      assert.equal((await merge(path, { status: { phase: "Failed" } })).status, undefined);
      const { status: stored } = await status({ phase: "Pending", epoch: 3, revision: 1 });
      assert.deepEqual(stored, {
        phase: "Pending",
        epoch: 3,
        revision: 1,
        gates: [],
        attempts: [],
        artifacts: [],
        captures: [],
        conditions: [],
        signalsFolded: 0,
      });
    });
    test("refuses a deposed leader", async () => {
      await assert.rejects(status({ phase: "Executing", epoch: 2, revision: 2 }), (error) => /the writer was deposed/.test(said(error)));
      await assert.rejects(status({ epoch: null }), (error) => /the writer was deposed/.test(said(error)));
      await status({ phase: "Executing", epoch: 3, revision: 2 });
      await status({ epoch: 4, revision: 3 });
      await assert.rejects(status({ epoch: 3, revision: 4 }), (error) => /the writer was deposed/.test(said(error)));
    });
    test("refuses a revision that goes back", async () => {
      await assert.rejects(status({ revision: 2 }), (error) => /its revision never goes back/.test(said(error)));
      const stored = await cluster.request<Record<string, unknown>>("GET", path);
      const { status: _, ...without } = stored;
      await assert.rejects(cluster.request("PUT", `${path}/status`, without), (error) => /never taken away/.test(said(error)));
    });
    test("refuses a phase that there is none of, and a write over a newer one", async () => {
      await assert.rejects(status({ phase: "Dreaming" }), (error) => /Unsupported value: "Dreaming"/.test(said(error)));
      const stored = await cluster.request<{ metadata: { resourceVersion: string } }>("GET", path);
      await status({ message: "it leaks" });
      await assert.rejects(cluster.request("PUT", `${path}/status`, stored), (error) => said(error).startsWith("409 "));
    });
    test("takes captures from several agents, each by its own key", async () => {
      const apply = (manager: string, effectId: string, state: string): Promise<unknown> =>
        cluster.request(
          "PATCH",
          `${path}/status?fieldManager=${manager}`,
          {
            apiVersion: API_VERSION,
            kind: "Remediation",
            metadata: { name: "payments-leak-4c1f" },
            status: { captures: [{ effectId, state, node: manager, startedAt: "2026-11-02T03:14:02Z" }] },
          },
          "application/apply-patch+yaml",
        );
      await apply("node-a", "e1", "Running");
      await apply("node-b", "e2", "Running");
      await apply("node-a", "e1", "Done");
      const { status: stored } = await cluster.request<{ status: { captures: { effectId: string; state: string }[]; phase: string } }>(
        "GET",
        path,
      );
      assert.deepEqual(
        stored.captures.map(({ effectId, state }) => `${effectId} ${state}`),
        ["e1 Done", "e2 Running"],
      );
      assert.equal(stored.phase, "Executing");
    });
    test("tells its story to kubectl get, and is found by its fields", async () => {
      await status({
        phase: "Blocked",
        reason: "BudgetExhausted",
        message: "2 of 3 are down",
        revision: 9,
        attempts: [
          { rung: 0, what: "ScaleUp", startedAt: "2026-11-02T03:14:02Z", deadline: "2026-11-02T03:24:02Z", steps: [] },
          { rung: 1, what: "RestartPod", startedAt: "2026-11-02T03:14:02Z", deadline: "2026-11-02T03:24:02Z", steps: [] },
        ],
      });
      const [head, row] = (await cluster.kubectl(["get", "rem"])).trim().split("\n");
      assert.deepEqual(head?.split(/ {2,}/), ["NAME", "TARGET", "CAUSE", "ACTION", "PHASE", "REASON", "AGE"]);
      assert.match(row ?? "", /^payments-leak-4c1f +payments-7c9f +MemoryLeak +RestartPod +Blocked +BudgetExhausted +\d+/);
      assert.match(
        await cluster.kubectl(["get", "rem", "-o", "wide"]),
        /OUTCOME +POLICY +MODE +WORKLOAD +MESSAGE\n.*payments-leak +Enforce +payments +2 of 3 are down/,
      );
      const found = (selector: string): Promise<string> => cluster.kubectl(["get", "rem", "-o", "name", "--field-selector", selector]);
      assert.equal(await found("status.phase=Blocked,spec.policy.name=payments-leak"), "remediation.nightshift.dev/payments-leak-4c1f\n");
      assert.equal(await found("status.phase=Escalated"), "");
    });
  });

  test("an answer is given once", async () => {
    const spec = { remediation: "payments-leak-4c1f", decision: "Approved", by: "me", at: "2026-11-02T03:14:00+01:00" };
    await cluster.request("POST", collection("RemediationApproval"), wrapped("RemediationApproval", spec));
    await assert.rejects(
      cluster.request(
        "PATCH",
        `${collection("RemediationApproval")}/tried`,
        { spec: { decision: "Denied" } },
        "application/merge-patch+json",
      ),
      (error) => /an answer is not edited/.test(said(error)),
    );
  });

  test("a policy's status follows the conventions", async () => {
    const path = `${collection("RemediationPolicy")}/payments-leak`;
    const { metadata } = await cluster.request<{ metadata: { generation: number } }>("GET", path);
    const condition = {
      type: "Accepted",
      status: "True",
      reason: "Sound",
      observedGeneration: metadata.generation,
      lastTransitionTime: "2026-11-02T03:14:00Z",
    };
    await cluster.request(
      "PATCH",
      `${path}/status`,
      { status: { observedGeneration: metadata.generation, conditions: [condition] } },
      "application/merge-patch+json",
    );
    assert.match(await cluster.kubectl(["get", "rp", "payments-leak"]), /\npayments-leak +Observe +payments +RestartPod +True +/);
    const later = await cluster.request<{ metadata: { generation: number } }>("GET", path);
    assert.equal(later.metadata.generation, metadata.generation, "a status is no new generation");
    await cluster.kubectl(["wait", "--for=condition=Accepted", "rp/payments-leak", "--timeout=10s"]);
  });
});

/** The messages of all rules. */
function* rules(schema: StructuralSchema): Generator<string> {
  for (const { message } of schema["x-kubernetes-validations"] ?? []) yield message;
  for (const inner of [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties])
    if (inner !== undefined) yield* rules(inner);
}
