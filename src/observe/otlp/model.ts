import { NightshiftError } from "../../api/errors.ts";
import { HINT_ACTION, HINT_SATURATION } from "../hints.ts";

/** Most exemplars of a point that are kept: evidence, not data. */
export const MAX_EXEMPLARS = 4;

/** A value of an attribute. Lists and maps of values are kept as such; integers beyond 2^53 as their digits. */
export type AttributeValue = string | number | boolean | null | readonly AttributeValue[] | { readonly [key: string]: AttributeValue };

/** How the points of a sum or histogram relate to the ones before them. */
export type Temporality = "Unspecified" | "Delta" | "Cumulative";

/** One measurement of those that a point is made of, as the sender's example. */
export interface Exemplar {
  /** Milliseconds since the epoch. */
  readonly t: number;
  readonly value: number;
  /** 32 hexadecimal digits; empty where it was measured outside of a trace. */
  readonly traceId: string;
}

interface PointBase {
  /** Milliseconds since the epoch; 0 where the sender did not say. */
  readonly start: number;
  /** Milliseconds since the epoch. */
  readonly t: number;
  /** The same text for the same set of attributes, whatever their order; empty where there are none. */
  readonly attributesKey: string;
  /** Of the attributes, those that something here reads. */
  readonly statusCode: AttributeValue | undefined;
  readonly errorType: AttributeValue | undefined;
  readonly hintAction: AttributeValue | undefined;
  readonly hintSaturation: AttributeValue | undefined;
  /** The sender says that there is no value: a mark that the stream has ended. */
  readonly noValue: boolean;
  /** Its attributes are too many or too long. */
  readonly oversized: boolean;
  /** At most `MAX_EXEMPLARS`, in the sender's order. */
  readonly exemplars: readonly Exemplar[];
}

export interface NumberPoint extends PointBase {
  /** Undefined where the point carries none. */
  readonly value: number | undefined;
}

/** What all points have that sum observations up. */
export interface SummedPoint extends PointBase {
  readonly count: number;
  /** Of what was observed; undefined where the sender does not say. */
  readonly sum: number | undefined;
}

export interface HistogramPoint extends SummedPoint {
  /** Upper bounds, ascending; one fewer than the counts. */
  readonly bounds: readonly number[];
  /** Empty where the sender has no buckets. */
  readonly counts: readonly number[];
  readonly max: number | undefined;
}

export interface ExponentialHistogramPoint extends SummedPoint {
  readonly scale: number;
  readonly zeroCount: number;
  /** Index of the first of the counts. */
  readonly offset: number;
  readonly counts: readonly number[];
}

/** One metric, before it is known which instrumentation scope it is of. */
export type Unscoped = { readonly name: string; readonly unit: string } & (
  | { readonly kind: "Gauge"; readonly points: readonly NumberPoint[] }
  | { readonly kind: "Sum"; readonly points: readonly NumberPoint[]; readonly temporality: Temporality; readonly monotonic: boolean }
  | { readonly kind: "Histogram"; readonly points: readonly HistogramPoint[]; readonly temporality: Temporality }
  | { readonly kind: "ExponentialHistogram"; readonly points: readonly ExponentialHistogramPoint[]; readonly temporality: Temporality }
  | { readonly kind: "Summary"; readonly points: readonly SummedPoint[]; readonly temporality: "Cumulative" }
);

/** One metric of one resource. `scope` is the instrumentation's name: two of them may count under one metric's name. */
export type Metric = Unscoped & { readonly scope: string };

/** Who sent something, by the attributes of its resource. */
export interface Identity {
  /** The replica's uid. */
  readonly instanceId: string | undefined;
  /** The workload's name. */
  readonly serviceName: string | undefined;
  /** The workload's namespace. */
  readonly serviceNamespace: string | undefined;
  /** The same for the same process: containers of a pod have one uid, and each its own counters. */
  readonly process: string;
}

/** What one process sent. */
export interface ResourceMetrics extends Identity {
  readonly metrics: readonly Metric[];
}

/**
 * Resource attributes that say who sent it, the strongest first. What Kubernetes calls a thing stands above what the
 * application calls itself: the OpenTelemetry operator and the k8sattributes processor set the former, and their
 * `service.instance.id` is no pod's uid.
 */
