import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { parseAllDocuments } from "yaml";
import {
  anyStep,
  approvalSpec,
  policySpec,
  remediationBudgetSpec,
  runbookSpec,
  serviceDependencySpec,
} from "../../test/support/arbitraries.ts";
import { faults, holds, withDefaults } from "../../test/support/structural.ts";
import {
  crdFileName,
  crdYaml,
  customResourceDefinition,
  customResourceDefinitions,
  structuralSchema,
  undescribed,
  type StructuralSchema,
} from "./crd.ts";
import { durationExpression } from "./kubernetes.ts";
import { API_VERSION, KINDS, type Kind } from "./meta.ts";
import { SCHEMAS } from "./resources.ts";
import { parseDuration } from "./units.ts";

const SPECS = {
  RemediationPolicy: policySpec,
  Runbook: runbookSpec,
  RemediationBudget: remediationBudgetSpec,
  RemediationApproval: approvalSpec,
  ServiceDependency: serviceDependencySpec,
} as const satisfies Partial<Record<Kind, fc.Arbitrary<unknown>>>;
const AUTHORED = Object.keys(SPECS) as (keyof typeof SPECS)[];

const specSchema = (kind: Kind): StructuralSchema => structuralSchema(kind).properties?.["spec"] ?? {};
/** What the API server would say of a spec, defaults filled in. */
const refused = (kind: Kind, spec: unknown): string[] => faults(withDefaults(spec, specSchema(kind)), specSchema(kind), undefined, "spec");

/** Every schema below one, with its path. */
function* everySchema(schema: StructuralSchema, path: string): Generator<[string, StructuralSchema]> {
  yield [path, schema];
  for (const [name, property] of Object.entries(schema.properties ?? {})) yield* everySchema(property, `${path}.${name}`);
  if (schema.items !== undefined) yield* everySchema(schema.items, `${path}[]`);
  if (schema.additionalProperties !== undefined) yield* everySchema(schema.additionalProperties, `${path}{}`);
}

