import { stringify } from "yaml";
import { z } from "zod";
import { API_VERSION, CLUSTER_SCOPED, KINDS, type Kind } from "./meta.ts";
import { kubernetes, type Validation } from "./kubernetes.ts";
import { KIND_DOCS, SCHEMAS } from "./resources.ts";
import { forms } from "./units.ts";

/** A structural schema, as a CustomResourceDefinition carries it (`JSONSchemaProps`). */
export interface StructuralSchema {
  type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  description?: string;
  default?: unknown;
  enum?: unknown[];
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  required?: string[];
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema;
  items?: StructuralSchema;
  "x-kubernetes-int-or-string"?: true;
  "x-kubernetes-preserve-unknown-fields"?: true;
  "x-kubernetes-list-type"?: "map";
  "x-kubernetes-list-map-keys"?: string[];
  "x-kubernetes-validations"?: { rule: string; message: string }[];
}

/** A column of `kubectl get`. With a priority above 0 it is shown by `-o wide` only. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly description: string;
  readonly jsonPath: string;
  readonly priority?: number;
}

/** A CustomResourceDefinition of `apiextensions.k8s.io/v1`, cut down to what ours say. */
export interface CustomResourceDefinition {
  readonly apiVersion: "apiextensions.k8s.io/v1";
  readonly kind: "CustomResourceDefinition";
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly group: string;
    readonly scope: "Namespaced" | "Cluster";
    readonly names: {
      readonly kind: Kind;
      readonly listKind: string;
      readonly plural: string;
      readonly singular: string;
      readonly shortNames: readonly string[];
      readonly categories: readonly string[];
    };
    readonly versions: readonly [
      {
        readonly name: string;
        readonly served: true;
        readonly storage: true;
        readonly schema: { readonly openAPIV3Schema: StructuralSchema };
        readonly subresources?: { readonly status: Record<string, never> };
        readonly selectableFields?: readonly { readonly jsonPath: string }[];
        readonly additionalPrinterColumns: readonly PrinterColumn[];
      },
    ];
  };
}

const [GROUP = "", VERSION = ""] = API_VERSION.split("/");

/** The name of each kind in the API's paths. */
export const PLURALS: Readonly<Record<Kind, string>> = {
  RemediationPolicy: "remediationpolicies",
  Runbook: "runbooks",
  Remediation: "remediations",
  RemediationBudget: "remediationbudgets",
  RemediationApproval: "remediationapprovals",
  ServiceDependency: "servicedependencies",
};

const SHORT_NAMES: Readonly<Record<Kind, string>> = {
  RemediationPolicy: "rp",
  Runbook: "rb",
  Remediation: "rem",
  RemediationBudget: "rbud",
  RemediationApproval: "ra",
  ServiceDependency: "sd",
};

const text = (name: string, jsonPath: string, description: string): PrinterColumn => ({ name, type: "string", jsonPath, description });
const wide = (column: PrinterColumn): PrinterColumn => ({ ...column, priority: 1 });
const AGE: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Since when it exists." };

/** What `kubectl get` shows beside the name. */
const COLUMNS: Readonly<Record<Kind, readonly PrinterColumn[]>> = {
  RemediationPolicy: [
    text("Mode", ".spec.mode", "How far it may go by itself."),
    text("Target", ".spec.targets[0].name", "The first of its targets that are named."),
    text("First", ".spec.ladder[0]['strategy', 'runbook']", "The first rung of its ladder."),
    text("Accepted", ".status.conditions[?(@.type=='Accepted')].status", "Whether it is sound and can be carried out."),
    text("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether it covers anything, and what its signals look at is there."),
    AGE,
    wide(text("Paused", ".spec.paused.reason", "Why it is paused.")),
    wide(text("Message", ".status.conditions[?(@.type=='Accepted')].message", "Why it is accepted or not.")),
  ],
  Runbook: [AGE, wide(text("Description", ".spec.description", "When to use it."))],
  Remediation: [
    text("Target", ".spec.remediationTarget.name", "What the diagnosis says is ill."),
    text("Cause", ".spec.diagnosis.cause", "What is wrong."),
    text("Action", ".status.attempts[-1:].what", "The rung that was begun last."),
    text("Phase", ".status.phase", "How far the episode is."),
    text("Reason", ".status.reason", "Why it is blocked, or why it ended."),
    AGE,
    wide(text("Outcome", ".status.outcome", "How it ended.")),
    wide(text("Policy", ".spec.policy.name", "The policy that it belongs to.")),
    wide(text("Mode", ".spec.mode", "The policy's mode when the episode began.")),
    wide(text("Workload", ".spec.workload.name", "The workload that the target belongs to.")),
    wide(text("Message", ".status.message", "Why, for people.")),
  ],
  RemediationBudget: [
    { name: "Max-Concurrent", type: "integer", jsonPath: ".spec.maxConcurrent", description: "Most live remediations at once." },
    text("Max-Unavailable", ".spec.budgets[0].maxUnavailable", "The first of its limits a workload."),
    text("Paused", ".spec.paused.reason", "Why everything that it covers is stopped."),
    AGE,
  ],
  RemediationApproval: [
    text("Remediation", ".spec.remediation", "The episode that it answers."),
    text("Decision", ".spec.decision", "Yes or no."),
    text("By", ".spec.by", "Who answered."),
    AGE,
    wide(text("Reason", ".spec.reason", "Why.")),
  ],
  ServiceDependency: [text("From", ".spec.from.name", "The caller."), text("To", ".spec.to.name", "What it depends on."), AGE],
};

