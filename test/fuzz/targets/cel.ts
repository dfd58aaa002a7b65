import assert from "node:assert/strict";
import { checkExpression } from "../../../src/api/expression.ts";
import { OBJECT_VARIABLES, SIGNAL_VARIABLES } from "../../../src/api/signal-expression.ts";
import { celDuration, celMap, celTime, evaluable, type ExpressionValue } from "../../../src/orient/expression.ts";
import { changedBytes } from "../bytes.ts";
import { ACCEPTED, decoded, type FuzzTarget, seedsOf } from "../target.ts";

const seeds = seedsOf("cel", ".cel");

/** What CEL has, and what is dear or endless in a language that is not bounded. */
const WORDS = [
  " && ",
  " || ",
  "!",
  " == ",
  " in ",
  " ? ",
  " : ",
  "(",
  ")",
  "[0]",
  "['a']",
  ".all(x, x)",
  ".exists(x, x.name == x.name)",
  ".map(x, [x, x])",
  ".filter(x, true)",
  ".matches('^(a+)+$')",
  ".size()",
  "has(target.node)",
  "duration('99999999h')",
  "timestamp('9999-12-31T23:59:59Z')",
  "int('9223372036854775807')",
  "-9223372036854775808",
  "1.0/0.0",
  "1/0",
  "1u",
  "b'a'",
  "r'\\'",
  "'''",
  "null",
  "{'a': 1}",
  "signal",
  "target.labels",
  "metrics",
  "graph.callers",
  "changes",
  "object",
  "__proto__",
  "constructor",
];

const services = Array.from({ length: 20 }, (_, i) =>
  celMap({ name: `service-${i}`, namespace: "shop", desired: 3n, ready: BigInt(i % 4) }),
);
const VALUES: Readonly<Record<string, ExpressionValue>> = {
  signal: celMap({
    name: "full",
    condition: "metric",
    source: "Prometheus",
    cause: "MetricThreshold",
    confidence: 1,
    startsAt: celTime(1_800_000_000_000),
    age: celDuration(90_000),
    values: celMap({ restarts: 3, value: 7 }),
  }),
  target: celMap({
    kind: "Pod",
    name: "a".repeat(60),
    namespace: "shop",
    labels: celMap({ app: "payments", tier: "web" }),
    workload: celMap({
      kind: "Deployment",
      name: "payments",
      labels: celMap({ app: "payments" }),
      desired: 3n,
      ready: 2n,
      rollingOut: false,
    }),
    ready: false,
    phase: "Running",
    restarts: 4n,
    age: celDuration(3_600_000),
  }),
  metrics: celMap({ memory: 1e8, "queue.length": 7 }),
  graph: celMap({ dependencies: services, callers: services }),
  changes: [celMap({ kind: "Rollout", name: "payments", namespace: "shop", what: "image", age: celDuration(60_000) })],
  object: celMap({ kind: "Certificate", status: celMap({ phase: "Expired" }) }),
};

/** Expressions of policies: read, checked, and worked out where they are right. */
export const cel: FuzzTarget = {
  name: "cel",
  seeds,
  inputs: changedBytes(seeds, WORDS),
  check(input) {
    const text = Buffer.from(input).toString();
    const [outcome = ACCEPTED] = [SIGNAL_VARIABLES, OBJECT_VARIABLES].map((variables) => {
      let said = ACCEPTED;
      decoded(
        new Set(),
        () => checkExpression(text, variables).problems,
        (problems) => {
          for (const { line, column, message } of problems) {
            assert.ok(message !== "" && message.length < 3_000, `a message of ${message.length} characters`);
            assert.ok(line >= 1 && line <= text.split("\n").length + 1 && column >= 1, `at ${line}:${column}`);
          }
          if (problems.length > 0) said = "REFUSED";
        },
      );
      // What it costs is bounded, so that each comes to its end.
      const verdict = evaluable(text, variables).evaluate(VALUES);
      assert.deepEqual(evaluable(text, variables).evaluate(VALUES), verdict);
      assert.ok(said === ACCEPTED || verdict.state === "Missing", `${verdict.state} of an expression that is refused`);
      return said;
    });
    return outcome;
  },
};