describe("every kind's definition", () => {
  for (const kind of KINDS) {
    const crd = customResourceDefinition(kind);
    const [version] = crd.spec.versions;
    const all = [...everySchema(version.schema.openAPIV3Schema, kind)];

    test(`${kind} is structural`, () => {
      for (const [path, schema] of all) {
        const typed = [schema.type, schema["x-kubernetes-int-or-string"], schema["x-kubernetes-preserve-unknown-fields"]];
        assert.ok(
          typed.some((what) => what !== undefined),
          `${path} has no type`,
        );
        assert.ok(schema.properties === undefined || schema.additionalProperties === undefined, path);
        assert.ok(!("additionalProperties" in schema) || typeof schema.additionalProperties === "object", path);
        for (const word of ["anyOf", "oneOf", "allOf", "not", "nullable", "$ref", "exclusiveMinimum"])
          assert.ok(!(word in schema), `${path} ${word}`);
        for (const name of schema.required ?? []) assert.ok(Object.hasOwn(schema.properties ?? {}, name), `${path}.${name}`);
      }
    });
    test(`${kind} explains every field`, () => {
      assert.deepEqual(undescribed(version.schema.openAPIV3Schema), []);
      assert.ok((version.schema.openAPIV3Schema.description ?? "").length > 0);
    });
    test(`${kind} can be matched by the API server`, () => {
      for (const [path, schema] of all) {
        // RE2 has neither look-around nor back references.
        if (schema.pattern !== undefined) assert.doesNotMatch(schema.pattern, /\(\?[=!<]|\\[1-9k]/, path);
        for (const { rule, message } of schema["x-kubernetes-validations"] ?? []) {
          assert.ok(message.length > 0 && !message.includes("\n"), path);
          assert.match(rule, /self/, path);
        }
        for (const key of schema["x-kubernetes-list-map-keys"] ?? []) {
          const property = schema.items?.properties?.[key];
          assert.ok(
            schema.items?.required?.includes(key) === true || property?.default !== undefined,
            `${path}: the key ${key} may be missing`,
          );
        }
      }
    });
    test(`${kind} has lists of bounded length wherever a rule looks`, () => {
      // An unbounded list around a rule is what breaks the API server's budget.
      const walk = (schema: StructuralSchema, unbounded: string | undefined, path: string): void => {
        if ((schema["x-kubernetes-validations"]?.length ?? 0) > 0) assert.equal(unbounded, undefined, `a rule at ${path}`);
        for (const [name, property] of Object.entries(schema.properties ?? {})) walk(property, unbounded, `${path}.${name}`);
        if (schema.items !== undefined) walk(schema.items, schema.maxItems === undefined ? path : unbounded, `${path}[]`);
        if (schema.additionalProperties !== undefined) walk(schema.additionalProperties, path, `${path}{}`);
      };
      walk(version.schema.openAPIV3Schema, undefined, kind);
    });
  }

  test("names are the field's", () => {
    assert.deepEqual(
      customResourceDefinitions().map(({ metadata, spec }) => [
        metadata.name,
        spec.names.shortNames[0],
        spec.scope,
        spec.names.categories[0],
      ]),
      [
        ["remediationpolicies.nightshift.dev", "rp", "Namespaced", "nightshift"],
        ["runbooks.nightshift.dev", "rb", "Namespaced", "nightshift"],
        ["remediations.nightshift.dev", "rem", "Namespaced", "nightshift"],
        ["remediationbudgets.nightshift.dev", "rbud", "Cluster", "nightshift"],
        ["remediationapprovals.nightshift.dev", "ra", "Namespaced", "nightshift"],
        ["servicedependencies.nightshift.dev", "sd", "Namespaced", "nightshift"],
      ],
    );
  });
  test("a status is a subresource, and comes after its object", () => {
    const withStatus = customResourceDefinitions().filter(({ spec }) => spec.versions[0].subresources !== undefined);
    assert.deepEqual(
      withStatus.map(({ spec }) => spec.names.kind),
      ["RemediationPolicy", "Remediation"],
    );
    for (const { spec } of customResourceDefinitions()) assert.deepEqual(spec.versions[0].schema.openAPIV3Schema.required, ["spec"]);
  });
  test("the columns of a Remediation tell its story", () => {
    const [version] = customResourceDefinition("Remediation").spec.versions;
    const shown = version.additionalPrinterColumns.filter(({ priority }) => priority === undefined).map(({ name }) => name);
    assert.deepEqual(shown, ["Target", "Cause", "Action", "Phase", "Reason", "Age"]);
  });
  test("columns and selectable fields lead to fields that exist", () => {
    for (const { spec } of customResourceDefinitions()) {
      const [{ schema, additionalPrinterColumns, selectableFields = [] }] = spec.versions;
      const paths = new Set([...everySchema(schema.openAPIV3Schema, "")].map(([path]) => path.replaceAll("[]", "")));
      for (const { jsonPath } of [...additionalPrinterColumns, ...selectableFields]) {
        if (jsonPath.startsWith(".metadata.")) continue;
        const plain = jsonPath.replaceAll(/\[[^\]]*\]/g, "");
        assert.ok(paths.has(plain), `${spec.names.kind} ${jsonPath}`);
      }
    }
  });
});

test("a percentage or an integer is one field", () => {
  const schema = specSchema("RemediationBudget").properties?.["budgets"]?.items?.properties?.["maxUnavailable"];
  assert.equal(schema?.["x-kubernetes-int-or-string"], true);
  assert.equal(schema?.type, undefined);
  for (const good of [0, 3, "0%", "12.5%", "100%"]) assert.deepEqual(faults(good, schema), [], String(good));
  for (const bad of [-1, "101%", "3", "%", "", "-1%"]) assert.notDeepEqual(faults(bad, schema), [], String(bad));
});

