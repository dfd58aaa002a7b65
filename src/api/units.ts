import { z } from "zod";
import { kubernetes } from "./kubernetes.ts";

const DURATION = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** Milliseconds of a duration such as `90s`, `1h30m` or `250ms`; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION.exec(text);
  if (!match || text === "") return undefined;
  const [, d = "0", h = "0", m = "0", s = "0", ms = "0"] = match;
  const total = Number(d) * 86_400_000 + Number(h) * 3_600_000 + Number(m) * 60_000 + Number(s) * 1_000 + Number(ms);
  return Number.isSafeInteger(total) ? total : undefined;
}

// Every look at every policy reads the same few texts. Bounded, because policies come and go.
const KNOWN_DURATIONS = 1_000;
const durations = new Map<string, number>();

/** Milliseconds of a duration that a schema has already accepted. */
export function durationMs(text: string): number {
  const known = durations.get(text);
  if (known !== undefined) return known;
  const ms = parseDuration(text);
  if (ms === undefined) throw new RangeError(`not a duration: ${JSON.stringify(text)}`);
  if (durations.size >= KNOWN_DURATIONS) durations.clear();
  durations.set(text, ms);
  return ms;
}

const BINARY: Readonly<Record<string, number>> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };
const DECIMAL: Readonly<Record<string, number>> = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };

const QUANTITY = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$/;

/** Bytes of a Kubernetes quantity such as `256Mi`, `1G` or `1048576`; undefined when it is none. */
export function parseQuantity(text: string): number | undefined {
  const match = QUANTITY.exec(text);
  if (!match) return undefined;
  const factor = match[2] === undefined ? 1 : (BINARY[match[2]] ?? DECIMAL[match[2]] ?? 1);
  const bytes = Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes of a quantity that a schema has already accepted. */
export function quantityBytes(text: string): number {
  const bytes = parseQuantity(text);
  if (bytes === undefined) throw new RangeError(`not a quantity: ${JSON.stringify(text)}`);
  return bytes;
}

const PERCENT = /^(100(?:\.0+)?|0?\d{1,2}(?:\.\d+)?)%$/;

/** A share of 0 to 1 from `"12.5%"`; undefined when it is none. */
export function parsePercent(text: string): number | undefined {
  const match = PERCENT.exec(text);
  return match ? Number(match[1]) / 100 : undefined;
}

/** A share of 0 to 1 that a schema has already accepted. */
export function percentShare(text: string): number {
  const share = parsePercent(text);
  if (share === undefined) throw new RangeError(`not a percentage: ${JSON.stringify(text)}`);
  return share;
}

/** What a value of a unit is called in the reference, and how it is written; schemas made from a unit inherit it. */
export const forms = z.registry<{ readonly form: string; readonly pattern: string }>();

/** Longest text of a duration, quantity or percentage: the API server has to know what a rule about one can cost. */
const MAX_UNIT_CHARS = 32;

// What is none of a unit ends the checks of what it stands in, too: those compare amounts.

/** A length of time as Kubernetes and Prometheus write it. */
export const duration = z
  .string({ error: "expected a duration such as 30s, 5m or 1h30m" })
  .min(1, { error: "expected a duration such as 30s, 5m or 1h30m" })
  .max(MAX_UNIT_CHARS)
  .refine((text) => parseDuration(text) !== undefined, { error: "expected a duration such as 30s, 5m or 1h30m", abort: true })
  .meta({ description: "A duration such as `250ms`, `30s`, `5m` or `1h30m`." })
  .register(forms, { form: "duration", pattern: DURATION.source });

/** A duration that is longer than nothing. */
export const positiveDuration = duration
  .refine((text) => (parseDuration(text) ?? 1) > 0, { error: "expected a duration longer than zero, such as 30s" })
  .register(kubernetes, { rules: [{ rule: "self.matches('[1-9]')", message: "expected a duration longer than zero, such as 30s" }] });

/** A number of bytes as Kubernetes writes it. */
export const quantity = z
  .string({ error: "expected a quantity such as 256Mi or 1G" })
  .max(MAX_UNIT_CHARS)
  .refine((text) => parseQuantity(text) !== undefined, { error: "expected a quantity such as 256Mi or 1G", abort: true })
  .meta({ description: "Bytes as a Kubernetes quantity, such as `256Mi`, `1G` or `1048576`." })
  .register(forms, { form: "quantity", pattern: QUANTITY.source });

/** A percentage as text, `0%` to `100%`. */
export const percent = z
  .string({ error: "expected a percentage from 0% to 100%, such as 5%" })
  .max(MAX_UNIT_CHARS)
  .refine((text) => parsePercent(text) !== undefined, { error: "expected a percentage from 0% to 100%, such as 5%", abort: true })
  .meta({ description: "A percentage such as `5%`." })
  .register(forms, { form: "percentage", pattern: PERCENT.source });

/** A percentage or a whole number, as `maxUnavailable` of a PodDisruptionBudget has it. */
export const percentOrInteger = z
  .union([z.int().min(0), percent], { error: "expected a whole number such as 1, or a percentage such as 10%" })
  .meta({ description: "A whole number, or a percentage such as `10%`." })
  .register(kubernetes, {
    schema: { maxLength: MAX_UNIT_CHARS },
    rules: [
      {
        rule: `type(self) == int ? self >= 0 : self.matches(r'${PERCENT.source}')`,
        message: "expected a whole number such as 1, or a percentage such as 10%",
      },
    ],
  })
  .register(forms, { form: "whole number or percentage", pattern: PERCENT.source });
