import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { checkExpression, MAX_EXPRESSION_CHARS } from "../api/expression.ts";
import { checkSignalExpression, OBJECT_VARIABLES, SIGNAL_VARIABLES } from "../api/signal-expression.ts";
import { celDuration, celMap, celOf, celTime, evaluable, type ExpressionValue } from "./expression.ts";

const at = (text: string): string[] =>
  checkSignalExpression(text).problems.map(({ line, column, message }) => `${line}:${column} ${message}`);

describe("an expression is right when it", () => {
  for (const text of [
    "signal.age > duration('5m') && target.restarts >= 3",
    "metrics['queue.length'] > 100 && metrics.memory < 5e8",
    "target.labels['tier'] in ['web', 'api'] || target.workload.labels.app.startsWith('pay')",
    "graph.dependencies.all(d, d.ready == d.desired)",
    "graph.callers.filter(c, c.ready < c.desired).size() > 1",
    "graph.dependencies.map(d, d.name).exists(n, n.matches('^bank-[0-9]+$'))",
    "signal.values.restarts + 1.0 > 3",
    "has(target.node) ? target.node != 'n1' : true",
    "kernel.lock_owner_cycle == true",
    "size(changes) == 0 || changes.exists_one(c, c.kind == 'Rollout' && c.age < duration('30m'))",
    "signal.startsAt + duration('1m') < timestamp('2030-01-01T00:00:00Z')",
    "int(signal.values.value) % 2 == 0",
    "!(target.workload.rollingOut)\n  && target.phase == 'Running'",
  ])
    test(text, () => assert.deepEqual(at(text), []));
});

describe("an expression is refused, and it is said where, for", () => {
  for (const [what, text, says] of [
    ["a name that there is none of", "targt.restarts > 3", /^1:1 there is no variable targt; did you mean target\?$/],
    ["a field that there is none of", "true &&\n  target.restart > 3", /^2:9 target has no field restart; did you mean restarts\?$/],
    ["a field of a list's elements", "graph.callers.exists(c, c.redy > 1)", /caller|service has no field redy; did you mean ready\?/],
    ["a function that there is none of", "target.name.startWith('a')", /there is no function startWith; did you mean startsWith\?/],
    ["what is no bool", "target.restarts + 1", /^1:17 the expression is a int, and a bool is needed$/],
    ["a comparison of two types", "target.name > 3", /> cannot compare string and int/],
    ["an equality that never holds", "target.ready == 'yes'", /a bool is never equal to a string/],
    ["a sum of two kinds of number", "signal.confidence + 1 > 2", /write 5.0 for a double/],
    ["a syntax error", "target.restarts >\n > 3", /^\d:\d+ syntax error: /],
    ["a syntax error after carriage returns, which end no line", "\r\r1e9signal.age", /^1:\d+ syntax error: /],
    ["a chain that is no bool", "target.name && true", /&& is of bool, and this is a string/],
    ["a list of two types", "target.name in ['a', 1]", /a list of string and int/],
    ["what is asked of data that is not there", "!has(metrics.queue)", /is missing data, and no reason/],
    ["what is asked of a graph that nobody knows", "!has(graph.callers)", /of graph is missing data, and no reason/],
    ["a count of data that is not there", "size(metrics) == 0", /its entries are reached by name/],
    ["a metric by a name that is worked out", "metrics[target.name] > 1", /must stand in the expression/],
    ["a pattern that is worked out", "target.name.matches(target.node)", /must stand in the expression/],
    ["a list that is made of itself", "[target.name].map(x, [x, x]).size() > 1", /of constants only/],
    ["maps", "{'a': 1}.a == 1", /are not made here/],
    ["loops in loops in loops", "changes.all(a, changes.all(b, changes.all(c, a.name == c.name)))", /more than 2 deep/],
    ["many loops", Array.from({ length: 5 }, () => "changes.exists(c, c.name == '')").join(" || "), /more than 4 loops/],
    ["too many parts", Array.from({ length: 120 }, () => "target.ready").join(" && "), /more than 300 parts/],
    ["too many characters", `true ${" ".repeat(MAX_EXPRESSION_CHARS)}`, /longer than 2048 characters/],
  ] as const)
    test(what, () => {
      const problems = at(text);
      assert.ok(
        problems.some((problem) => says.test(problem)),
        problems.join("\n") || "nothing was said",
      );
    });
});