test("CEL reads durations as we do", () => {
  const schema: StructuralSchema = { type: "string" };
  fc.assert(
    fc.property(fc.stringMatching(/^([1-9]\d?d)?([1-9]\d?h)?([1-9]\d?m)?([1-9]\d?s)?$/), (text) => {
      fc.pre(text !== "");
      const seconds = (parseDuration(text) ?? 0) / 1000;
      assert.ok(holds(`${durationExpression("self")} == timestamp(${seconds})`, schema, text), text);
      assert.ok(holds(`${durationExpression("self")} < ${durationExpression("(self + '1ms')")}`, schema, text), text);
    }),
  );
});

describe("what zod accepts the API server accepts, with the same defaults", () => {
  for (const kind of AUTHORED)
    test(kind, () => {
      fc.assert(
        fc.property<[unknown]>(SPECS[kind] as fc.Arbitrary<unknown>, (spec) => {
          const parsed = SCHEMAS[kind].shape.spec.safeParse(spec);
          assert.ok(parsed.success, `the arbitrary is wrong: ${JSON.stringify(spec)} ${String(parsed.error)}`);
          const filled = withDefaults(spec, specSchema(kind));
          assert.deepEqual(filled, parsed.data);
          assert.deepEqual(refused(kind, spec), []);
        }),
        { numRuns: 200 },
      );
    });
});

/** All places in a value. */
function placesIn(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== "object" || value === null) return [path];
  const entries: [string | number, unknown][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...entries.flatMap(([key, inner]) => placesIn(inner, [...path, key]))];
}

const NOTHING = Symbol("nothing");
const JUNK: unknown[] = [NOTHING, "", "x", "0s", "1d", "100%", "0%", "Enforce", 0, 1, -1, 1.5, 1e6, true, {}, { zzz: 1 }, [], [{}], ["x"]];

/** The value with what stands at `path` replaced, or taken away. */
function replaced(value: unknown, [head, ...rest]: readonly (string | number)[], by: unknown): unknown {
  if (head === undefined) return by;
  if (Array.isArray(value))
    return value.flatMap((item, i) => (i === head ? (rest.length === 0 && by === NOTHING ? [] : [replaced(item, rest, by)]) : [item]));
  const { [head]: inner, ...others } = value as Record<string | number, unknown>;
  return rest.length === 0 && by === NOTHING ? others : { ...others, [head]: replaced(inner, rest, by) };
}

describe("what zod refuses the API server refuses, and nothing else", () => {
  // What only code can judge, or what only `policy check` refuses in zod's place: the operator says so in `Accepted`.
  const onlyByCode = (path: readonly (string | number)[]): boolean => ["schedule", "timeZone"].includes(String(path.at(-1)));
  // Said by `checkResources`, as it concerns what is well-formed.
  const onlyByCheck = /leaves nothing to scale|always more than max|forbids every action|verification ends|is above 100%|depends on itself/;

  for (const kind of AUTHORED)
    test(kind, () => {
      const place = fc.tuple(fc.nat(), fc.constantFrom(...JUNK));
      let both = 0;
      fc.assert(
        fc.property(SPECS[kind] as fc.Arbitrary<unknown>, place, (spec, [where, junk]) => {
          const places = placesIn(spec).filter((path) => path.length > 0 && !onlyByCode(path));
          const path = places[where % places.length];
          fc.pre(path !== undefined);
          const broken = replaced(spec, path, junk);
          const { success } = SCHEMAS[kind].shape.spec.safeParse(broken);
          const said = refused(kind, broken).filter((message) => !onlyByCheck.test(message));
          if (!success) both += 1;
          assert.equal(said.length === 0, success, `${JSON.stringify(broken)}\nrefused: ${said.join("; ")}`);
        }),
        { numRuns: 400 },
      );
      assert.ok(both > 60, `only ${both} of the broken ones were broken`);
    });

  test("any order of steps", () => {
    let good = 0;
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 1, maxLength: 7 }), (steps) => {
        const { success } = SCHEMAS.Runbook.shape.spec.safeParse({ steps });
        if (success) good += 1;
        assert.equal(refused("Runbook", { steps }).length === 0, success, JSON.stringify(steps));
      }),
      { numRuns: 1_500 },
    );
    assert.ok(good > 20, `only ${good} of the orders were good`);
  });
});