/** Fields by which `kubectl get --field-selector` can choose. */
const SELECTABLE: Partial<Record<Kind, readonly string[]>> = {
  Remediation: [".spec.policy.name", ".spec.workload.name", ".status.phase"],
  RemediationApproval: [".spec.remediation"],
};

/** What `z.toJSONSchema` makes, with our extensions in it. */
type Json = Omit<StructuralSchema, "properties" | "items" | "additionalProperties"> & {
  properties?: Record<string, Json>;
  items?: Json;
  additionalProperties?: Json | boolean;
  anyOf?: unknown;
};

/** Writes into the JSON of one schema what its zod schema knows beside. */
function annotate({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  const json = jsonSchema as Json;
  const unit = forms.get(zodSchema as z.ZodType);
  if (unit !== undefined) {
    if (json.anyOf === undefined) json.pattern = unit.pattern;
    else {
      delete json.anyOf;
      json["x-kubernetes-int-or-string"] = true;
    }
  }
  const { rules = [], schema, listMapKeys } = kubernetes.get(zodSchema as z.ZodType) ?? {};
  if (rules.length > 0) json["x-kubernetes-validations"] = rules.map(({ rule, message }) => ({ rule, message }));
  if (listMapKeys !== undefined) {
    json["x-kubernetes-list-type"] = "map";
    json["x-kubernetes-list-map-keys"] = [...listMapKeys];
  }
  Object.assign(json, schema);
}

/** The order in which a schema is read best: what it is, what it may be, what is in it. */
const FIELD_ORDER: readonly (keyof StructuralSchema)[] = ["description", "type", "format", "default", "enum"];
const LAST_FIELDS: readonly (keyof StructuralSchema)[] = ["required", "properties", "additionalProperties", "items"];

function inReadingOrder(schema: StructuralSchema): StructuralSchema {
  const rank = (field: string): number => {
    const first = FIELD_ORDER.indexOf(field as keyof StructuralSchema);
    return first === -1 ? FIELD_ORDER.length + 1 + LAST_FIELDS.indexOf(field as keyof StructuralSchema) : first;
  };
  return Object.fromEntries(Object.entries(schema).sort(([a], [b]) => rank(a) - rank(b)));
}

function addRule(schema: StructuralSchema, rule: Validation): void {
  (schema["x-kubernetes-validations"] ??= []).push({ ...rule });
}

/**
 * The schema that a CustomResourceDefinition may have: a type everywhere, no `additionalProperties: false` (the API server
 * prunes, and strict clients refuse, what is not named), no bounds that are only JavaScript's.
 */
function structural(json: Json): StructuralSchema {
  const { properties, items, additionalProperties, anyOf, ...rest } = json;
  const schema: StructuralSchema = rest;
  const unbounded = (bound: number | undefined): boolean => bound !== undefined && Math.abs(bound) === Number.MAX_SAFE_INTEGER;
  if (unbounded(schema.minimum)) delete schema.minimum;
  if (unbounded(schema.maximum)) delete schema.maximum;
  if (schema.type === "integer") schema.format = "int64";
  // The API server cuts a bound off at the point before it compares a whole number with it: 0 would pass for at least 0.5.
  const { minimum, maximum } = schema;
  if (minimum !== undefined && !Number.isInteger(minimum))
    addRule(schema, { rule: `self >= ${minimum}`, message: `expected at least ${minimum}` });
  if (maximum !== undefined && !Number.isInteger(maximum))
    addRule(schema, { rule: `self <= ${maximum}`, message: `expected at most ${maximum}` });
  // A list passes for a text that has a format (kube-openapi takes it for bytes): the pattern says as much.
  if (schema.format === "date-time") delete schema.format;
  if (Object.keys(properties ?? {}).length > 0)
    schema.properties = Object.fromEntries(Object.entries(properties ?? {}).map(([name, property]) => [name, structural(property)]));
  if (items !== undefined) schema.items = structural(items);
  if (typeof additionalProperties === "object") schema.additionalProperties = structural(additionalProperties);
  // A union of scalars, or anything at all, is no structural type: it is kept as it is.
  if (anyOf !== undefined || (schema.type === undefined && schema["x-kubernetes-int-or-string"] === undefined))
    schema["x-kubernetes-preserve-unknown-fields"] = true;
  if (schema.default !== undefined) schema.default = filled(schema.default, schema);
  return inReadingOrder(schema);
}

/** A default with the defaults inside it: the API server asks the rules of what is written, not of what it becomes. */
function filled(value: unknown, schema: StructuralSchema): unknown {
  if (Array.isArray(value)) return value.map((item) => filled(item, schema.items ?? {}));
  if (typeof value !== "object" || value === null) return value;
  const inner = Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const given = (value as Readonly<Record<string, unknown>>)[name] ?? property.default;
    return given === undefined ? [] : [[name, filled(given, property)] as const];
  });
  return { ...value, ...Object.fromEntries(inner) };
}

