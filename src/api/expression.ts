import { parse } from "@bufbuild/cel";
import { closest } from "./suggest.ts";

// CEL expressions in resources, checked when they are written. The library evaluates; its own checker knows constants and
// names only, so types are checked here, over the tree that it parses. What is allowed is a part of CEL whose cost is bounded.

/** The tree of an expression, as the library parses it (cel-spec, `syntax.proto`). */
export type Expression = ReturnType<typeof parse>["expr"];

/** What a value can be. `map`s have strings as keys; of `dyn` nothing is known before it is evaluated. */
export type ExpressionType =
  | { readonly kind: "bool" | "int" | "double" | "string" | "timestamp" | "duration" | "null" | "dyn" }
  | { readonly kind: "list" | "map"; readonly of: ExpressionType; readonly named?: true }
  | {
      readonly kind: "object";
      readonly name: string;
      readonly fields: Readonly<Record<string, ExpressionType>>;
      /** A field that is not there is not known, and so `has()` of it is no reason. */
      readonly unsure?: true;
    };

export const [BOOL, INT, DOUBLE, STRING, TIMESTAMP, DURATION, NULL, DYN] = (
  ["bool", "int", "double", "string", "timestamp", "duration", "null", "dyn"] as const
).map((kind): ExpressionType => ({ kind })) as [
  ExpressionType,
  ExpressionType,
  ExpressionType,
  ExpressionType,
  ExpressionType,
  ExpressionType,
  ExpressionType,
  ExpressionType,
];
export const listOf = (of: ExpressionType): ExpressionType => ({ kind: "list", of });
export const mapOf = (of: ExpressionType): ExpressionType => ({ kind: "map", of });
/**
 * A map whose entries are only reached by names that stand in the expression, and never asked whether they are there: an entry
 * that is not there is missing data, and no expression can make that evidence.
 */
export const namedOf = (of: ExpressionType): ExpressionType => ({ kind: "map", of, named: true });
export const objectOf = (name: string, fields: Readonly<Record<string, ExpressionType>>): ExpressionType => ({
  kind: "object",
  name,
  fields,
});
/** An object whose fields are not there as long as nobody has said anything of them. */
export const unsureOf = (name: string, fields: Readonly<Record<string, ExpressionType>>): ExpressionType => ({
  kind: "object",
  name,
  fields,
  unsure: true,
});

export type Variables = Readonly<Record<string, ExpressionType>>;

/** Longest expression (characters). */
export const MAX_EXPRESSION_CHARS = 2_048;
/** Most nodes of its tree. */
const MAX_NODES = 300;
/** Most loops (`all`, `exists`, `map`, ...), and how deep they may stand in one another. */
const MAX_LOOPS = 4;
const MAX_LOOP_DEPTH = 2;
/** Longest regular expression (characters). */
const MAX_PATTERN_CHARS = 256;

/** What is wrong with an expression, and where in it; lines and columns count from 1. */
export interface ExpressionProblem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** An expression that was looked at. */
export interface CheckedExpression {
  readonly expression: Expression | undefined;
  readonly problems: readonly ExpressionProblem[];
  /** Names of the variables that it reads. */
  readonly variables: ReadonlySet<string>;
  /** Names of the entries that it reads of variables whose entries are reached by name, such as `metrics`. */
  readonly names: ReadonlyMap<string, ReadonlySet<string>>;
}

const NUMBERS: ReadonlySet<string> = new Set(["int", "double"]);
const ORDERED: ReadonlySet<string> = new Set(["int", "double", "string", "timestamp", "duration"]);
const CONVERSIONS: Readonly<Record<string, { readonly from: readonly string[]; readonly to: ExpressionType }>> = {
  int: { from: ["int", "double", "string"], to: INT },
  double: { from: ["int", "double", "string"], to: DOUBLE },
  string: { from: ["int", "double", "string", "bool"], to: STRING },
  timestamp: { from: ["string", "timestamp"], to: TIMESTAMP },
  duration: { from: ["string", "duration"], to: DURATION },
};
const TEXT_METHODS: ReadonlySet<string> = new Set(["contains", "startsWith", "endsWith", "matches"]);
const FUNCTIONS = ["size", ...Object.keys(CONVERSIONS), ...TEXT_METHODS, "has", "all", "exists", "exists_one", "filter", "map"];
const COMPARISONS: ReadonlySet<string> = new Set(["_<_", "_<=_", "_>_", "_>=_"]);
const EQUALITIES: ReadonlySet<string> = new Set(["_==_", "_!=_"]);
const ARITHMETIC: ReadonlySet<string> = new Set(["_+_", "_-_", "_*_", "_/_", "_%_"]);