describe("what comes of an expression", () => {
  const now = 1_700_000_000_000;
  const values = (more: Readonly<Record<string, ExpressionValue>> = {}): Record<string, ExpressionValue> => ({
    signal: celMap({ name: "s", age: celDuration(400_000), startsAt: celTime(now), values: celMap({ restarts: 4, share: 0.5 }) }),
    target: celMap({ name: "payments-1", restarts: 4n, labels: celMap({ tier: "web" }), ready: false }),
    metrics: celMap({ "queue.length": 120 }),
    graph: celMap({ dependencies: [celMap({ name: "bank", ready: 1n, desired: 2n }), celMap({ name: "fx", ready: 2n, desired: 2n })] }),
    ...more,
  });
  const of = (text: string, given = values()): string => {
    const verdict = evaluable(text, SIGNAL_VARIABLES).evaluate(given);
    return verdict.state === "Missing" ? `Missing: ${verdict.why}` : verdict.state;
  };

  test("is true or false", () => {
    assert.equal(of("signal.age > duration('5m') && target.restarts >= 4 && metrics['queue.length'] > 100"), "True");
    assert.equal(of("signal.age > duration('7m')"), "False");
    assert.equal(of("signal.values.restarts > 3 && signal.values.share < 1"), "True");
    assert.equal(of("graph.dependencies.exists(d, d.ready < d.desired)"), "True");
    assert.equal(of("graph.dependencies.filter(d, d.ready < d.desired).map(d, d.name) == ['bank']"), "True");
    assert.equal(of("target.labels.tier.matches('^w.b$')"), "True");
  });

  test("is missing, and never true, where something that decides it is not there", () => {
    assert.match(of("metrics['nowhere'] > 1"), /^Missing: .*nowhere/);
    assert.match(of("!(metrics['nowhere'] > 1)"), /^Missing/);
    assert.match(of("kernel.stalled != true"), /^Missing: kernel is not there/);
    assert.match(of("changes.size() == 0"), /^Missing: changes is not there/);
    assert.match(of("graph.callers.size() == 0"), /^Missing: .*callers/);
    assert.match(of("signal.values.nowhere == 1 || target.labels.nowhere == ''"), /^Missing/);
    assert.match(of("1 / (target.restarts - 4) > 0"), /^Missing: .*(zero|division)/);
    assert.match(of("targt.x"), /^Missing: there is no variable/);
  });

  test("costs no more than is allowed", () => {
    const many = (n: number) => values({ changes: Array.from({ length: n }, (_, i) => celMap({ name: `c${i}`, kind: "Rollout" })) });
    assert.equal(of("changes.all(a, changes.exists(b, b.name == a.name))", many(50)), "True");
    assert.match(of("changes.all(a, changes.exists(b, b.name == a.name)) || true", many(1_000)), /costs too much/);
    const long = values({ target: celMap({ name: "a".repeat(60_000) }) });
    assert.match(of(`target.name.matches('${"(a|b)*".repeat(40)}c') || true`, long), /costs too much/);
    assert.match(of("(target.name + target.name) != ''", long), /^Missing: .*too large/);
  });

  test("costs what it goes through: texts, lists and maps, in each step of a loop", () => {
    const object = celOf({ few: [1, 2, 3], many: Array.from({ length: 5_000 }, (_, i) => i % 10), text: "x".repeat(50_000) });
    const asked = (text: string): string => JSON.stringify(evaluable(text, OBJECT_VARIABLES).evaluate({ object }));
    for (const step of [
      "object.text.size() > 1",
      "!object.text.contains('xxxxy')",
      "!object.text.endsWith('y')",
      "object.text == object.text",
      "object.text < 'y'",
      "string(object.text) != ''",
      "object.many == object.many",
      "!(11 in object.many)",
      "object == object",
    ]) {
      assert.match(asked(`object.few.all(x, ${step})`), /True/, step);
      assert.match(asked(`object.many.all(x, ${step})`), /costs too much/, step);
    }
    assert.match(asked("object.many.filter(x, x == 3).size() < 5000 && object.few.map(x, x).size() == 3"), /True/);
  });

  test("is a verdict for whatever is written", () => {
    const words = fc.constantFrom(
      ..."target signal metrics graph changes kernel . . ( ) [ ] , && || ! == < + - * / % ? : in 'a' 1 2.0 name restarts values dependencies exists all map filter size matches x has".split(
        " ",
      ),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ maxLength: 60 }),
          fc.array(words, { maxLength: 25 }).map((w) => w.join(" ")),
        ),
        (text) => {
          const { problems } = checkExpression(text, SIGNAL_VARIABLES);
          const { state } = evaluable(text, SIGNAL_VARIABLES).evaluate(values());
          assert.ok(["True", "False", "Missing"].includes(state));
          if (problems.length > 0) assert.equal(state, "Missing");
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
