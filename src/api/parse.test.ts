import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { z } from "zod";
import { MAX_FILE_CHARS, parseDocument, parseResources, PROBLEM_CODES, problemText, type Problem } from "./parse.ts";
import { STRATEGIES } from "./policy.ts";

const POLICY = `apiVersion: nightshift.dev/v1alpha1
kind: RemediationPolicy
metadata:
  name: payments
spec:
  targets:
    - name: payments
  signals:
    - name: leak
      trend:
        horizon: 10m
  ladder:
    - strategy: RestartPod
`;
const errorsOf = (text: string): Problem[] => parseResources(text, "f.yaml").errors;
/** The only error of a text, as `line:column CODE path`. */
function only(text: string): string {
  const errors = errorsOf(text);
  assert.equal(errors.length, 1, JSON.stringify(errors, null, 1));
  const [e] = errors;
  return e === undefined ? "" : `${e.line}:${e.column} ${e.code} ${e.path}`;
}
const swap = (from: string, to: string): string => {
  assert.ok(POLICY.includes(from), from);
  return POLICY.replace(from, to);
};

test("a good policy has its defaults, and says where it stands", () => {
  const { resources, errors } = parseResources(`# first\n---\n${POLICY}`, "f.yaml");
  assert.deepEqual(errors, []);
  const [parsed] = resources;
  assert.ok(parsed?.resource.kind === "RemediationPolicy");
  assert.equal(parsed.resource.spec.mode, "Observe");
  assert.equal(parsed.resource.spec.budgets[0]?.maxUnavailable, 1);
  assert.equal(parsed.resource.metadata.namespace, "default");
  assert.deepEqual(parsed.at, { file: "f.yaml", line: 3, column: 1 });
  assert.deepEqual(parsed.locate(["spec", "ladder", 0, "strategy"]), { file: "f.yaml", line: 15, column: 17 });
  assert.deepEqual(
    parsed.locate(["spec", "cooldown"]),
    { file: "f.yaml", line: 7, column: 1 },
    "what is not written: what it would stand in",
  );
});

test("JSON is read too, tabs and all", () => {
  const json = JSON.stringify(
    { apiVersion: "nightshift.dev/v1alpha1", kind: "RemediationBudget", metadata: { name: "b" }, spec: { maxConcurrent: 2 } },
    null,
    "\t",
  );
  assert.deepEqual(errorsOf(json), []);
});

test("several documents: the good ones are read, each fault is named where it is", () => {
  const { resources, errors } = parseResources(
    `${POLICY}---\n${swap("RestartPod", "Restart")}---\n${swap("name: payments\nspec", "name: two\nspec")}`,
    "f",
  );
  assert.equal(resources.length, 2);
  assert.deepEqual(
    errors.map((e) => [e.code, e.line]),
    [["UNKNOWN_STRATEGY", 27]],
  );
});

