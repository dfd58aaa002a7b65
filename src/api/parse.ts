import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  visit,
  type Document,
  type Node,
  type ParsedNode,
  type Scalar,
} from "yaml";
import type { z } from "zod";
import { messageOf } from "./errors.ts";
import { API_VERSION, CLUSTER_SCOPED, KINDS, type Kind } from "./meta.ts";
import { STRATEGIES } from "./policy.ts";
import { SCHEMAS, type ResourceOf } from "./resources.ts";
import { closest } from "./suggest.ts";
import { fieldsOf, schemaAt } from "./walk.ts";

/** What can be wrong with a file. Stable: programs match on these. */
export const PROBLEM_CODES = {
  FILE_TOO_LARGE: "The file is longer than 262,144 characters.",
  YAML_SYNTAX: "The file is no YAML, or uses tags that mean nothing here.",
  DUPLICATE_KEY: "A field is written twice; only one of them would count.",
  ALIAS_LIMIT: "Aliases expand to too much.",
  NOT_ONE_DOCUMENT: "The file should hold exactly one document.",
  UNKNOWN_KIND: "`apiVersion` or `kind` names nothing that Nightshift knows.",
  KIND_NOT_ACCEPTED: "A kind that is not written in files.",
  UNKNOWN_FIELD: "A field that does not exist.",
  SERVER_FIELD: "A field that only the store sets.",
  MISSING_FIELD: "A field that must be there is not.",
  WRONG_TYPE: "Text where a number belongs, or the like.",
  INVALID_VALUE: "The type is right, the value is not.",
  INVALID_EXPRESSION: "A CEL expression that is not well-formed, reads what there is none of, or may cost too much.",
  UNKNOWN_STRATEGY: "A strategy that does not exist.",
  IMPOSSIBLE_STEP_ORDER: "Steps in an order that can only do harm.",
  IMPOSSIBLE_BUDGET: "A budget under which the policy can never act.",
  DUPLICATE_NAME: "Two resources of a kind have the same name.",
  UNKNOWN_RUNBOOK: "A rung names a runbook that is not there.",
  NEVER_OPENS: "A window or scheduled budget whose schedule has no next opening.",
  ALWAYS_FROZEN: "A freeze covers every window.",
  NEVER_VERIFIES: "Verification ends before it can succeed.",
  RUNG_TOO_SHORT: "A rung ends before its steps can.",
  CANNOT_FIRE: "A signal whose condition cannot come about.",
  OVERLAPPING_SIGNALS: "Two signals of a policy for the same hint, which is the first one's.",
  CIRCUIT_NEVER_OPENS: "Attempts are so far apart that strikes never add up.",
  DEPENDENCY_CYCLE: "Services that depend on each other in a circle.",
  UNBUDGETED: "Times or causes that no budget of the policy covers.",
  NO_REST: "No time to see an effect before the next attempt.",
} as const;
export type ProblemCode = keyof typeof PROBLEM_CODES;

/** A place in a file. Lines and columns count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Something wrong in a file: where, what, and what to write instead. */
export interface Problem extends Position {
  readonly code: ProblemCode;
  /** Only errors keep a file from being used. */
  readonly severity: "error" | "warning";
  /** The field, such as `spec.ladder[0].strategy`; empty for the document as a whole. */
  readonly path: string;
  readonly message: string;
  /** What to write instead. */
  readonly fix?: string;
}

type Path = readonly PropertyKey[];

/** Kinds that people write in files. Remediations are made by Nightshift, approvals by `nightshift approve`. */
export const AUTHORED_KINDS = ["RemediationPolicy", "Runbook", "RemediationBudget", "ServiceDependency"] as const satisfies readonly Kind[];
export type AuthoredKind = (typeof AUTHORED_KINDS)[number];

/** A resource and where it was written. */
export interface ParsedResource {
  readonly resource: ResourceOf[AuthoredKind];
  /** Where its document begins. */
  readonly at: Position;
  /** Where a field of it stands; for one that is not written, what it would stand in. */
  locate(path: Path): Position;
}

/** Longest text that is read: some hundred policies. What a parser does in more than linear time stays short under it. */
export const MAX_FILE_CHARS = 262_144;
/** Most syntax errors of a document that are named; the later ones follow from the first. */
const MAX_SYNTAX_ERRORS = 10;
/** Most nodes that aliases may expand to, as the `yaml` library counts them. */
const MAX_ALIASES = 100;