const IDENTITY = {
  instanceId: ["k8s.pod.uid", "service.instance.id"],
  serviceName: ["k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "service.name"],
  serviceNamespace: ["k8s.namespace.name", "service.namespace"],
} as const;
/** The only one that is a number. */
const PID = "process.pid";
/** Beside the former, what tells two processes of one pod apart: containers, and the workers of one of them. */
const PROCESS = ["k8s.container.name", "service.name", "service.instance.id", PID] as const;
const IDENTITY_KEYS: ReadonlySet<string> = new Set([...Object.values(IDENTITY).flat(), ...PROCESS]);

/** Whether `identityOf` reads this resource attribute. */
export function isIdentity(key: string): boolean {
  return IDENTITY_KEYS.has(key);
}

/** What counts of a resource attribute that `identityOf` reads; undefined where it is not of the type that it must be. */
export function identityText(key: string, value: AttributeValue): string | undefined {
  return typeof value === "string" ? value : key === PID && typeof value === "number" ? String(value) : undefined;
}

/** Who sent it, by its resource's attributes. */
export function identityOf(attributes: ReadonlyMap<string, string>): Identity {
  const first = (keys: readonly string[]): string | undefined =>
    keys.map((key) => attributes.get(key)).find((value) => value !== undefined);
  return {
    instanceId: first(IDENTITY.instanceId),
    serviceName: first(IDENTITY.serviceName),
    serviceNamespace: first(IDENTITY.serviceNamespace),
    process: JSON.stringify([first(IDENTITY.instanceId), ...PROCESS.map((key) => attributes.get(key))]),
  };
}

/** An ExportMetricsServiceRequest, cut down to what is read here. */
export interface MetricsRequest {
  readonly resources: readonly ResourceMetrics[];
  /** Points over the limit of points of a request: not decoded. */
  readonly overLimit: number;
}

/** The bounds of one request. What is over a bound of a point refuses that point; of the whole, the request. */
export interface OtlpLimits {
  /** Most points; those beyond are refused. Default 100,000. */
  readonly maxPoints: number;
  /** Most resources, scopes and metrics together; beyond, the request is refused. Default 50,000. */
  readonly maxItems: number;
  /** Most attributes of a point. Default 128. */
  readonly maxAttributes: number;
  /** Longest key or text value of an attribute, and name of a metric, in characters. Default 1,024. */
  readonly maxTextLength: number;
  /** How deep an attribute's value may be nested. Default 8. */
  readonly maxValueDepth: number;
  /** Most buckets of a histogram's point. Default 1,024. */
  readonly maxBuckets: number;
  /** How deep JSON may be nested. Default 64. */
  readonly maxJsonDepth: number;
}

export const DEFAULT_OTLP_LIMITS: OtlpLimits = {
  maxPoints: 100_000,
  maxItems: 50_000,
  maxAttributes: 128,
  maxTextLength: 1_024,
  maxValueDepth: 8,
  maxBuckets: 1_024,
  maxJsonDepth: 64,
};

/** Counts what a request holds while it is decoded, and stops it where it holds too much. */
export class Tally {
  readonly limits: OtlpLimits;
  points = 0;
  overLimit = 0;
  #items = 0;

  constructor(limits: OtlpLimits) {
    this.limits = limits;
  }

  /** Whether there is place for one point more. */
  point(): boolean {
    if (this.points >= this.limits.maxPoints) {
      this.overLimit++;
      return false;
    }
    this.points++;
    return true;
  }

  item(): void {
    if (++this.#items > this.limits.maxItems)
      throw new NightshiftError("TOO_MANY_ITEMS", `more than ${this.limits.maxItems} resources, scopes and metrics in one request`, {
        fix: "Send smaller batches.",
      });
  }
}

/** What a request that cannot be decoded is refused with. */
export function malformed(message: string, cause?: unknown): NightshiftError {
  return new NightshiftError("MALFORMED_OTLP", message, {
    fix: "Send an export request of OTLP 1.x.",
    ...(cause === undefined ? {} : { cause }),
  });
}

export function tooDeep(depth: number): NightshiftError {
  return new NightshiftError("TOO_DEEP", `an attribute's value is nested more than ${depth} deep`, { fix: "Send it flatter." });
}

/** What is kept of the attributes of a point that has none. */
export const NO_ATTRIBUTES = {
  attributesKey: "",
  statusCode: undefined,
  errorType: undefined,
  hintAction: undefined,
  hintSaturation: undefined,
  oversized: false,
} as const;

/** What is kept of a point's attributes. */
export type PointAttributes = Pick<PointBase, "attributesKey" | "statusCode" | "errorType" | "hintAction" | "hintSaturation" | "oversized">;

/** Gathers the attributes of one point. Of a key that comes twice, the last counts. */
export class AttributeSet {
  readonly #limits: OtlpLimits;
  #entries: [string, AttributeValue][] | undefined;
  #oversized = false;

  constructor(limits: OtlpLimits) {
    this.#limits = limits;
  }

  add(key: string, value: AttributeValue): void {
    this.#entries ??= [];
    if (
      this.#entries.length >= this.#limits.maxAttributes ||
      key.length > this.#limits.maxTextLength ||
      (typeof value === "string" && value.length > this.#limits.maxTextLength)
    ) {
      this.#oversized = true;
      return;
    }
    const known = this.#entries.find(([other]) => other === key);
    if (known === undefined) this.#entries.push([key, value]);
    else known[1] = value;
  }

  finish(): PointAttributes {
    const entries = this.#entries;
    if (entries === undefined) return NO_ATTRIBUTES;
    if (entries.length > 1) entries.sort(([a], [b]) => (a < b ? -1 : 1));
    let attributesKey = "";
    let statusCode: AttributeValue | undefined;
    let errorType: AttributeValue | undefined;
    let hintAction: AttributeValue | undefined;
    let hintSaturation: AttributeValue | undefined;
    for (const [key, value] of entries) {
      attributesKey += `${attributesKey === "" ? "" : ","}${JSON.stringify(key)}:${JSON.stringify(value)}`;
      if (key === "http.response.status_code") statusCode = value;
      else if (key === "error.type") errorType = value;
      else if (key === HINT_ACTION) hintAction = value;
      else if (key === HINT_SATURATION) hintSaturation = value;
    }
    const oversized = this.#oversized || attributesKey.length > 8 * this.#limits.maxTextLength;
    return { attributesKey, statusCode, errorType, hintAction, hintSaturation, oversized };
  }
}

/** A map value with its keys in order, so that the same map gives the same text. */
export function sortedMap(entries: readonly (readonly [string, AttributeValue])[]): AttributeValue {
  return Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** A number where that is exact, else the digits. */
export function exactInteger(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