/** A type for people. */
function typeText(type: ExpressionType): string {
  if (type.kind === "object") return type.name;
  return type.kind === "list" ? `list of ${typeText(type.of)}` : type.kind === "map" ? `map of ${typeText(type.of)}` : type.kind;
}

const isDyn = ({ kind }: ExpressionType): boolean => kind === "dyn";
const operatorText = (name: string): string => name.replaceAll("_", "").replace("@", "");

/** Whether values of two types can be equal. */
function comparable(a: ExpressionType, b: ExpressionType): boolean {
  if (isDyn(a) || isDyn(b)) return true;
  if (NUMBERS.has(a.kind) && NUMBERS.has(b.kind)) return true;
  if ((a.kind === "list" && b.kind === "list") || (a.kind === "map" && b.kind === "map")) return comparable(a.of, b.of);
  return a.kind === b.kind;
}

/**
 * Whether an expression is well-formed, has the type `result`, and costs no more than is allowed. What it reads is told, also
 * where something is wrong with it.
 */
export function checkExpression(text: string, variables: Variables, result: ExpressionType = BOOL): CheckedExpression {
  const none = { expression: undefined, variables: new Set<string>(), names: new Map<string, Set<string>>() };
  const long = { line: 1, column: 1, message: `the expression is longer than ${MAX_EXPRESSION_CHARS} characters` };
  if (text.length > MAX_EXPRESSION_CHARS) return { ...none, problems: [long] };
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(text);
  } catch (error) {
    return { ...none, problems: [syntaxProblem(error, text)] };
  }
  const check = new Check(text, variables, parsed.sourceInfo?.positions ?? {});
  const type = check.typeOf(parsed.expr, {}, 0);
  if (check.problems.length === 0 && !isDyn(type) && type.kind !== result.kind)
    check.say(parsed.expr, `the expression is a ${typeText(type)}, and a ${typeText(result)} is needed`);
  return { expression: parsed.expr, problems: check.problems, variables: check.variables, names: check.names };
}

/** What the parser says, which has its own words for what it expected, and takes a carriage return alone for the end of a line. */
function syntaxProblem(error: unknown, text: string): ExpressionProblem {
  const { rawMessage, location } = error as { rawMessage?: string; location?: { start?: { offset?: number } } };
  const message = rawMessage ?? (error instanceof Error ? error.message : String(error));
  return { ...placeOf(text, location?.start?.offset ?? 0), message: `syntax error: ${message.slice(0, 200)}` };
}

function placeOf(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset).split("\n");
  return { line: before.length, column: (before.at(-1) ?? "").length + 1 };
}

class Check {
  readonly problems: ExpressionProblem[] = [];
  readonly variables = new Set<string>();
  readonly names = new Map<string, Set<string>>();
  readonly #text: string;
  readonly #declared: Variables;
  readonly #positions: Readonly<Record<string, number>>;
  #nodes = 0;
  #loops = 0;

  constructor(text: string, declared: Variables, positions: Readonly<Record<string, number>>) {
    this.#text = text;
    this.#declared = declared;
    this.#positions = positions;
  }

