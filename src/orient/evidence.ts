import type { Evidence } from "../api/remediation.ts";

/** Most bytes (JSON, UTF-8) of the evidence that a Remediation keeps; an object in etcd may have 1.5 MiB in all. */
export const MAX_EVIDENCE_BYTES = 16_384;
/** Most pieces of it. */
export const MAX_EVIDENCE = 40;
/** Longest sentence, and longest text among its numbers, in characters. */
const MAX_MESSAGE = 600;
const MAX_TEXT = 200;
/** Most numbers of a piece. */
const MAX_VALUES = 24;

const utf8 = new TextEncoder();
const bytesOf = (evidence: Evidence): number => utf8.encode(JSON.stringify(evidence)).length + 1;

/**
 * Evidence cut down to what a Remediation may keep: what speaks for the diagnosis first, then what was looked at and found
 * well; of the rest, how much there was. The order is otherwise kept, and the same evidence gives the same.
 */
export function boundedEvidence(evidence: readonly Evidence[]): Evidence[] {
  const kept: Evidence[] = [];
  // Room for the piece that says what is left out.
  let left = MAX_EVIDENCE_BYTES - 300;
  const isAside = ({ kind, values }: Evidence): boolean => kind === "Dependency" && values["state"] !== "Unhealthy";
  for (const piece of [...evidence.filter((each) => !isAside(each)), ...evidence.filter(isAside)]) {
    if (kept.length >= MAX_EVIDENCE - 1) break;
    const cut = shortened(piece);
    const bytes = bytesOf(cut);
    if (bytes > left) continue;
    kept.push(cut);
    left -= bytes;
  }
  const more = evidence.length - kept.length;
  if (more === 0) return kept;
  const message = `${more} more pieces of evidence, ${evidence.length} in all, are where allEvidence says, and on the audit trail with the decision`;
  return [...kept, { kind: "Dependency", message, values: { leftOut: more } }];
}

/** Whether all of some evidence is in what is kept of it, whole. */
export function isWhole(kept: readonly Evidence[], evidence: readonly Evidence[]): boolean {
  const texts = new Set(kept.map((piece) => JSON.stringify(piece)));
  return evidence.every((piece) => texts.has(JSON.stringify(piece)));
}

function shortened({ kind, message, values }: Evidence): Evidence {
  const text = (value: string, most: number): string => (value.length <= most ? value : `${value.slice(0, most - 1)}…`);
  return {
    kind,
    message: text(message, MAX_MESSAGE),
    values: Object.fromEntries(
      Object.entries(values)
        .slice(0, MAX_VALUES)
        .map(([key, value]) => [text(key, MAX_TEXT), typeof value === "string" ? text(value, MAX_TEXT) : value]),
    ),
  };
}
