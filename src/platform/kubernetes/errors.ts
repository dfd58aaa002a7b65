import { NightshiftError } from "../../api/errors.ts";

/** The API server's own account of a failure (`kind: Status`), as far as it is read here. */
export interface KubeStatus {
  readonly code?: number;
  /** In one word, such as `NotFound` or `Expired`. */
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly name?: string;
    readonly kind?: string;
    readonly group?: string;
    readonly uid?: string;
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly reason?: string; readonly message?: string; readonly field?: string }[];
  };
}

/** Codes of a `KubeApiError`. Stable: programs match on these. */
export const KUBE_ERROR_CODES = {
  KUBE_BAD_REQUEST: "The API server cannot make sense of the request (400).",
  KUBE_UNAUTHORIZED: "The credentials are not accepted (401).",
  KUBE_FORBIDDEN: "RBAC or an admission policy refuses it (403).",
  KUBE_NOT_FOUND: "There is no such object, or no such resource type (404).",
  KUBE_ALREADY_EXISTS: "An object of that name exists (409).",
  KUBE_CONFLICT: "The resourceVersion is no longer the newest, or a precondition does not hold (409).",
  KUBE_GONE: "The resourceVersion or the continue token is too old (410).",
  KUBE_TOO_LARGE: "The request is larger than the API server takes (413).",
  KUBE_INVALID: "The object is refused by its schema or by a validation rule (422).",
  KUBE_TOO_MANY_REQUESTS: "The API server asks to come back later, or a PodDisruptionBudget forbids an eviction (429).",
  KUBE_REFUSED: "Another refusal (4xx).",
  KUBE_INTERNAL: "The API server failed (500).",
  KUBE_UNAVAILABLE: "The API server, or what stands before it, cannot serve now (502, 503).",
  KUBE_TIMEOUT: "No whole answer in time (504, or our own limit).",
  KUBE_UNREACHABLE: "No connection could be made; nothing was sent.",
  KUBE_CONNECTION_LOST: "The connection broke before the whole answer had come.",
  KUBE_ABORTED: "The caller took it back.",
  KUBE_PROTOCOL: "The answer is not what the Kubernetes API sends.",
  KUBE_RESPONSE_TOO_LARGE: "The answer is larger than the limit.",
  KUBE_CREDENTIALS: "The credentials cannot be read or made.",
} as const;
export type KubeErrorCode = keyof typeof KUBE_ERROR_CODES;

/** Codes of failures before anything was sent, or that the API server promises to have had no effect. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set<KubeErrorCode>(["KUBE_UNREACHABLE", "KUBE_CREDENTIALS", "KUBE_TOO_MANY_REQUESTS"]);

/** Codes after which the same request may succeed later, with nothing changed. */
const TRANSIENT: ReadonlySet<string> = new Set<KubeErrorCode>([
  "KUBE_TOO_MANY_REQUESTS",
  "KUBE_INTERNAL",
  "KUBE_UNAVAILABLE",
  "KUBE_TIMEOUT",
  "KUBE_UNREACHABLE",
  "KUBE_CONNECTION_LOST",
  "KUBE_CREDENTIALS",
]);

const FIXES: Readonly<Partial<Record<KubeErrorCode, string>>> = {
  KUBE_UNAUTHORIZED: "Look at the kubeconfig's user, or the ServiceAccount's token.",
  KUBE_FORBIDDEN: "Grant it by RBAC, or look at what the named policy says.",
  KUBE_UNREACHABLE: "Is the API server running, and its address in the kubeconfig right?",
  KUBE_CREDENTIALS: "Look at the kubeconfig's user: its files, or the command that it runs.",
};

/** A request to the API server that failed. */
export class KubeApiError extends NightshiftError {
  declare readonly code: KubeErrorCode;
  /** HTTP status, where the API server answered. */
  readonly statusCode: number | undefined;
  /** The Status' reason, such as `NotFound`; undefined where there was none. */
  readonly reason: string | undefined;
  /** How long the API server asks to wait (ms), where it does. */
  readonly retryAfterMs: number | undefined;
  /** What the API server said, where it said it as a Status. */
  readonly status: KubeStatus | undefined;

  constructor(
    code: KubeErrorCode,
    message: string,
    options: {
      readonly where?: string;
      readonly cause?: unknown;
      readonly statusCode?: number | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly status?: KubeStatus | undefined;
    } = {},
  ) {
    const { where, cause, statusCode, retryAfterMs, status } = options;
    const fix = FIXES[code];
    super(code, message, { ...(where === undefined ? {} : { where }), ...(fix === undefined ? {} : { fix }), cause });
    this.statusCode = statusCode;
    this.reason = status?.reason;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
  }

  /** Whether the request may have had its effect all the same. False where the API server refused it, or never got it. */
  get mayHaveTakenEffect(): boolean {
    if (WITHOUT_EFFECT.has(this.code)) return false;
    return this.statusCode === undefined || this.statusCode >= 500;
  }

  /** Whether the same request may succeed later, with nothing changed. */
  get isTransient(): boolean {
    return TRANSIENT.has(this.code);
  }
}