const WHY_NOT: Partial<Record<Kind, string>> = {
  Remediation: "Nightshift makes Remediations itself, one an episode: they are its record, and a written one would be a false one",
  RemediationApproval: "an answer is given to one episode by one person: use `nightshift approve NAME` or `nightshift approve NAME --deny`",
};
const SERVER_FIELDS = ["uid", "resourceVersion", "generation", "creationTimestamp"] as const;

/** `spec.ladder[0].strategy`. */
export function pathText(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    const name = /^[A-Za-z_][\w-]{0,99}$/.test(String(key)) ? String(key) : describe(String(key));
    return text === "" ? name : `${text}.${name}`;
  }, "");
}

function describe(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "object":
      return "a mapping";
    case "number":
      return `the number ${value}`;
    case "boolean":
      return String(value);
    default: {
      const text = JSON.stringify(value) ?? "nothing";
      return text.length > 60 ? `${text.slice(0, 57)}..."` : text;
    }
  }
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a mapping (`field: value`)",
  record: "a mapping (`name: value`)",
  array: "a list (`- item`)",
};

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  return at;
}

/** One YAML document, its value, and where everything in it stands. */
class Source {
  readonly value: unknown;
  readonly #document: Document.Parsed;
  readonly #file: string;
  readonly #lines: LineCounter;

  constructor(document: Document.Parsed, file: string, lines: LineCounter) {
    this.#document = document;
    this.#file = file;
    this.#lines = lines;
    this.value = document.toJS({ maxAliasCount: MAX_ALIASES });
  }

  get start(): Position {
    return this.#position(this.#document.contents?.range[0] ?? this.#document.range[0]);
  }

