import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { AUTHORED, anyStep, broken, ONLY_BY_CHECK, SPECS } from "../../test/support/arbitraries.ts";
import { ACCEPTED, REFUSED } from "../../test/support/refusals.ts";
import { remediation as remediationOf } from "../../test/support/remediation.ts";
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
import { KINDS, type Kind } from "./meta.ts";
import { SCHEMAS } from "./resources.ts";
import { parseDuration } from "./units.ts";

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

describe("what zod refuses the API server refuses, and nothing else", () => {
  for (const kind of AUTHORED)
    test(kind, () => {
      let both = 0;
      fc.assert(
        fc.property(broken(kind), (spec) => {
          const { success } = SCHEMAS[kind].shape.spec.safeParse(spec);
          const said = refused(kind, spec).filter((message) => !ONLY_BY_CHECK.test(message));
          if (!success) both += 1;
          assert.equal(said.length === 0, success, `${JSON.stringify(spec)}\nrefused: ${said.join("; ")}`);
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
  for (const { what, kind, spec, message } of REFUSED)
    test(what, () =>
      assert.ok(
        refused(kind, spec).some((said) => message.test(said)),
        refused(kind, spec).join("\n"),
      ),
    );
  test("and the good ones pass", () => {
    for (const { kind, spec } of ACCEPTED) assert.deepEqual(refused(kind, spec), [], JSON.stringify(spec));
  });
});

describe("what may change", () => {
  const remediation = remediationOf();
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
