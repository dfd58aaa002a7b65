import { targetKey, type TargetRef } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Evidence, Remediation } from "../api/remediation.ts";
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

/** Kinds of hints (action and saturation type) that pieces of evidence are about. */
function kindsOf(evidence: readonly Evidence[]): readonly string[] {
  return evidence.flatMap(({ kind, values }) =>
    kind === "Hint" ? [JSON.stringify([values["action"] ?? null, values["saturationType"] ?? null])] : [],
  );
}

/** Names what was asked for: by the signal, and by the hint itself, whichever signal of the policy it was for. */
const askedFor = (policyUid: string, target: TargetRef, fingerprint: string, evidence: readonly Evidence[]): readonly string[] => [
  fingerprint,
  ...kindsOf(evidence).map((kind) => `${policyUid}/${targetKey(target)}#${target.uid}/${kind}`),
];

/** Knows which hints were answered: there is no second place for it than the episodes that exist. */
export class AnsweredHints {
  #index: { readonly of: readonly Remediation[]; readonly answers: ReadonlyMap<string, number> } | undefined;

  /** A policy's detection without the hints that an episode of it has answered, of whichever of its signals. */
  without(detection: Detection, policy: RemediationPolicy, remediations: readonly Remediation[]): Detection {
    if (!detection.signals.some(({ condition }) => condition === "hint")) return detection;
    const answers = this.#answers(remediations);
    const isOpen = ({ condition, fingerprint, receivedAt, target, evidence }: Signal): boolean =>
      condition !== "hint" ||
      askedFor(policy.metadata.uid ?? "", target, fingerprint, evidence).every((key) => receivedAt > (answers.get(key) ?? -Infinity));
    return { ...detection, signals: detection.signals.filter(isOpen) };
  }

  #answers(remediations: readonly Remediation[]): ReadonlyMap<string, number> {
    if (this.#index?.of === remediations) return this.#index.answers;
    const answers = new Map<string, number>();
    for (const remediation of remediations) {
      const { policy, signal, signalTarget, diagnosis } = remediation.spec;
      const at = signal.condition === "hint" ? answeredAt(remediation) : undefined;
      if (at === undefined) continue;
      for (const key of askedFor(policy.uid, signalTarget, signal.fingerprint, diagnosis.evidence))
        answers.set(key, Math.max(at, answers.get(key) ?? at));
    }
    this.#index = { of: remediations, answers };
    return answers;
  }
}
