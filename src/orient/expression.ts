import { CelScalar, celEnv, celFunc, isCelError, isCelList, isCelMap, plan, type CelInput } from "@bufbuild/cel";
import { create } from "@bufbuild/protobuf";
import { DurationSchema, timestampFromMs, type Duration, type Timestamp } from "@bufbuild/protobuf/wkt";
import { checkExpression, type CheckedExpression, type Expression, type Variables } from "../api/expression.ts";

/** A value that an expression can read; whole numbers that are `int` to it are bigints. What is undefined is not there. */
export type ExpressionValue = CelInput | undefined;

/** What came of an expression. `Missing`: something that it reads is not there, or it could not be worked out: that is never true. */
export type Verdict = { readonly state: "True" | "False" } | { readonly state: "Missing"; readonly why: string };

/**
 * What an evaluation may cost. A step of a loop is 1; a regular expression is 1 for every thousand characters times the
 * pattern's (its engine is linear in both); what goes through a whole text, list or map is 1 for every hundred characters
 * and every ten values. 10,000 are some tens of milliseconds.
 */
const BUDGET = 10_000;
const REGEX_UNIT = 1_000;
const TEXT_UNIT = 100;
const VALUE_UNIT = 10;
/** Longest text, and most elements, that an expression may put together. */
const MAX_TEXT = 65_536;
const MAX_ELEMENTS = 10_000;
/** Expressions that are kept planned. */
const MAX_PLANS = 2_000;

/** An expression, ready to be evaluated. */
export interface Evaluable extends CheckedExpression {
  evaluate(values: Readonly<Record<string, ExpressionValue>>): Verdict;
}

/** Charges that a node of the tree is wrapped in. */
const STEP = "@step";
const CHARGE = "@charge";
const SIZED = "@sized";
const WEIGHED = "@weighed";

/** Functions and operators that go through all of what they are given. (What `+` makes is charged by its size, `matches` as a regular expression.) */
const GOES_THROUGH: ReadonlySet<string> = new Set([
  "_==_",
  "_!=_",
  "_<_",
  "_<=_",
  "_>_",
  "_>=_",
  "@in",
  "size",
  "contains",
  "startsWith",
  "endsWith",
  "int",
  "double",
  "string",
  "timestamp",
  "duration",
]);

const call = (name: string, ...args: Expression[]): Expression => ({
  $typeName: "cel.expr.Expr",
  id: args[0]?.id ?? 0n,
  exprKind: { case: "callExpr", value: { $typeName: "cel.expr.Expr.Call", function: name, args } },
});

/** The same expression, with everything whose cost depends on what it reads charged. */
function charged(expr: Expression): Expression {
  const { exprKind: kind } = expr;
  switch (kind.case) {
    case "selectExpr": {
      const { operand } = kind.value;
      return operand === undefined ? expr : { ...expr, exprKind: { case: kind.case, value: { ...kind.value, operand: charged(operand) } } };
    }
    case "listExpr":
      return { ...expr, exprKind: { case: kind.case, value: { ...kind.value, elements: kind.value.elements.map(charged) } } };
    case "callExpr": {
      const { function: name } = kind.value;
      const weighed = (part: Expression): Expression =>
        GOES_THROUGH.has(name) && part.exprKind.case !== "constExpr" && part.exprKind.case !== "listExpr"
          ? call(WEIGHED, charged(part))
          : charged(part);
      const args = kind.value.args.map(weighed);
      const target = kind.value.target === undefined ? undefined : weighed(kind.value.target);
      const own = name === "matches" && target !== undefined && args[0] !== undefined ? call(CHARGE, target, args[0]) : target;
      const made: Expression = {
        ...expr,
        exprKind: { case: kind.case, value: { ...kind.value, args, ...(own === undefined ? {} : { target: own }) } },
      };
      return name === "_+_" ? call(SIZED, made) : made;
    }
    case "comprehensionExpr": {
      const { iterRange, accuInit, loopCondition, loopStep, result } = kind.value;
      if (!iterRange || !accuInit || !loopCondition || !loopStep || !result) return expr;
      const value = {
        ...kind.value,
        iterRange: charged(iterRange),
        accuInit: charged(accuInit),
        loopCondition: call(STEP, loopCondition),
        loopStep: charged(loopStep),
        result: charged(result),
      };
      return { ...expr, exprKind: { case: kind.case, value } };
    }
    default:
      return expr;
  }
}

class Costs {
  spent = 0;

  get isOver(): boolean {
    return this.spent > BUDGET;
  }

  add(units: number): void {
    this.spent += units;
    if (this.isOver) throw new Error("it costs too much");
  }
}

