import {
  checkExpression,
  type CheckedExpression,
  DOUBLE,
  DURATION,
  DYN,
  INT,
  listOf,
  mapOf,
  namedOf,
  objectOf,
  STRING,
  TIMESTAMP,
  unsureOf,
  BOOL,
  type ExpressionProblem,
  type Variables,
} from "./expression.ts";

const workload = objectOf("workload", {
  kind: STRING,
  name: STRING,
  labels: mapOf(STRING),
  desired: INT,
  ready: INT,
  rollingOut: BOOL,
});

const service = objectOf("service", { name: STRING, namespace: STRING, desired: INT, ready: INT });

/** What an expression of a policy's signal (`when`) can read. What is not there when it is asked is missing data. */
export const SIGNAL_VARIABLES: Variables = {
  signal: objectOf("signal", {
    name: STRING,
    condition: STRING,
    source: STRING,
    cause: STRING,
    confidence: DOUBLE,
    startsAt: TIMESTAMP,
    age: DURATION,
    values: mapOf(DYN),
  }),
  target: objectOf("target", {
    kind: STRING,
    name: STRING,
    namespace: STRING,
    labels: mapOf(STRING),
    workload,
    ready: BOOL,
    phase: STRING,
    restarts: INT,
    age: DURATION,
    node: STRING,
    zone: STRING,
  }),
  metrics: namedOf(DOUBLE),
  kernel: namedOf(DYN),
  graph: unsureOf("graph", { dependencies: listOf(service), callers: listOf(service) }),
  changes: listOf(objectOf("change", { kind: STRING, name: STRING, namespace: STRING, what: STRING, age: DURATION, ours: BOOL })),
};

/** See `checkExpression`. */
export function checkSignalExpression(text: string): CheckedExpression {
  return checkExpression(text, SIGNAL_VARIABLES);
}

/** What an expression over an object of any kind (`resource.when`) can read. */
export const OBJECT_VARIABLES: Variables = { object: DYN };

/** What an expression that says whose an object is (`resource.belongs`) can read. */
export const BELONGS_VARIABLES: Variables = {
  object: DYN,
  target: objectOf("target", { kind: STRING, name: STRING, namespace: STRING, uid: STRING, labels: mapOf(STRING) }),
};

/** What is wrong with the expressions of a signal, with their fields. */
export function expressionProblems(signal: {
  readonly when?: string | undefined;
  readonly resource?: { readonly when: string; readonly belongs?: string | undefined } | undefined;
}): (ExpressionProblem & { readonly path: readonly string[] })[] {
  const of = (
    path: readonly string[],
    text: string | undefined,
    variables: Variables,
  ): (ExpressionProblem & { path: readonly string[] })[] =>
    text === undefined ? [] : checkExpression(text, variables).problems.map((problem) => ({ ...problem, path }));
  return [
    ...of(["when"], signal.when, SIGNAL_VARIABLES),
    ...of(["resource", "when"], signal.resource?.when, OBJECT_VARIABLES),
    ...of(["resource", "belongs"], signal.resource?.belongs, BELONGS_VARIABLES),
  ];
}