/** The error for an answer that is no success. `text` is its body. */
export function errorOfResponse(statusCode: number, text: string, retryAfter: string | undefined, where: string): KubeApiError {
  const status = parseStatus(text);
  const message = status?.message ?? (text.trim().slice(0, 300) || `HTTP ${statusCode}`);
  return new KubeApiError(codeOf(statusCode, status?.reason), message, {
    where,
    statusCode,
    status,
    retryAfterMs: parseRetryAfter(retryAfter) ?? secondsToMs(status?.details?.retryAfterSeconds),
  });
}

/** The error for an `ERROR` line of a watch, whose object is a Status. */
export function errorOfStatus(object: unknown, where: string): KubeApiError {
  const status = isStatus(object) ? object : undefined;
  const statusCode = status?.code ?? 500;
  return new KubeApiError(codeOf(statusCode, status?.reason), status?.message ?? "the watch ended with an error", {
    where,
    statusCode,
    status,
    retryAfterMs: secondsToMs(status?.details?.retryAfterSeconds),
  });
}

function codeOf(statusCode: number, reason: string | undefined): KubeErrorCode {
  switch (statusCode) {
    case 400:
      return "KUBE_BAD_REQUEST";
    case 401:
      return "KUBE_UNAUTHORIZED";
    case 403:
      return "KUBE_FORBIDDEN";
    case 404:
      return "KUBE_NOT_FOUND";
    case 409:
      return reason === "AlreadyExists" ? "KUBE_ALREADY_EXISTS" : "KUBE_CONFLICT";
    case 410:
      return "KUBE_GONE";
    case 413:
      return "KUBE_TOO_LARGE";
    case 422:
      return "KUBE_INVALID";
    case 429:
      return "KUBE_TOO_MANY_REQUESTS";
    case 502:
    case 503:
      return "KUBE_UNAVAILABLE";
    case 504:
      return "KUBE_TIMEOUT";
    default:
      return statusCode >= 500 ? "KUBE_INTERNAL" : statusCode >= 400 ? "KUBE_REFUSED" : "KUBE_PROTOCOL";
  }
}

function isStatus(value: unknown): value is KubeStatus {
  return typeof value === "object" && value !== null && (value as { kind?: unknown }).kind === "Status";
}

function parseStatus(text: string): KubeStatus | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isStatus(value) ? value : undefined;
  } catch {
    // A proxy in between may answer with HTML.
    return undefined;
  }
}

function secondsToMs(seconds: number | undefined): number | undefined {
  return seconds === undefined || !Number.isFinite(seconds) || seconds < 0 ? undefined : seconds * 1000;
}

/** A Retry-After in seconds, which is the form that the API server sends; an HTTP date would trust its clock. */
function parseRetryAfter(header: string | undefined): number | undefined {
  return header === undefined || !/^\d+$/.test(header.trim()) ? undefined : secondsToMs(Number(header));
}

const hasCode = (error: unknown, code: KubeErrorCode): error is KubeApiError => error instanceof KubeApiError && error.code === code;

/** There is no such object. */
export const isNotFound = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_NOT_FOUND");
/** An object of that name exists. */
export const isAlreadyExists = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_ALREADY_EXISTS");
/** What was read is no longer the newest, or a precondition does not hold. */
export const isConflict = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_CONFLICT");
/** A field that an apply would change, and who has written it. */
export interface FieldConflict {
  /** Such as `spec.replicas`. */
  readonly field: string;
  readonly manager: string;
  /** Whether they state it by server-side apply; else they wrote it once. */
  readonly isStated: boolean;
}
/** The fields for which an apply was refused; none where the error says something else. */
export function fieldConflicts(error: unknown): FieldConflict[] {
  if (!isConflict(error)) return [];
  const causes = error.status?.details?.causes ?? [];
  return causes
    .filter(({ reason }) => reason === "FieldManagerConflict")
    .map(({ field = "", message = "" }) => {
      // `conflict with "kubectl-edit" with subresource "scale" using apps/v1 at 2026-01-01T00:00:00Z`: of an apply, the name alone.
      const [, manager = message, rest = ""] = /^conflict with "((?:[^"\\]|\\.)*)"(.*)$/.exec(message) ?? [];
      return { field: field.replace(/^\./, ""), manager, isStated: !/ using /.test(rest) };
    });
}
/** The resourceVersion or the continue token is too old. */
export const isGone = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_GONE");
/** RBAC or an admission policy refuses it. */
export const isForbidden = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_FORBIDDEN");
/**
 * The chart's admission policy says that another leads, or nobody. To a process that does lead this passes: an API server
 * learns of the Lease a little after it was taken.
 */
export const isFenced = (error: unknown): error is KubeApiError =>
  isForbidden(error) && /another leads now|nobody leads/.test(error.message);
/** A schema or a validation rule refuses the object. */
export const isInvalid = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_INVALID");
/** The API server asks to come back later; an eviction that a PodDisruptionBudget forbids comes as this, too. */
export const isTooManyRequests = (error: unknown): error is KubeApiError => hasCode(error, "KUBE_TOO_MANY_REQUESTS");
/** A PodDisruptionBudget forbids the eviction now. */
export const isDisruptionBudget = (error: unknown): boolean =>
  isTooManyRequests(error) && (error.status?.details?.causes?.some((cause) => cause.reason === "DisruptionBudget") ?? false);
