import { z } from "zod";

/** A rule in CEL that the API server holds a value to (`x-kubernetes-validations`). */
export interface Validation {
  /** True for what may be stored. `self` is the value; with `oldSelf` in it, it is asked of updates only. */
  readonly rule: string;
  /** What the person is told whom it refuses. */
  readonly message: string;
}

/** What zod checks by code, or not at all, said to the API server. */
export interface KubernetesMeta {
  readonly rules?: readonly Validation[];
  /** Fields of JSON schema that zod has no word for. */
  readonly schema?: Readonly<{ minProperties?: number; maxLength?: number; pattern?: string }>;
  /** Fields by which server-side apply tells the entries of a list apart; no two entries may have the same. */
  readonly listMapKeys?: readonly string[];
}

/**
 * Beside a schema whose refinement the API server cannot see: the same in CEL. Schemas made from one inherit it, until they
 * are wrapped (`optional`, `default`). `crd.ts` reads it.
 */
export const kubernetes = z.registry<KubernetesMeta>();

/** CEL: exactly one of the fields of `self` is there. */
export function exactlyOneRule(fields: readonly string[]): string {
  return `[${fields.map((field) => `has(self.${field})`).join(", ")}].exists_one(given, given)`;
}

/**
 * CEL: the text `expression`, a duration as `units.ts` reads it, as the time that lies so long after the epoch: such can be
 * compared. CEL's durations have no days and cannot be multiplied, and texts made from numbers break the cost budget.
 */
export function durationExpression(expression: string): string {
  const [days, rest] = [`${expression}.split('d')[0]`, `${expression}.split('d')[1]`];
  return `(${expression}.contains('d') ? timestamp(int(${days}) * 86400) + duration('0' + ${rest}) : timestamp(0) + duration(${expression}))`;
}