function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length / (MAX_TEXT / MAX_ELEMENTS);
  return typeof value === "object" && value !== null && "size" in value && typeof value.size === "number" ? value.size : 0;
}

/** Charges for going through a value once. */
function weigh(value: unknown, costs: Costs): void {
  if (typeof value === "string") costs.add(value.length / TEXT_UNIT);
  else if (isCelList(value)) for (const inner of value) weighInner(inner, costs);
  else if (isCelMap(value))
    for (const [key, inner] of value.entries()) {
      weighInner(key, costs);
      weighInner(inner, costs);
    }
}

function weighInner(value: unknown, costs: Costs): void {
  costs.add(1 / VALUE_UNIT);
  weigh(value, costs);
}

/** Plans an expression that was found right; one with problems is always `Missing`. Planned once for the same text and variables. */
export function evaluable(text: string, variables: Variables): Evaluable {
  let known = plans.get(variables);
  if (known === undefined) plans.set(variables, (known = new Map()));
  const found = known.get(text);
  if (found !== undefined) return found;
  // Nobody has so many at a time: those of long ago.
  if (known.size >= MAX_PLANS) known.clear();
  const made = make(text, variables);
  known.set(text, made);
  return made;
}
const plans = new WeakMap<Variables, Map<string, Evaluable>>();

function make(text: string, variables: Variables): Evaluable {
  const checked = checkExpression(text, variables);
  const [problem] = checked.problems;
  if (problem !== undefined || checked.expression === undefined)
    return { ...checked, evaluate: () => ({ state: "Missing", why: problem?.message ?? "it is no expression" }) };
  const costs = new Costs();
  const env = celEnv({
    funcs: [
      celFunc(STEP, [CelScalar.DYN], CelScalar.DYN, (goesOn) => {
        costs.add(1);
        return goesOn;
      }),
      celFunc(CHARGE, [CelScalar.STRING, CelScalar.STRING], CelScalar.STRING, (on, pattern) => {
        costs.add(1 + (on.length * pattern.length) / REGEX_UNIT);
        return on;
      }),
      celFunc(WEIGHED, [CelScalar.DYN], CelScalar.DYN, (given) => {
        weigh(given, costs);
        return given;
      }),
      celFunc(SIZED, [CelScalar.DYN], CelScalar.DYN, (made) => {
        const size = sizeOf(made);
        costs.add(size / 1_000);
        if (size > MAX_ELEMENTS) throw new Error("it makes something too large");
        return made;
      }),
    ],
  });
  const planned = plan(env, charged(checked.expression));
  return {
    ...checked,
    evaluate: (values) => {
      costs.spent = 0;
      for (const name of checked.variables) if (values[name] === undefined) return { state: "Missing", why: `${name} is not there` };
      const given = Object.entries(values).filter((entry): entry is [string, CelInput] => entry[1] !== undefined);
      let result: unknown;
      try {
        result = planned(Object.fromEntries(given));
      } catch (error) {
        result = error;
      }
      if (costs.isOver) return { state: "Missing", why: "it costs too much to work out" };
      if (result === true) return { state: "True" };
      if (result === false) return { state: "False" };
      if (isCelError(result) || result instanceof Error) return { state: "Missing", why: result.message };
      return { state: "Missing", why: "its value is neither true nor false" };
    },
  };
}

/** A time as expressions have it (ms since the epoch). */
export function celTime(ms: number): Timestamp {
  return timestampFromMs(ms);
}

/** A span of time as expressions have it (ms). */
export function celDuration(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) });
}

/** Entries that are there, as a map. */
export function celMap(entries: Readonly<Record<string, ExpressionValue>>): ReadonlyMap<string, CelInput> {
  return new Map(Object.entries(entries).filter((entry): entry is [string, CelInput] => entry[1] !== undefined));
}

/** Most values of an object that an expression is asked about. */
const MAX_VALUES = 20_000;

/** JSON as expressions have it: maps, lists, texts, and numbers that are all `double`; undefined where it is too large. */
export function celOf(json: unknown): ExpressionValue {
  let left = MAX_VALUES;
  const convert = (value: unknown): CelInput => {
    left -= 1;
    if (left < 0) throw new RangeError("too large");
    if (Array.isArray(value)) return value.map(convert);
    if (typeof value === "object" && value !== null)
      return new Map(
        Object.entries(value).flatMap(([key, inner]): [string, CelInput][] => (inner === undefined ? [] : [[key, convert(inner)]])),
      );
    return typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? value : null;
  };
  try {
    return convert(json);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