describe("names place, path and what to write instead", () => {
  test("an unknown strategy lists the valid ones", () => {
    const text = swap("RestartPod", "RestartPot");
    assert.equal(only(text), "13:17 UNKNOWN_STRATEGY spec.ladder[0].strategy");
    const fix = errorsOf(text)[0]?.fix ?? "";
    assert.match(fix, /did you mean RestartPod\?/);
    for (const strategy of STRATEGIES) assert.ok(fix.includes(strategy), strategy);
  });
  test("a strategy that is not built is unknown, wherever it is spoken of", () => {
    for (const strategy of ["ReclaimDisk", "RestoreLastKnownGood"]) {
      const [error] = errorsOf(swap("RestartPod", strategy));
      assert.deepEqual([error?.code, error?.message], ["UNKNOWN_STRATEGY", `unknown strategy ${JSON.stringify(strategy)}`]);
      assert.match(error?.fix ?? "", /valid: RestartPod, RollingRestart, ScaleUp, EvictPod, RollbackRollout, ResizeResources/);
    }
  });
  test("an unknown field, with what was meant", () => {
    const text = swap("  ladder:", "  coldown: 5m\n  ladder:");
    assert.equal(only(text), "12:3 UNKNOWN_FIELD spec.coldown");
    assert.equal(errorsOf(text)[0]?.fix, "did you mean cooldown?");
  });
  test("an unknown field that resembles none lists the valid ones", () => {
    assert.match(errorsOf(swap("  ladder:", "  zzz: 5m\n  ladder:"))[0]?.fix ?? "", /^valid here: mode, paused, targets/);
  });
  test("a wrong type shows the form that is expected", () => {
    const text = swap("10m", "10");
    assert.equal(only(text), "11:18 WRONG_TYPE spec.signals[0].trend.horizon");
    assert.equal(errorsOf(text)[0]?.message, "expected a duration such as 30s, 5m or 1h30m, found the number 10");
  });
  test("a list that is none", () => {
    assert.equal(only(swap("    - name: payments\n", "    name: payments\n")), "7:5 WRONG_TYPE spec.targets");
  });
  test("text that a number was written for", () => {
    const text = swap("name: leak", "name: 1");
    assert.equal(only(text), "9:13 WRONG_TYPE spec.signals[0].name");
    assert.equal(errorsOf(text)[0]?.fix, 'put it in quotes: "1"');
  });
  test("an invalid value", () => {
    assert.equal(only(swap("10m", "ten minutes")), "11:18 INVALID_VALUE spec.signals[0].trend.horizon");
    assert.equal(only(swap("10m", "0s")), "11:18 INVALID_VALUE spec.signals[0].trend.horizon");
  });
  test("a value out of a fixed set", () => {
    const text = swap("  ladder:", "  mode: enforce\n  ladder:");
    assert.equal(only(text), "12:9 INVALID_VALUE spec.mode");
    assert.match(errorsOf(text)[0]?.fix ?? "", /did you mean Enforce/);
  });
  test("a missing field, at what it is missing in, with what it is for", () => {
    const text = swap("  ladder:\n    - strategy: RestartPod\n", "");
    assert.equal(only(text), "5:1 MISSING_FIELD spec.ladder");
    assert.match(errorsOf(text)[0]?.fix ?? "", /least disruptive first/);
  });
  test("an empty field", () => {
    const text = swap("      trend:\n        horizon: 10m\n", "      trend:\n");
    assert.equal(only(text), "10:7 WRONG_TYPE spec.signals[0].trend");
    assert.match(errorsOf(text)[0]?.fix ?? "", /trend: \{\}/);
  });
  test("an impossible order of steps, at the step", () => {
    const runbook = `apiVersion: nightshift.dev/v1alpha1
kind: Runbook
metadata: { name: r }
spec:
  steps:
    - startReplacement: {}
    - stop: {}
    - capture: { type: HeapSnapshot }
`;
    assert.deepEqual(
      errorsOf(runbook).map((e) => [e.code, e.line, e.path]),
      [
        ["IMPOSSIBLE_STEP_ORDER", 7, "spec.steps[1]"],
        ["IMPOSSIBLE_STEP_ORDER", 8, "spec.steps[2]"],
      ],
    );
  });
  test("a step of no type, and one of two", () => {
    const runbook = `apiVersion: nightshift.dev/v1alpha1
kind: Runbook
metadata: { name: r }
spec:
  steps:
    - name: nothing
    - { notify: { message: m }, wait: { for: 1s } }
`;
    assert.deepEqual(
      errorsOf(runbook).map((e) => [e.code, e.line, e.path]),
      [
        ["INVALID_VALUE", 6, "spec.steps[0]"],
        ["INVALID_VALUE", 7, "spec.steps[1]"],
      ],
    );
  });
  test("a status, which nobody writes", () => {
    assert.equal(only(`${POLICY}status: {}\n`), "14:1 SERVER_FIELD status");
  });
  test("a budget that says two things", () => {
    const text = swap("  ladder:", "  budgets:\n    - maxUnavailable: 1\n      whenRoundsToZero: AllowOne\n  ladder:");
    assert.equal(only(text), "14:25 IMPOSSIBLE_BUDGET spec.budgets[0].whenRoundsToZero");
    assert.equal(
      only(text.replace("maxUnavailable: 1", "maxUnavailable: 0.0%")),
      "14:25 IMPOSSIBLE_BUDGET spec.budgets[0].whenRoundsToZero",
    );
  });
  test("an empty list of windows", () => {
    assert.equal(only(swap("  ladder:", "  windows: []\n  ladder:")), "12:12 INVALID_VALUE spec.windows");
  });
  test("a path through an alias is found", () => {
    const text = swap("  ladder:\n    - strategy: RestartPod", "  ladder: [&r { strategy: Bad }, *r]");
    assert.deepEqual(
      errorsOf(text).map((e) => [e.code, e.path, e.line]),
      [
        ["UNKNOWN_STRATEGY", "spec.ladder[0].strategy", 12],
        ["UNKNOWN_STRATEGY", "spec.ladder[1].strategy", 12],
      ],
    );
  });
});

