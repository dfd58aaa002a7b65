// The one file of the pure rooms that names Date, and only as a calculator: it never asks what time it is.
/* oxlint-disable no-restricted-globals */

/** Most milliseconds from the epoch that a date can have, in either direction (ECMA-262, 21.4.1.1). */
const MAX_TIME = 8.64e15;

/** Milliseconds since the epoch of an RFC 3339 time; NaN when it is none. */
export function timeMs(text: string): number {
  return Date.parse(text);
}

/** The RFC 3339 text of `ms` since the epoch, in UTC; undefined when no date is that far away, or it is no number. */
export function timeText(ms: number): string | undefined {
  return Math.abs(ms) <= MAX_TIME ? new Date(ms).toISOString() : undefined;
}

/** A Date at `ms`, for libraries that take nothing else. */
export function dateAt(ms: number): Date {
  return new Date(ms);
}

/** A clock's reading as Kubernetes' MicroTime has it. Throws a RangeError for what no clock reads. */
export function microTime(ms: number): string {
  return timestamp(ms).replace("Z", "000Z");
}

/** The RFC 3339 text of a clock's reading. Throws a RangeError for what no clock reads. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString();
}
