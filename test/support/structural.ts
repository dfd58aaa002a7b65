// What an API server does with an object and the schema of its CustomResourceDefinition: fill in defaults, check types and
// bounds, evaluate the rules. Small and literal, so that the generator can be held to zod where there is no API server;
// test/kubernetes/crds.test.ts holds both to a real one.
import { CelScalar, celEnv, celFunc, celMethod, isCelError, listType, objectType, parse, plan, type CelInput } from "@bufbuild/cel";
import { strings } from "@bufbuild/cel/ext";
import { timestampFromMs, TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { StructuralSchema } from "../../src/api/crd.ts";

// The list functions of Kubernetes' CEL library that our rules use.
const index =
  (search: "indexOf" | "lastIndexOf") =>
  (list: Iterable<unknown>, value: unknown): bigint =>
    BigInt([...list][search](value));
const LISTS = (["indexOf", "lastIndexOf"] as const).map((name) =>
  celMethod(name, listType(CelScalar.DYN), [CelScalar.DYN], CelScalar.INT, function (this: Iterable<unknown>, value: unknown) {
    return index(name)(this, value);
  }),
);
const TIMESTAMP = objectType(TimestampSchema);
// A number is seconds (cel-spec, "timestamp"); the library takes it for milliseconds.
const SECONDS = celFunc("timestamp", [CelScalar.INT], TIMESTAMP, (seconds) => timestampFromMs(Number(seconds) * 1000));
const env = celEnv({ funcs: [...strings, ...LISTS, SECONDS] });
const plans = new Map<string, ReturnType<typeof plan>>();

/** A value as CEL sees it: whole numbers by the schema, and names that are CEL's own escaped. */
function celValue(value: unknown, schema: StructuralSchema): CelInput {
  if (Array.isArray(value)) return value.map((item) => celValue(item, schema.items ?? {}));
  if (typeof value === "object" && value !== null)
    return new Map(
      Object.entries(value).map(([key, inner]) => [
        key === "namespace" ? "__namespace__" : key,
        celValue(inner, schema.properties?.[key] ?? schema.additionalProperties ?? {}),
      ]),
    );
  if (typeof value === "number" && (schema.type === "integer" || schema["x-kubernetes-int-or-string"])) return BigInt(value);
  return value as CelInput;
}

/** Whether a rule holds. A rule that fails to evaluate does not. */
export function holds(rule: string, schema: StructuralSchema, self: unknown, oldSelf?: unknown): boolean {
  let planned = plans.get(rule);
  if (planned === undefined) plans.set(rule, (planned = plan(env, parse(rule))));
  const result = planned({
    self: celValue(self, schema),
    ...(oldSelf === undefined ? {} : { oldSelf: celValue(oldSelf, schema) }),
  });
  return !isCelError(result) && result === true;
}

/** The value with the schema's defaults, also inside defaults. */
export function withDefaults(value: unknown, schema: StructuralSchema): unknown {
  if (Array.isArray(value)) return value.map((item) => withDefaults(item, schema.items ?? {}));
  if (typeof value !== "object" || value === null) return value;
  const given = value as Record<string, unknown>;
  const result: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(given))
    result[key] = withDefaults(inner, schema.properties?.[key] ?? schema.additionalProperties ?? {});
  for (const [key, property] of Object.entries(schema.properties ?? {}))
    if (given[key] === undefined && property.default !== undefined) result[key] = withDefaults(property.default, property);
  return result;
}

const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isInteger(value),
};

/** What is wrong with a value that has its defaults; with the value that it replaces, the rules about changes are asked too. */
export function faults(value: unknown, schema: StructuralSchema, old?: unknown, path = ""): string[] {
  if (schema["x-kubernetes-preserve-unknown-fields"]) return [];
  if (schema["x-kubernetes-int-or-string"]) {
    if (!Number.isInteger(value) && typeof value !== "string") return [`${path}: no whole number or text`];
  } else if (!TYPES[schema.type ?? ""]?.(value)) return [`${path}: no ${schema.type}`];
  const found: string[] = [];
  const say = (message: string): void => void found.push(`${path}: ${message}`);
  if (schema.enum !== undefined && !schema.enum.includes(value)) say("none of the values");
  if (typeof value === "string") {
    if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value)) say(`does not match ${schema.pattern}`);
    if (value.length < (schema.minLength ?? 0) || value.length > (schema.maxLength ?? Infinity)) say("length");
  }
  if (typeof value === "number" && (value < (schema.minimum ?? -Infinity) || value > (schema.maximum ?? Infinity))) say("out of bounds");
  if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity)) say("number of entries");
    const keys = schema["x-kubernetes-list-map-keys"];
    if (keys !== undefined) {
      const identities = value.map((item) => JSON.stringify(keys.map((key) => (item as Record<string, unknown>)[key])));
      if (new Set(identities).size < identities.length) say("two entries with the same key");
    }
    const items = schema.items ?? {};
    value.forEach((item, i) => found.push(...faults(item, items, undefined, `${path}[${i}]`)));
  } else if (typeof value === "object" && value !== null) {
    const before = (old ?? {}) as Record<string, unknown>;
    for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) say(`${name} is missing`);
    if (Object.keys(value).length < (schema.minProperties ?? 0)) say("number of fields");
    for (const [key, inner] of Object.entries(value)) {
      // Every object has metadata of the API server's own.
      if (path === "" && key === "metadata") continue;
      const property = schema.properties?.[key] ?? schema.additionalProperties;
      if (property !== undefined) found.push(...faults(inner, property, before[key], `${path}.${key}`));
      else say(`unknown field ${key}`);
    }
  }
  // As the API server does it: rules are asked of what is otherwise sound.
  if (found.length > 0) return found;
  for (const { rule, message } of schema["x-kubernetes-validations"] ?? []) {
    if (rule.includes("oldSelf") && old === undefined) continue;
    if (!holds(rule, schema, value, old)) say(message);
  }
  return found;
}