  #position(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.#file, line: Math.max(1, line), column: Math.max(1, col) };
  }

  /** Where the value at `path` stands (`key`: its key); the innermost thing around it that is written, if it is not. */
  locate(path: Path, want: "value" | "key" = "value"): Position {
    let node: Node | ParsedNode | null = this.#document.contents;
    let offset = node?.range?.[0] ?? this.#document.range[0];
    for (const [i, key] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document) ?? null;
      let next: unknown;
      let keyOffset: number | undefined;
      if (isMap(node)) {
        const pair = node.items.find((item) => (isScalar(item.key) ? String(item.key.value) : String(item.key)) === String(key));
        if (pair === undefined) break;
        if (isNode(pair.key)) keyOffset = pair.key.range?.[0];
        next = pair.value;
      } else if (isSeq(node)) next = node.items[Number(key)];
      if (next === undefined) break;
      const valueOffset = isNode(next) ? next.range?.[0] : undefined;
      const isEmpty = isScalar(next) && next.value === null;
      const last = i === path.length - 1;
      // Inside a mapping, what encloses something missing is best shown by its key.
      const preferKey = want === "key" || isEmpty || !last;
      offset = (preferKey ? keyOffset : undefined) ?? valueOffset ?? keyOffset ?? offset;
      node = isNode(next) ? next : null;
    }
    return this.#position(offset);
  }

  error(code: ProblemCode, path: Path, message: string, fix?: string, want: "value" | "key" = "value"): Problem {
    return {
      code,
      severity: "error",
      ...this.locate(path, want),
      path: pathText(path),
      message,
      ...(fix === undefined ? {} : { fix }),
    };
  }

  /** The value as the schema reads it, or what is wrong with it. */
  check<S extends z.ZodType>(schema: S): { readonly value: z.output<S> } | { readonly errors: Problem[] } {
    const parsed = schema.safeParse(this.value);
    return parsed.success ? { value: parsed.data } : { errors: parsed.error.issues.flatMap((issue) => this.#problems(schema, issue)) };
  }

  #problems(schema: z.ZodType, issue: z.core.$ZodIssue): Problem[] {
    const { path } = issue;
    const value = valueAt(this.value, path);
    // A message that a schema of ours carries says more than one that is made here.
    const own = /^(Invalid|Too (big|small)|Unrecognized)\b/.test(issue.message) ? undefined : issue.message;
    const found = `, found ${describe(value)}`;
    if (issue.code === "unrecognized_keys")
      return issue.keys.map((key) => {
        const valid = Object.keys(fieldsOf(schemaAt(schema, path) ?? schema) ?? {});
        const meant = closest(key, valid);
        return this.error(
          "UNKNOWN_FIELD",
          [...path, key],
          `unknown field ${describe(key)}`,
          meant === undefined ? `valid here: ${valid.join(", ")}` : `did you mean ${meant}?`,
          "key",
        );
      });
    if (value === undefined && issue.code !== "custom") {
      const description = descriptionOf(schemaAt(schema, path));
      return [
        this.error("MISSING_FIELD", path, `${pathText(path)} is missing`, description === undefined ? undefined : `add it. ${description}`),
      ];
    }
    switch (issue.code) {
      case "invalid_type": {
        const name = TYPE_NAMES[issue.expected] ?? issue.expected;
        if (issue.expected === "int" || (issue.expected === "number" && typeof value === "number"))
          return [this.error(typeof value === "number" ? "INVALID_VALUE" : "WRONG_TYPE", path, `${own ?? `expected ${name}`}${found}`)];
        const quoted = issue.expected === "string" && (typeof value === "number" || typeof value === "boolean");
        return [
          this.error(
            "WRONG_TYPE",
            path,
            `${own ?? `expected ${name}`}${found}`,
            quoted && own === undefined
              ? `put it in quotes: "${value}"`
              : value === null && issue.expected === "object"
                ? `write ${String(path.at(-1))}: {} where nothing is to be said, or delete it`
                : undefined,
          ),
        ];
      }
      case "invalid_value": {
        const valid = issue.values.map(String);
        const isStrategy = STRATEGIES.every((name) => valid.includes(name));
        const meant = typeof value === "string" ? closest(value, valid) : undefined;
        return [
          this.error(
            isStrategy ? "UNKNOWN_STRATEGY" : typeof value === "string" || typeof value === "number" ? "INVALID_VALUE" : "WRONG_TYPE",
            path,
            isStrategy ? `unknown strategy ${describe(value)}` : `expected ${valid.length > 1 ? "one of " : ""}${valid.join(", ")}${found}`,
            `${meant === undefined ? "" : `did you mean ${meant}? `}${isStrategy ? `valid: ${valid.join(", ")}` : ""}`.trim() || undefined,
          ),
        ];
      }
      case "too_small":
      case "too_big": {
        const small = issue.code === "too_small";
        const bound = String(small ? issue.minimum : issue.maximum);
        const one = { string: " character", array: " entry" }[String(issue.origin)];
        const many = { string: " characters", array: " entries" }[String(issue.origin)];
        const unit = (bound === "1" ? one : many) ?? "";
        const size = Array.isArray(value) ? `, found ${value.length}` : found;
        return [this.error("INVALID_VALUE", path, own ?? `expected at ${small ? "least" : "most"} ${bound}${unit}${size}`)];
      }
      case "custom": {
        const code = issue.params?.["code"];
        // A condition over several fields speaks for itself; one on a single value shows it.
        const scalar = typeof value === "string" || typeof value === "number";
        return [
          this.error(
            typeof code === "string" && Object.hasOwn(PROBLEM_CODES, code) ? (code as ProblemCode) : "INVALID_VALUE",
            path,
            `${issue.message}${scalar && issue.message.startsWith("expected") ? found : ""}`,
          ),
        ];
      }
      default:
        return [
          this.error(
            typeof value === "object" || typeof value === "boolean" ? "WRONG_TYPE" : "INVALID_VALUE",
            path,
            own === undefined ? `${issue.message}${found}` : own.startsWith("expected") ? `${own}${found}` : own,
          ),
        ];
    }
  }
}

function descriptionOf(schema: z.core.$ZodType | undefined): string | undefined {
  return schema === undefined ? undefined : (schema as z.ZodType).meta?.()?.description;
}

/**
 * Keys that are mappings, lists or aliases. No schema has any, and the library writes each out to make a name of it, those in it
 * again for each: time that doubles with each level.
 */
function compoundKeys(document: Document.Parsed): Node[] {
  const found: Node[] = [];
  visit(document, {
    Pair(_, { key }) {
      if (isNode(key) && !isScalar(key)) found.push(key);
    },
  });
  return found;
}

/** The second and later keys of the same name in a mapping. */
function duplicateKeys(document: Document.Parsed): Scalar[] {
  const found: Scalar[] = [];
  visit(document, {
    Map(_, map) {
      const seen = new Set<string>();
      for (const { key } of map.items) {
        if (!isScalar(key)) continue;
        const name = String(key.value);
        if (seen.has(name)) found.push(key);
        seen.add(name);
      }
    },
  });
  return found;
}