describe("what is no resource", () => {
  test("kinds", () => {
    assert.equal(only(swap("kind: RemediationPolicy", "kind: RemediationPolcy")), "2:7 UNKNOWN_KIND kind");
    assert.match(errorsOf(swap("kind: RemediationPolicy", "kind: RemediationPolcy"))[0]?.fix ?? "", /did you mean RemediationPolicy/);
    assert.equal(only(swap("v1alpha1", "v1")), "1:13 UNKNOWN_KIND apiVersion");
    assert.equal(only(swap("kind: RemediationPolicy\n", "")), "1:1 MISSING_FIELD kind");
    assert.equal(only(swap("apiVersion: nightshift.dev/v1alpha1\n", "")), "1:1 MISSING_FIELD apiVersion");
  });
  test("kinds that are not written in files say why", () => {
    for (const kind of ["Remediation", "RemediationApproval"]) {
      const text = swap("kind: RemediationPolicy", `kind: ${kind}`);
      assert.equal(only(text), "2:7 KIND_NOT_ACCEPTED kind");
      assert.ok((errorsOf(text)[0]?.fix ?? "").length > 40);
    }
  });
  test("metadata of the store, and a namespace of what has none", () => {
    for (const field of ["uid: x", "resourceVersion: x", "generation: 1", "creationTimestamp: 2026-01-01T00:00:00Z"])
      assert.equal(
        only(swap("  name: payments\nspec", `  name: payments\n  ${field}\nspec`)),
        `5:3 SERVER_FIELD metadata.${field.split(":")[0]}`,
      );
    const budget = "apiVersion: nightshift.dev/v1alpha1\nkind: RemediationBudget\nmetadata: { name: b, namespace: x }\nspec: {}\n";
    assert.equal(only(budget), "3:22 INVALID_VALUE metadata.namespace");
  });
  test("lists, text, numbers", () => {
    for (const text of ["- a\n", "text\n", "1\n", "true\n"]) assert.equal(only(text), "1:1 WRONG_TYPE ");
  });
  test("nothing at all is nothing", () => {
    for (const text of ["", "# only a comment\n", "---\n---\n", "null\n"])
      assert.deepEqual(parseResources(text, "f"), { resources: [], errors: [] });
  });
});

