import { Refusal, type KubeObject } from "./types.ts";

/** Whether an object is selected by a label selector and a field selector, as the API server reads them. */
export function selector(labels: string | undefined, fields: string | undefined): (object: KubeObject) => boolean {
  const terms = [...split(labels).map(labelTerm), ...split(fields).map(fieldTerm)];
  return (object) => terms.every((term) => term(object));
}

/** At commas that stand in no parentheses. */
function split(text: string | undefined): string[] {
  return (text ?? "")
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== "");
}

function labelTerm(term: string): (object: KubeObject) => boolean {
  const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
  if (set !== null) {
    const [, key = "", operator, list = ""] = set;
    const values = new Set(list.split(",").map((value) => value.trim()));
    return ({ metadata }) => values.has(metadata.labels?.[key] ?? "\0") === (operator === "in");
  }
  const equality = /^([^!=\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
  if (equality !== null) {
    const [, key = "", operator, value] = equality;
    return ({ metadata }) => (metadata.labels?.[key] === value) === (operator !== "!=");
  }
  if (/^!?[\w./-]+$/.test(term)) {
    const key = term.replace(/^!/, "");
    return ({ metadata }) => Object.hasOwn(metadata.labels ?? {}, key) === !term.startsWith("!");
  }
  throw new Refusal(400, "BadRequest", `unable to parse requirement: ${term}`);
}

function fieldTerm(term: string): (object: KubeObject) => boolean {
  const [, path = "", operator, value = ""] = /^([\w.]+)(==|=|!=)(.*)$/.exec(term) ?? [];
  if (operator === undefined) throw new Refusal(400, "BadRequest", `invalid field selector: ${term}`);
  return (object) => {
    let at: unknown = object;
    for (const part of path.split(".")) at = (at as Record<string, unknown> | undefined)?.[part];
    return ((at === undefined ? "" : JSON.stringify(at).replace(/^"(.*)"$/, "$1")) === value) === (operator !== "!=");
  };
}