  say(at: Expression, message: string): ExpressionType {
    const problem = { ...placeOf(this.#text, this.#positions[at.id.toString()] ?? 0), message };
    // One fault can be seen from several places of one tree.
    if (!this.problems.some((p) => p.message === message)) this.problems.push(problem);
    return DYN;
  }

  typeOf(expr: Expression, scope: Variables, depth: number): ExpressionType {
    this.#nodes += 1;
    if (this.#nodes > MAX_NODES) return this.say(expr, `the expression has more than ${MAX_NODES} parts`);
    const { exprKind: kind } = expr;
    switch (kind.case) {
      case "constExpr":
        return this.#constant(expr, kind.value.constantKind.case);
      case "identExpr":
        return this.#variable(expr, kind.value.name, scope);
      case "selectExpr": {
        const { operand, field, testOnly } = kind.value;
        return operand === undefined ? DYN : this.#select(expr, operand, field, testOnly, scope, depth);
      }
      case "callExpr": {
        const { function: name, target, args } = kind.value;
        if (name === "_[_]" && args[0] !== undefined && args[1] !== undefined) return this.#index(expr, args[0], args[1], scope, depth);
        return this.#call(
          expr,
          name,
          target === undefined ? undefined : this.typeOf(target, scope, depth),
          args,
          args.map((arg) => this.typeOf(arg, scope, depth)),
        );
      }
      case "listExpr":
        return this.#list(expr, kind.value.elements, scope, depth);
      case "comprehensionExpr":
        return this.#loop(expr, kind.value, scope, depth);
      case "structExpr":
        return this.say(expr, "maps and messages are not made here");
      default:
        return this.say(expr, "this is not understood");
    }
  }

  #constant(expr: Expression, kind: string | undefined): ExpressionType {
    switch (kind) {
      case "boolValue":
        return BOOL;
      case "int64Value":
        return INT;
      case "doubleValue":
        return DOUBLE;
      case "stringValue":
        return STRING;
      case "nullValue":
        return NULL;
      default:
        return this.say(expr, "numbers here are int (5) or double (5.0), and texts are strings");
    }
  }

  #variable(expr: Expression, name: string, scope: Variables): ExpressionType {
    const local = Object.hasOwn(scope, name) ? scope[name] : undefined;
    if (local !== undefined) return local;
    const declared = Object.hasOwn(this.#declared, name) ? this.#declared[name] : undefined;
    if (declared === undefined)
      return this.say(expr, `there is no variable ${name}${meant(name, Object.keys({ ...this.#declared, ...scope }))}`);
    this.variables.add(name);
    if (declared.kind === "map" && declared.named === true) return this.say(expr, `write ${name}["NAME"]: its entries are reached by name`);
    return declared;
  }

  /** The variable whose entries are reached by name only, where `expr` is one. */
  #named(expr: Expression, scope: Variables): { readonly name: string; readonly of: ExpressionType } | undefined {
    const name = expr.exprKind.case === "identExpr" ? expr.exprKind.value.name : undefined;
    if (name === undefined || Object.hasOwn(scope, name) || !Object.hasOwn(this.#declared, name)) return undefined;
    const type = this.#declared[name];
    return type?.kind === "map" && type.named === true ? { name, of: type.of } : undefined;
  }

  #entry({ name, of }: { readonly name: string; readonly of: ExpressionType }, key: string): ExpressionType {
    this.variables.add(name);
    const known = this.names.get(name);
    if (known === undefined) this.names.set(name, new Set([key]));
    else known.add(key);
    return of;
  }

  #select(expr: Expression, operand: Expression, field: string, asks: boolean, scope: Variables, depth: number): ExpressionType {
    const named = this.#named(operand, scope);
    if (named !== undefined) {
      if (asks) return this.say(expr, `what is not there of ${named.name} is missing data, and no reason: write the value without has()`);
      return this.#entry(named, field);
    }
    const of = this.typeOf(operand, scope, depth);
    if (of.kind === "object") {
      const type = Object.hasOwn(of.fields, field) ? of.fields[field] : undefined;
      if (type === undefined) return this.say(expr, `${of.name} has no field ${field}${meant(field, Object.keys(of.fields))}`);
      if (asks && of.unsure === true)
        return this.say(expr, `what is not there of ${of.name} is missing data, and no reason: write the value without has()`);
      return asks ? BOOL : type;
    }
    if (of.kind === "map" || of.kind === "dyn") return asks ? BOOL : of.kind === "map" ? of.of : DYN;
    return this.say(expr, `a ${typeText(of)} has no field ${field}`);
  }