describe("YAML that is none, or too much", () => {
  test("syntax", () => {
    for (const text of ["a: [\n b: }", "a: b: c", "\t- a", "a: !!js/function 'x'", "a: *missing", '"open'])
      for (const error of errorsOf(text)) assert.equal(error.code, "YAML_SYNTAX", text);
    for (const text of ["a: [\n b: }", "a: b: c", "a: !!js/function 'x'", "a: *missing", '"open'])
      assert.ok(errorsOf(text).length > 0, text);
  });
  test("duplicate keys, also quoted and deep", () => {
    const text = swap("  ladder:", "  cooldown: 1m\n  'cooldown': 2m\n  ladder:");
    assert.equal(only(text), "13:3 DUPLICATE_KEY ");
    assert.match(errorsOf(text)[0]?.message ?? "", /"cooldown"/);
  });
  test("mappings and lists as names are refused, and cost no time that doubles with each level", () => {
    for (const text of ["? ".repeat(60), `${"{".repeat(60)}a: b${"}: c".repeat(60)}`, "? [a, b]\n: c\n", "a: &a [b]\n*a : c\n"])
      for (const { code, message } of errorsOf(text))
        assert.deepEqual([code, message.slice(0, 20)], ["YAML_SYNTAX", "a field's name must "], text);
  });
  test("what is said of a long name is short", () => {
    const long = "x".repeat(5_000);
    for (const text of [`${long}: 1`, `apiVersion: nightshift.dev/v1alpha1\nkind: Runbook\n${long}: 1`, `a: 1\n${long}: 1\n${long}: 2`])
      for (const problem of errorsOf(text)) assert.ok(problemText(problem).length < 700, problemText(problem));
  });
  test("an alias bomb is not expanded", () => {
    const rows = ["a: &a [x, x, x, x, x, x, x, x, x]"];
    for (let i = 1; i < 9; i += 1) {
      const [me, before] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)];
      rows.push(`${me}: &${me} [${Array.from({ length: 9 }, () => `*${before}`).join(", ")}]`);
    }
    assert.equal(only(rows.join("\n")), "1:1 ALIAS_LIMIT ");
  });
  test("a file that is too large", () => {
    assert.equal(only("#".repeat(MAX_FILE_CHARS + 1)), "1:1 FILE_TOO_LARGE ");
    assert.deepEqual(errorsOf("#".repeat(MAX_FILE_CHARS)), []);
  });
  test("nesting that no stack holds", () => {
    for (const open of ["[", "{a: ", "- ", "? "])
      assert.ok(
        errorsOf(open.repeat(30_000)).every((e) => e.code === "YAML_SYNTAX"),
        open,
      );
    assert.ok(errorsOf("[".repeat(30_000)).length === 1);
  });
  test("many keys in a mapping take no quadratic time", { timeout: 60_000 }, () => {
    // As large as a file may be. The library's own check for duplicates took minutes for it.
    const keys = Array.from({ length: 24_000 }, (_, i) => `k${i}: 1`).join("\n");
    assert.equal(errorsOf(keys)[0]?.code, "MISSING_FIELD");
  });
  test("keys that are special in JavaScript are fields like others", () => {
    const text = POLICY.replace("metadata:", "__proto__: { polluted: true }\nconstructor: 1\nmetadata:");
    assert.deepEqual(
      errorsOf(text).map((e) => [e.code, e.path]),
      [
        ["UNKNOWN_FIELD", "__proto__"],
        ["UNKNOWN_FIELD", "constructor"],
      ],
    );
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
  });
});

test("parseDocument: one document by any schema", () => {
  const schema = z.strictObject({ port: z.int().min(1), name: z.string().default("x") });
  assert.deepEqual(parseDocument("port: 80\n", "s", schema), { value: { port: 80, name: "x" }, errors: [] });
  const code = (text: string): string[] => parseDocument(text, "s", schema).errors.map((e) => `${e.line} ${e.code}`);
  assert.deepEqual(code("prot: 80\n"), ["1 MISSING_FIELD", "1 UNKNOWN_FIELD"]);
  assert.deepEqual(code(""), ["1 NOT_ONE_DOCUMENT"]);
  assert.deepEqual(code("port: 80\n---\nport: 81\n"), ["3 NOT_ONE_DOCUMENT"]);
  assert.deepEqual(code("port: [\n"), ["2 YAML_SYNTAX"]);
  assert.equal(parseDocument("port: 0\n", "s", schema).value, undefined);
});

