import { isDeepStrictEqual } from "node:util";
import { Refusal } from "./types.ts";

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Json = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** RFC 6902, without `move` and `copy`. */
export function jsonPatch(target: unknown, operations: readonly { op: string; path: string; value?: unknown }[]): unknown {
  const root = { root: structuredClone(target) };
  for (const { op, path, value } of operations) {
    const keys = [
      "root",
      ...path
        .split("/")
        .slice(1)
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~")),
    ];
    const last = keys.pop() ?? "";
    let parent: unknown = root;
    for (const key of keys) parent = (parent as Json | undefined)?.[key];
    const fails = (why: string): Refusal => new Refusal(422, "Invalid", `the server rejected our request: ${op} ${path}: ${why}`);
    if (typeof parent !== "object" || parent === null) throw fails("the path does not exist");
    const at = parent as Json;
    switch (op) {
      case "test":
        if (!isDeepStrictEqual(at[last], value)) throw fails("testing value failed");
        break;
      case "add":
        if (Array.isArray(parent)) parent.splice(last === "-" ? parent.length : Number(last), 0, value);
        else at[last] = value;
        break;
      case "replace":
        if (!Object.hasOwn(at, last)) throw fails("the path does not exist");
        at[last] = value;
        break;
      case "remove":
        if (!Object.hasOwn(at, last)) throw fails("the path does not exist");
        if (Array.isArray(parent)) parent.splice(Number(last), 1);
        else delete at[last];
        break;
      default:
        throw fails("not supported");
    }
  }
  return root.root;
}