  #index(expr: Expression, operand: Expression, key: Expression, scope: Variables, depth: number): ExpressionType {
    const named = this.#named(operand, scope);
    const constant = key.exprKind.case === "constExpr" ? key.exprKind.value.constantKind : undefined;
    if (named !== undefined) {
      if (constant?.case === "stringValue") return this.#entry(named, constant.value);
      return this.say(expr, `the name of what is read of ${named.name} must stand in the expression, as in ${named.name}["NAME"]`);
    }
    const of = this.typeOf(operand, scope, depth);
    const by = this.typeOf(key, scope, depth);
    if (of.kind === "dyn") return DYN;
    if (of.kind === "map")
      return isDyn(by) || by.kind === "string" ? of.of : this.say(expr, `a map's keys are strings, and this is a ${typeText(by)}`);
    if (of.kind === "list")
      return isDyn(by) || by.kind === "int" ? of.of : this.say(expr, `a list is read by int, and this is a ${typeText(by)}`);
    return this.say(expr, `a ${typeText(of)} has no entries`);
  }

  /** Lists that are written down are of constants: what is made of itself could grow without a bound. */
  #list(expr: Expression, elements: readonly Expression[], scope: Variables, depth: number): ExpressionType {
    const types = elements.map((element) => this.typeOf(element, scope, depth));
    if (elements.some(({ exprKind }) => exprKind.case !== "constExpr")) return this.say(expr, "a list here is of constants only");
    const [first] = types;
    if (first === undefined) return listOf(DYN);
    const other = types.find((type) => !comparable(type, first));
    return other === undefined ? listOf(first) : this.say(expr, `a list of ${typeText(first)} and ${typeText(other)}`);
  }

  #call(
    expr: Expression,
    name: string,
    target: ExpressionType | undefined,
    args: readonly Expression[],
    types: readonly ExpressionType[],
  ): ExpressionType {
    const [a = DYN, b = DYN, c = DYN] = types;
    const isBool = (type: ExpressionType): boolean => isDyn(type) || type.kind === "bool";
    if (name === "_&&_" || name === "_||_" || name === "!_") {
      const wrong = types.find((type) => !isBool(type));
      return wrong === undefined ? BOOL : this.say(expr, `${operatorText(name)} is of bool, and this is a ${typeText(wrong)}`);
    }
    if (name === "_?_:_") {
      if (!isBool(a)) return this.say(expr, `what is asked before ? is a ${typeText(a)}, and a bool is needed`);
      return comparable(b, c) ? (isDyn(b) ? c : b) : this.say(expr, `one of ${typeText(b)} and ${typeText(c)}: both must be of one type`);
    }
    if (EQUALITIES.has(name)) return comparable(a, b) ? BOOL : this.say(expr, `a ${typeText(a)} is never equal to a ${typeText(b)}`);
    if (COMPARISONS.has(name)) {
      const isOrdered = [a, b].every((type) => isDyn(type) || ORDERED.has(type.kind));
      return isOrdered && comparable(a, b)
        ? BOOL
        : this.say(expr, `${operatorText(name)} cannot compare ${typeText(a)} and ${typeText(b)}`);
    }
    if (ARITHMETIC.has(name)) return this.#arithmetic(expr, name, a, b);
    if (name === "-_") return isDyn(a) || NUMBERS.has(a.kind) ? a : this.say(expr, `- is of numbers, and this is a ${typeText(a)}`);
    if (name === "@in") {
      if (b.kind === "list") return comparable(a, b.of) ? BOOL : this.say(expr, `a ${typeText(a)} is never in a ${typeText(b)}`);
      if (b.kind === "map")
        return isDyn(a) || a.kind === "string" ? BOOL : this.say(expr, `a map's keys are strings, and this is a ${typeText(a)}`);
      return isDyn(b) ? BOOL : this.say(expr, `in asks a list or a map, and this is a ${typeText(b)}`);
    }
    if (name === "size") {
      const of = target ?? a;
      if (args.length !== (target === undefined ? 1 : 0)) return this.say(expr, "size takes one value: size(x) or x.size()");
      return isDyn(of) || ["string", "list", "map"].includes(of.kind) ? INT : this.say(expr, `a ${typeText(of)} has no size`);
    }
    const conversion = Object.hasOwn(CONVERSIONS, name) ? CONVERSIONS[name] : undefined;
    if (conversion !== undefined && target === undefined) {
      if (args.length !== 1) return this.say(expr, `${name} takes one value`);
      return isDyn(a) || conversion.from.includes(a.kind) ? conversion.to : this.say(expr, `there is no ${name} of a ${typeText(a)}`);
    }
    if (TEXT_METHODS.has(name)) return this.#textMethod(expr, name, target, args, a);
    return this.say(expr, `there is no function ${name}${meant(name, FUNCTIONS)}`);
  }

  #textMethod(
    expr: Expression,
    name: string,
    target: ExpressionType | undefined,
    args: readonly Expression[],
    a: ExpressionType,
  ): ExpressionType {
    if (target === undefined || args.length !== 1) return this.say(expr, `write TEXT.${name}("...")`);
    const wrong = [target, a].find((type) => !isDyn(type) && type.kind !== "string");
    if (wrong !== undefined) return this.say(expr, `${name} is of strings, and this is a ${typeText(wrong)}`);
    if (name !== "matches") return BOOL;
    const [pattern] = args;
    const text = pattern?.exprKind.case === "constExpr" ? pattern.exprKind.value.constantKind.value : undefined;
    if (typeof text !== "string") return this.say(expr, "the pattern of matches must stand in the expression");
    return text.length > MAX_PATTERN_CHARS ? this.say(expr, `the pattern is longer than ${MAX_PATTERN_CHARS} characters`) : BOOL;
  }

  #arithmetic(expr: Expression, name: string, a: ExpressionType, b: ExpressionType): ExpressionType {
    if (isDyn(a) || isDyn(b)) return DYN;
    if (NUMBERS.has(a.kind) && NUMBERS.has(b.kind)) {
      if (a.kind !== b.kind)
        return this.say(
          expr,
          `${operatorText(name)} takes two int or two double, and this is ${a.kind} and ${b.kind}: write 5.0 for a double, or double(x)`,
        );
      return name === "_%_" && a.kind === "double" ? this.say(expr, "% is of int") : a;
    }
    const sum = `${a.kind}${operatorText(name)}${b.kind}`;
    if (sum === "string+string" || sum === "duration+duration" || sum === "duration-duration") return a;
    if (sum === "timestamp+duration" || sum === "timestamp-duration") return TIMESTAMP;
    if (sum === "duration+timestamp") return TIMESTAMP;
    if (sum === "timestamp-timestamp") return DURATION;
    return this.say(expr, `${operatorText(name)} cannot take ${typeText(a)} and ${typeText(b)}`);
  }

  #loop(
    expr: Expression,
    loop: Extract<Expression["exprKind"], { case: "comprehensionExpr" }>["value"],
    scope: Variables,
    depth: number,
  ): ExpressionType {
    const { iterRange, accuInit, loopStep, result, iterVar, accuVar } = loop;
    if (iterRange === undefined || accuInit === undefined || loopStep === undefined || result === undefined) return DYN;
    this.#loops += 1;
    if (this.#loops > MAX_LOOPS) return this.say(expr, `the expression has more than ${MAX_LOOPS} loops`);
    if (depth >= MAX_LOOP_DEPTH) return this.say(expr, `loops stand more than ${MAX_LOOP_DEPTH} deep in one another`);
    const range = this.typeOf(iterRange, scope, depth);
    if (!isDyn(range) && range.kind !== "list" && range.kind !== "map") return this.say(iterRange, `a ${typeText(range)} has no elements`);
    const element = range.kind === "list" ? range.of : range.kind === "map" ? STRING : DYN;
    const inner = { ...scope, [iterVar]: element };
    // A list that is made: what its elements are, or the range's own.
    if (accuInit.exprKind.case === "listExpr") {
      const made = madeBy(loopStep);
      if (made === undefined) return this.say(expr, "this loop is not understood");
      if (made.when !== undefined) this.#needsBool(made.when, inner, depth);
      return listOf(this.typeOf(made.element, inner, depth + 1));
    }
    const accu = this.typeOf(accuInit, scope, depth);
    this.typeOf(loopStep, { ...inner, [accuVar]: accu }, depth + 1);
    return this.typeOf(result, { ...inner, [accuVar]: accu }, depth);
  }

  #needsBool(expr: Expression, scope: Variables, depth: number): void {
    const type = this.typeOf(expr, scope, depth + 1);
    if (!isDyn(type) && type.kind !== "bool") this.say(expr, `this is a ${typeText(type)}, and a bool is needed`);
  }
}

/** What `map` and `filter` append in each step, and on which condition (`_+_(@result, [element])`, alone or in `_?_:_`). */
function madeBy(step: Expression): { readonly when?: Expression; readonly element: Expression } | undefined {
  if (step.exprKind.case !== "callExpr") return undefined;
  const { function: name, args } = step.exprKind.value;
  const [first, second] = args;
  if (name === "_?_:_" && first !== undefined && second !== undefined) {
    const made = madeBy(second);
    return made === undefined || made.when !== undefined ? undefined : { when: first, element: made.element };
  }
  const appended = name === "_+_" && second?.exprKind.case === "listExpr" ? second.exprKind.value.elements[0] : undefined;
  return appended === undefined ? undefined : { element: appended };
}

function meant(word: string, candidates: readonly string[]): string {
  const found = closest(word, candidates);
  return found === undefined ? `; there are ${candidates.join(", ")}` : `; did you mean ${found}?`;
}