test("problemText reads like a compiler's", () => {
  const [error] = errorsOf(swap("  ladder:", "  coldown: 5m\n  ladder:"));
  assert.ok(error);
  assert.equal(problemText(error), 'f.yaml:12:3: error UNKNOWN_FIELD spec.coldown: unknown field "coldown"\n  fix: did you mean cooldown?');
});

test("property: any text gives problems with a place inside it and a known code, and never throws", () => {
  const pieces = fc.array(
    fc.oneof(
      fc.constantFrom(...POLICY.split("\n").map((l) => `${l}\n`)),
      fc.string({ maxLength: 12 }),
      fc.constantFrom(": ", "- ", "{", "]", "&a ", "*a", "---\n", "? ", "|\n", "!!map "),
    ),
    { maxLength: 25 },
  );
  fc.assert(
    fc.property(
      fc.oneof(
        pieces.map((p) => p.join("")),
        fc.string({ unit: "binary", maxLength: 80 }),
      ),
      (text) => {
        const lines = text.split(/\r\n|\n|\r/).length;
        for (const error of errorsOf(text)) {
          assert.ok(Object.hasOwn(PROBLEM_CODES, error.code));
          assert.ok(
            error.line >= 1 && error.line <= lines && error.column >= 1,
            `${error.line}:${error.column} of ${JSON.stringify(text)}`,
          );
          assert.ok(error.message.length > 0);
        }
      },
    ),
    { numRuns: 1_000 },
  );
});

test("a hint names an action, and a number stands for three of them only", () => {
  const hint = (fields: string): string => swap("      trend:\n        horizon: 10m\n", `      hint: {${fields}}\n`);
  assert.deepEqual(errorsOf(hint("action: pool-reset")), []);
  assert.deepEqual(errorsOf(hint("action: my-own-0, saturationType: connections, activeFor: 30s")), []);
  assert.deepEqual(errorsOf(hint("action: cache-flush, bareValue: SingleAddition")), []);
  assert.match(only(hint("action: my-own, bareValue: SingleAddition")), /bareValue/);
  for (const name of ["", "Pool", "pool reset", "-a", "a-", "a".repeat(64)])
    assert.match(only(hint(`action: ${JSON.stringify(name)}`)), /action/);
  assert.match(only(hint("saturationType: connections")), /action/);
});

test("a log signal has a pattern of RE2, and a window of an hour at most", () => {
  const log = (fields: string): string => swap("      trend:\n        horizon: 10m\n", `      log: {${fields}}\n`);
  assert.deepEqual(errorsOf(log("")), []);
  assert.deepEqual(
    errorsOf(log("severity: WARN, body: 'pool (exhausted|timed out)', above: 10, window: 1h, attributes: {exception.type: E}")),
    [],
  );
  for (const pattern of ["(", "(?=a)b", "(a)\\\\1", "[z-a]"]) assert.match(only(log(`body: "${pattern}"`)), /body/, pattern);
  assert.match(only(log("window: 61m")), /window/);
  assert.match(only(log("severity: LOUD")), /severity/);
  assert.match(only(log("above: -1")), /above/);
});

test("what is no duration is refused as that, also where durations are compared", () => {
  for (const signal of [
    "log: { window: 0001-01 }",
    "promql: { query: up, above: 1, every: 1x }",
    "promql: { query: up, above: 1, every: 99999999999999999999d }",
  ]) {
    const text = `apiVersion: nightshift.dev/v1alpha1\nkind: RemediationPolicy\nmetadata: { name: p }\nspec:\n  targets: [{ name: x }]\n  signals: [{ name: s, ${signal} }]\n  ladder: [{ strategy: RestartPod }]\n`;
    const { errors } = parseResources(text, "p.yaml");
    assert.deepEqual(
      errors.map(({ code, path }) => [code, /^spec\.signals\[0\]\.(log\.window|promql\.every)$/.test(path)]),
      [["INVALID_VALUE", true]],
    );
    assert.match(errors[0]?.message ?? "", /expected a duration such as/);
  }
});