describe("each rule says what to write instead", () => {
  const policy = { targets: [{ name: "a" }], signals: [{ name: "s", trend: {} }], ladder: [{ strategy: "RestartPod" }] };
  const steps = (...list: object[]): object => ({ steps: list });
  const [start, ready, out, flight, stop] = [
    { startReplacement: {} },
    { awaitReady: {} },
    { removeFromTraffic: {} },
    { awaitInFlight: {} },
    { stop: {} },
  ];
  const drop = { stop: { allowCapacityDrop: true } };
  const cases: [string, keyof typeof SPECS, unknown, RegExp][] = [
    [
      "a target by name and selector",
      "RemediationPolicy",
      { ...policy, targets: [{ name: "a", selector: { matchLabels: { a: "b" } } }] },
      /either name or selector/,
    ],
    ["a target by nothing", "RemediationPolicy", { ...policy, targets: [{}] }, /either name or selector/],
    ["an empty selector", "RemediationPolicy", { ...policy, targets: [{ selector: { matchLabels: {} } }] }, /number of fields/],
    ["a signal without a condition", "RemediationPolicy", { ...policy, signals: [{ name: "s" }] }, /exactly one of trend/],
    ["a signal with two", "RemediationPolicy", { ...policy, signals: [{ name: "s", trend: {}, probe: {} }] }, /exactly one of trend/],
    [
      "a metric without a threshold",
      "RemediationPolicy",
      { ...policy, signals: [{ name: "s", metric: { name: "m" } }] },
      /either above or below/,
    ],
    ["an error rate above all", "RemediationPolicy", { ...policy, signals: [{ name: "s", errorRate: { above: "100%" } }] }, /no share/],
    [
      "two signals of a name",
      "RemediationPolicy",
      {
        ...policy,
        signals: [
          { name: "s", trend: {} },
          { name: "s", probe: {} },
        ],
      },
      /same key/,
    ],
    ["a rung of nothing", "RemediationPolicy", { ...policy, ladder: [{}] }, /either strategy or runbook/],
    ["ScaleUp without scale", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ScaleUp" }] }, /ScaleUp needs scale/],
    ["scale without ScaleUp", "RemediationPolicy", { ...policy, ladder: [{ runbook: "r", scale: { max: 3 } }] }, /scale goes with/],
    ["a scale to one", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ScaleUp", scale: { max: 1 } }] }, /nothing to scale/],
    [
      "a scale by too many",
      "RemediationPolicy",
      { ...policy, ladder: [{ strategy: "ScaleUp", scale: { by: 4, max: 3 } }] },
      /more than max/,
    ],
    ["RunJob without a command", "RemediationPolicy", { ...policy, ladder: [{ strategy: "RunJob" }] }, /RunJob needs command/],
    ["ResizeResources without resize", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ResizeResources" }] }, /needs resize/],
    [
      "a resize by two measures",
      "RemediationPolicy",
      { ...policy, ladder: [{ strategy: "ResizeResources", resize: { memory: { factor: 2, by: "1Mi", max: "1Gi" } } }] },
      /either factor or by/,
    ],
    ["drain elsewhere", "RemediationPolicy", { ...policy, ladder: [{ runbook: "r", drain: {} }] }, /CordonAndDrainNode only/],
    ["a drain of pods", "RemediationPolicy", { ...policy, ladder: [{ strategy: "CordonAndDrainNode" }] }, /targets of kind Node only/],
    ["a restart of a node", "RemediationPolicy", { ...policy, targets: [{ kind: "Node", name: "n" }] }, /no targets of kind Node/],
    ["a message elsewhere", "RemediationPolicy", { ...policy, ladder: [{ strategy: "RestartPod", message: "m" }] }, /Notify only/],
    [
      "captures elsewhere",
      "RemediationPolicy",
      { ...policy, ladder: [{ runbook: "r", captures: [{ type: "HeapSnapshot" }] }] },
      /captures go with/,
    ],
    ["an unknown strategy", "RemediationPolicy", { ...policy, ladder: [{ strategy: "Pray" }] }, /none of the values/],
    ["a freeze for ever", "RemediationPolicy", { ...policy, budgets: [{ maxUnavailable: "0%" }] }, /forbids every action/],
    [
      "a schedule without duration",
      "RemediationPolicy",
      { ...policy, budgets: [{ maxUnavailable: 1, schedule: "@daily" }] },
      /go together/,
    ],
    [
      "AllowOne of a number",
      "RemediationPolicy",
      { ...policy, budgets: [{ maxUnavailable: 1, whenRoundsToZero: "AllowOne" }] },
      /AllowOne goes with/,
    ],
    ["no cron", "RemediationPolicy", { ...policy, windows: [{ schedule: "at night", duration: "1h" }] }, /does not match/],
    [
      "a verification that cannot end well",
      "RemediationPolicy",
      { ...policy, verify: { stableFor: "1d", timeout: "23h" } },
      /verification ends/,
    ],
    ["a duration of nothing", "RemediationPolicy", { ...policy, maxSignalAge: "0s" }, /longer than zero/],
    ["an unknown field", "RemediationPolicy", { ...policy, coldown: "1m" }, /unknown field/],
    ["a step of nothing", "Runbook", steps({ name: "n" }), /exactly one of/],
    ["a step of two", "Runbook", steps({ ...start, ...ready }), /exactly one of/],
    ["a stop without a replacement", "Runbook", steps(out, stop), /drops capacity/],
    ["a stop before its replacement is ready", "Runbook", steps(start, out, stop, ready), /before the replacement is ready/],
    ["a stop in traffic", "Runbook", steps(start, ready, stop), /loses requests/],
    ["a capture after the stop", "Runbook", steps(drop, { capture: { type: "HeapSnapshot" } }), /capture comes after/],
    [
      "a capture after a job",
      "Runbook",
      steps({ runJob: { command: ["x"] } }, { capture: { type: "HeapSnapshot" } }),
      /capture comes after/,
    ],
    ["a wait for nothing", "Runbook", steps(ready), /nothing to wait for/],
    ["a wait in traffic", "Runbook", steps(flight), /requests keep coming/],
    ["two stops", "Runbook", steps(drop, drop), /one stop/],
    ["a stop and an eviction", "Runbook", steps(drop, { evict: {} }), /one stop or evict/],
    ["a way back before the way", "Runbook", steps({ scaleBack: {} }, { scale: { max: 3 } }), /put scale before scaleBack/],
    ["a drain of an open node", "Runbook", steps({ drain: {} }), /put cordon before drain/],
    ["an uncordon of nothing", "Runbook", steps({ uncordon: {} }), /put cordon before uncordon/],
    ["two replacements", "Runbook", steps(start, start), /one replacement/],
    ["out of traffic too late", "Runbook", steps(drop, out), /too late/],
    ["out of traffic for good", "Runbook", steps(out), /add a stop/],
    [
      "a dependency on itself",
      "ServiceDependency",
      { from: { name: "a", namespace: "n" }, to: { name: "a", namespace: "n" } },
      /depends on itself/,
    ],
  ];
  for (const [what, kind, spec, message] of cases)
    test(what, () =>
      assert.ok(
        refused(kind, spec).some((said) => message.test(said)),
        refused(kind, spec).join("\n"),
      ),
    );
  test("and the good ones pass", () => {
    assert.deepEqual(refused("RemediationPolicy", policy), []);
    assert.deepEqual(refused("Runbook", steps(start, ready, out, flight, { capture: { type: "HeapSnapshot" } }, stop)), []);
    assert.deepEqual(refused("ServiceDependency", { from: { name: "a" }, to: { name: "a", namespace: "n" } }), []);
  });
});

describe("what may change", () => {
  const target = { kind: "Pod", namespace: "d", name: "p", uid: "1" };
  const remediation = {
    apiVersion: API_VERSION,
    kind: "Remediation",
    metadata: { name: "r", namespace: "d" },
    spec: {
      policy: { name: "p", uid: "1", generation: 1 },
      mode: "Enforce",
      signal: {
        name: "s",
        condition: "trend",
        source: "Kubernetes",
        startsAt: "2026-11-02T03:14:00Z",
        receivedAt: "2026-11-02T03:14:00Z",
        fingerprint: "f",
      },
      signalTarget: target,
      remediationTarget: target,
      workload: { ...target, kind: "Deployment" },
      diagnosis: {
        cause: "MemoryLeak",
        rootCauseKey: "k",
        confidence: 0.5,
        summary: "leaks",
        evidence: [{ kind: "Trend", message: "m", values: { a: 1, b: "x", c: true } }],
      },
      ladder: [{ strategy: "RestartPod" }],
      startedAt: "2026-11-02T03:14:00Z",
    },
  };
  const schema = structuralSchema("Remediation");
  const update = (from: object, to: object): string[] =>
    faults(withDefaults({ ...remediation, ...to }, schema), schema, withDefaults({ ...remediation, ...from }, schema));

  test("a Remediation without a status is one", () => assert.deepEqual(faults(withDefaults(remediation, schema), schema), []));
  test("its spec does not change", () => {
    assert.match(update({}, { spec: { ...remediation.spec, mode: "Observe" } }).join(), /immutable/);
    assert.deepEqual(update({}, {}), []);
  });
  const status = (epoch: number | undefined, revision: number): object => ({
    status: { phase: "Pending", revision, ...(epoch === undefined ? {} : { epoch }) },
  });
  test("its epoch never goes back, nor away", () => {
    assert.deepEqual(update({}, status(4, 0)), []);
    assert.deepEqual(update(status(undefined, 0), status(undefined, 0)), []);
    assert.deepEqual(update(status(3, 0), status(4, 0)), []);
    assert.deepEqual(update(status(3, 0), status(3, 0)), []);
    assert.match(update(status(3, 0), status(2, 1)).join(), /deposed/);
    assert.match(update(status(3, 0), status(undefined, 1)).join(), /deposed/);
  });
  test("nor its revision, nor the status as a whole", () => {
    assert.match(update(status(3, 5), status(3, 4)).join(), /never goes back/);
    assert.match(update(status(3, 5), {}).join(), /never taken away/);
  });
  test("an answer is not edited", () => {
    const approval = { remediation: "r", decision: "Approved", by: "me", at: "2026-11-02T03:14:00Z" };
    const spec = specSchema("RemediationApproval");
    assert.deepEqual(faults(approval, spec, approval), []);
    assert.match(faults({ ...approval, decision: "Denied" }, spec, approval).join(), /not edited/);
  });
});

test("the YAML says the same, without anchors", () => {
  const crds = customResourceDefinitions();
  const text = crdYaml(crds);
  assert.doesNotMatch(text, /(^|\s)[&*][a-z]\d+/m);
  assert.deepEqual(
    parseAllDocuments(text).map((document) => document.toJS() as unknown),
    JSON.parse(JSON.stringify(crds)),
  );
  assert.equal(crdFileName(customResourceDefinition("Runbook")), "nightshift.dev_runbooks.yaml");
  // kubectl apply keeps the whole object in an annotation of at most 256 KiB.
  for (const crd of crds) assert.ok(JSON.stringify(crd).length < 200_000, crd.metadata.name);
});