/** Fields below a schema that say nothing about themselves; `metadata` apart, which the API server describes. */
export function undescribed(schema: StructuralSchema, path = ""): string[] {
  const below = Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const at = `${path}.${name}`;
    if (at === ".metadata") return [];
    return [...((property.description ?? "") === "" ? [at] : []), ...undescribed(property, at)];
  });
  return [
    ...below,
    ...[schema.items, schema.additionalProperties].flatMap((inner) => (inner === undefined ? [] : undescribed(inner, path))),
  ];
}

/** The schema of a kind, as its CustomResourceDefinition carries it. */
export function structuralSchema(kind: Kind): StructuralSchema {
  const json = z.toJSONSchema(SCHEMAS[kind], {
    target: "openapi-3.0",
    io: "input",
    reused: "inline",
    unrepresentable: "any",
    override: annotate,
  }) as Json;
  const { properties = {}, ...root } = structural(json);
  const { apiVersion, kind: kindName, metadata, ...own } = properties;
  if (apiVersion === undefined || kindName === undefined || metadata === undefined) throw new RangeError(`${kind} is no resource`);
  return {
    description: KIND_DOCS[kind],
    type: "object",
    // A status comes after its object, by another write.
    required: ["spec"],
    properties: {
      apiVersion: { type: "string", description: apiVersion.description ?? "" },
      kind: { type: "string", description: kindName.description ?? "" },
      // The API server says by itself what metadata is, and refuses a word of ours.
      metadata: { type: "object" },
      ...own,
    },
    ...(root["x-kubernetes-validations"] === undefined ? {} : { "x-kubernetes-validations": root["x-kubernetes-validations"] }),
  };
}

/**
 * The CustomResourceDefinition of a kind.
 *
 * @example
 * const { name } = customResourceDefinition("Remediation").metadata; // remediations.nightshift.dev
 */
export function customResourceDefinition(kind: Kind): CustomResourceDefinition {
  const plural = PLURALS[kind];
  const schema = structuralSchema(kind);
  const selectable = SELECTABLE[kind];
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}`, labels: { "app.kubernetes.io/name": "nightshift", "app.kubernetes.io/part-of": "nightshift" } },
    spec: {
      group: GROUP,
      scope: CLUSTER_SCOPED.has(kind) ? "Cluster" : "Namespaced",
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [SHORT_NAMES[kind]],
        categories: ["nightshift"],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: schema },
          ...(schema.properties?.["status"] === undefined ? {} : { subresources: { status: {} } }),
          ...(selectable === undefined ? {} : { selectableFields: selectable.map((jsonPath) => ({ jsonPath })) }),
          additionalPrinterColumns: COLUMNS[kind],
        },
      ],
    },
  };
}

/** The CustomResourceDefinitions of all kinds. */
export function customResourceDefinitions(): CustomResourceDefinition[] {
  return KINDS.map(customResourceDefinition);
}

/** Said at the head of every generated file. */
const GENERATED = "# Generated from the zod schemas in src/api by `npm run crds`. Edit the schemas, not this file.\n";

/** The name of the file that a definition is kept in, as controller-gen names them. */
export function crdFileName(crd: CustomResourceDefinition): string {
  return `${GROUP}_${crd.spec.names.plural}.yaml`;
}

/** Definitions as YAML, each a document. */
export function crdYaml(crds: readonly CustomResourceDefinition[]): string {
  // Anchors would save a third, and nobody expects them in a manifest.
  const documents = crds.map((crd) => stringify(crd, { aliasDuplicateObjects: false, lineWidth: 120 }));
  return GENERATED + documents.join("---\n");
}