/** Reads the YAML of a text; what is wrong with it as YAML is among the errors. */
function sourcesOf(text: string, file: string, maxChars = MAX_FILE_CHARS): { sources: Source[]; errors: Problem[] } {
  const whole = (code: ProblemCode, message: string, fix?: string): Problem => ({
    code,
    severity: "error",
    file,
    line: 1,
    column: 1,
    path: "",
    // The library quotes what it could not read, however long.
    message: message.length > 300 ? `${message.slice(0, 297)}...` : message,
    ...(fix === undefined ? {} : { fix }),
  });
  if (text.length > maxChars)
    return { sources: [], errors: [whole("FILE_TOO_LARGE", `${text.length} characters; at most ${maxChars} are read`, "split it")] };
  const lines = new LineCounter();
  const sources: Source[] = [];
  const errors: Problem[] = [];
  try {
    // Duplicate keys are looked for here: the library compares each key of a mapping with each other one.
    const documents = parseAllDocuments(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false,
      version: "1.2",
      logLevel: "error",
    });
    // An empty text gives an empty list that is marked as one.
    for (const document of "empty" in documents ? [] : documents) {
      const place = (offset: number): { line: number; column: number } => {
        const { line, col } = lines.linePos(offset);
        return { line: Math.max(1, line), column: Math.max(1, col) };
      };
      const faults = [...document.errors, ...document.warnings];
      const tooDeep = faults.find((fault) => fault.message.includes("call stack"));
      if (tooDeep !== undefined) {
        errors.push({ ...whole("YAML_SYNTAX", "nested too deeply to be read"), ...place(tooDeep.pos[0]) });
        continue;
      }
      for (const fault of faults.slice(0, MAX_SYNTAX_ERRORS))
        errors.push({ ...whole("YAML_SYNTAX", fault.message), ...place(fault.pos[0]) });
      const compounds = faults.length > 0 ? [] : compoundKeys(document);
      for (const key of compounds.slice(0, MAX_SYNTAX_ERRORS))
        errors.push({ ...whole("YAML_SYNTAX", "a field's name must be text", "write `name: value`"), ...place(key.range?.[0] ?? 0) });
      const duplicates = faults.length > 0 || compounds.length > 0 ? [] : duplicateKeys(document);
      for (const key of duplicates.slice(0, MAX_SYNTAX_ERRORS))
        errors.push({
          ...whole(
            "DUPLICATE_KEY",
            `the field ${JSON.stringify(String(key.value))} is written twice`,
            "delete one of them: only one would count",
          ),
          ...place(key.range?.[0] ?? 0),
        });
      if (faults.length > 0 || compounds.length > 0 || duplicates.length > 0) continue;
      try {
        const source = new Source(document, file, lines);
        if (source.value !== null && source.value !== undefined) sources.push(source);
      } catch (error) {
        const position = place(document.contents?.range[0] ?? document.range[0]);
        if (error instanceof ReferenceError && error.message.startsWith("Excessive alias count"))
          errors.push({ ...whole("ALIAS_LIMIT", "aliases expand to more than is read", "write the values out"), ...position });
        else errors.push({ ...whole("YAML_SYNTAX", `cannot be read: ${messageOf(error)}`), ...position });
      }
    }
  } catch (error) {
    errors.push(whole("YAML_SYNTAX", error instanceof RangeError ? "nested too deeply to be read" : `cannot be read: ${messageOf(error)}`));
  }
  return { sources, errors };
}

