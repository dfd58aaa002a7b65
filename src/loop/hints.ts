import type { Remediation } from "../api/remediation.ts";
import type { Signal } from "../api/signal.ts";
import { timeMs } from "../api/time.ts";
import type { Detection } from "../orient/detect.ts";

/**
 * When the hints that had arrived were answered by an episode (ms); undefined while they are not. A hint asks once: what was
 * done, or decided, after it arrived is its answer, and only one that comes later says that it did not help. A rung that
 * did not help is no answer: the next one is.
 */
function answeredAt({ status }: Remediation): number | undefined {
  if (status.endedAt !== undefined) return timeMs(status.endedAt);
  if (status.phase !== "Verifying") return undefined;
  const ends = (status.attempts.at(-1)?.steps ?? []).flatMap(({ endedAt }) => (endedAt === undefined ? [] : [timeMs(endedAt)]));
  return ends.length === 0 ? undefined : Math.max(...ends);
}

/** Knows which hints were answered: there is no second place for it than the episodes that exist. */
export class AnsweredHints {
  #index: { readonly of: readonly Remediation[]; readonly answers: ReadonlyMap<string, number> } | undefined;

  /** A detection without the hints that an episode has answered. */
  without(detection: Detection, remediations: readonly Remediation[]): Detection {
    if (!detection.signals.some(({ condition }) => condition === "hint")) return detection;
    const answers = this.#answers(remediations);
    const open = ({ condition, fingerprint, receivedAt }: Signal): boolean =>
      condition !== "hint" || receivedAt > (answers.get(fingerprint) ?? Number.NEGATIVE_INFINITY);
    return { ...detection, signals: detection.signals.filter(open) };
  }

  #answers(remediations: readonly Remediation[]): ReadonlyMap<string, number> {
    if (this.#index?.of === remediations) return this.#index.answers;
    const answers = new Map<string, number>();
    for (const remediation of remediations) {
      const { condition, fingerprint } = remediation.spec.signal;
      if (condition !== "hint") continue;
      const at = answeredAt(remediation);
      if (at !== undefined) answers.set(fingerprint, Math.max(at, answers.get(fingerprint) ?? at));
    }
    this.#index = { of: remediations, answers };
    return answers;
  }
}