function parseOne(source: Source): { resource: ParsedResource } | { errors: Problem[] } {
  const { value } = source;
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return {
      errors: [
        source.error(
          "WRONG_TYPE",
          [],
          `expected a resource (apiVersion, kind, metadata, spec), found ${describe(value)}`,
          Array.isArray(value) ? "write each resource as a document of its own, with --- between them" : undefined,
        ),
      ],
    };
  const kind = valueAt(value, ["kind"]);
  const apiVersion = valueAt(value, ["apiVersion"]);
  const header: Problem[] = [];
  if (apiVersion === undefined)
    header.push(source.error("MISSING_FIELD", ["apiVersion"], "apiVersion is missing", `write apiVersion: ${API_VERSION}`));
  else if (apiVersion !== API_VERSION)
    header.push(
      source.error("UNKNOWN_KIND", ["apiVersion"], `unknown apiVersion ${describe(apiVersion)}`, `write apiVersion: ${API_VERSION}`),
    );
  if (kind === undefined)
    return { errors: [...header, source.error("MISSING_FIELD", ["kind"], "kind is missing", `one of ${AUTHORED_KINDS.join(", ")}`)] };
  if (typeof kind !== "string" || !KINDS.includes(kind as Kind)) {
    const meant = typeof kind === "string" ? closest(kind, AUTHORED_KINDS) : undefined;
    const fix = `${meant === undefined ? "" : `did you mean ${meant}? `}valid: ${AUTHORED_KINDS.join(", ")}`;
    return { errors: [...header, source.error("UNKNOWN_KIND", ["kind"], `unknown kind ${describe(kind)}`, fix)] };
  }
  const why = WHY_NOT[kind as Kind];
  if (why !== undefined)
    return { errors: [...header, source.error("KIND_NOT_ACCEPTED", ["kind"], `a ${kind} is not written in a file`, why)] };
  if (header.length > 0) return { errors: header };

  const errors: Problem[] = SERVER_FIELDS.filter((field) => valueAt(value, ["metadata", field]) !== undefined).map((field) =>
    source.error("SERVER_FIELD", ["metadata", field], `metadata.${field} is set by the store`, "delete this line", "key"),
  );
  if (valueAt(value, ["status"]) !== undefined)
    errors.push(source.error("SERVER_FIELD", ["status"], "status is written by Nightshift", "delete it", "key"));
  if (CLUSTER_SCOPED.has(kind as Kind) && valueAt(value, ["metadata", "namespace"]) !== undefined)
    errors.push(
      source.error(
        "INVALID_VALUE",
        ["metadata", "namespace"],
        `a ${kind} belongs to no namespace`,
        "delete this line; spec.namespaces says what it covers",
        "key",
      ),
    );
  const checked = source.check(SCHEMAS[kind as AuthoredKind]);
  if ("errors" in checked) return { errors: [...errors, ...checked.errors] };
  if (errors.length > 0) return { errors };
  return { resource: { resource: checked.value, at: source.start, locate: (path) => source.locate(path) } };
}

/**
 * The resources in a text of YAML documents (or of JSON, which is YAML), and what is wrong with the others. Only what one
 * document can show is looked for; `checkResources` looks at all of them together.
 *
 * @example
 * const { resources, errors } = parseResources(text, "policies/payments.yaml");
 */
export function parseResources(text: string, file: string): { resources: ParsedResource[]; errors: Problem[] } {
  const { sources, errors } = sourcesOf(text, file);
  const resources: ParsedResource[] = [];
  for (const source of sources) {
    const parsed = parseOne(source);
    if ("resource" in parsed) resources.push(parsed.resource);
    else errors.push(...parsed.errors);
  }
  return { resources, errors: inOrder(errors) };
}

/**
 * One document by any schema, with the same errors as resources have. `value` is there if and only if nothing is wrong.
 *
 * @param maxChars longest text that is read.
 */
export function parseDocument<S extends z.ZodType>(
  text: string,
  file: string,
  schema: S,
  maxChars = MAX_FILE_CHARS,
): { value?: z.output<S>; errors: Problem[] } {
  const { sources, errors } = sourcesOf(text, file, maxChars);
  if (errors.length > 0) return { errors: inOrder(errors) };
  const [source, second] = sources;
  if (source === undefined || second !== undefined) {
    const message = source === undefined ? "the file is empty" : "a second document begins here; only one is read";
    const at = second?.start ?? { file, line: 1, column: 1 };
    return { errors: [{ code: "NOT_ONE_DOCUMENT", severity: "error", ...at, path: "", message }] };
  }
  const checked = source.check(schema);
  return "errors" in checked ? { errors: inOrder(checked.errors) } : { value: checked.value, errors: [] };
}

/** Problems by file, line and column. */
export function inOrder(problems: readonly Problem[]): Problem[] {
  return [...problems].sort(
    (a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) || a.line - b.line || a.column - b.column || (a.code < b.code ? -1 : 1),
  );
}

/** `file:line:column: severity CODE message`, as compilers say it, and what to write instead on a line of its own. */
export function problemText(problem: Problem): string {
  const { file, line, column, severity, code, message, path, fix } = problem;
  const where = path === "" || message.startsWith(path) ? "" : `${path}: `;
  return `${file}:${line}:${column}: ${severity} ${code} ${where}${message}${fix === undefined ? "" : `\n  fix: ${fix}`}`;
}
