import type { RemediationApproval } from "../api/approval.ts";
import { messageOf } from "../api/errors.ts";
import { targetKey, type TargetRef } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { PageRecord, QuestionRecord, Remediation } from "../api/remediation.ts";
import { timeMs, timestamp } from "../api/time.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { LoopMetrics } from "../record/metrics.ts";
import type { Page, Receiver } from "../record/paging.ts";
import { nextTry } from "../record/receivers.ts";
import { objectKey } from "./cache.ts";
import { policyKey } from "./world.ts";

/** Key of an incident: the same fault of the same workload under the same policy. */
export function dedupKey(remediation: Remediation): string {
  return `${policyKey(remediation)}/${targetKey(remediation.spec.workload)}/${remediation.spec.diagnosis.cause}`;
}

const questionKey = (remediation: Remediation): string => `${objectKey(remediation)}/approval`;

/** What people are told: that they are needed, something that wakes nobody, or a question. */
export type PageKind = "Page" | "Notice" | "Question";

function questionOf(page: Page, { metadata, spec }: Remediation, question: QuestionRecord): Page {
  const { namespace, name, uid = "" } = metadata;
  const targetUid = question.targetUid ?? spec.remediationTarget.uid;
  return { ...page, question: { namespace, name, uid, ...(targetUid === undefined ? {} : { targetUid }) } };
}

/** Whether the incident of a page is over. */
const isOver = (page: PageRecord | undefined): boolean => page?.state === "Resolving" || page?.state === "Resolved";

/** When an episode that healed the same workload under the same policy ended last (ms); 0 where none did. */
export function healedAt(remediation: Remediation, all: readonly Remediation[]): number {
  return Math.max(
    0,
    ...all
      .filter(
        (other) =>
          other.status.outcome === "Remediated" &&
          policyKey(other) === policyKey(remediation) &&
          targetKey(other.spec.workload) === targetKey(remediation.spec.workload),
      )
      .map((other) => timeMs(other.status.endedAt ?? "")),
  );
}

/** When a person closed the circuit of the same workload under the same policy last (ms); 0 where nobody did. */
function circuitClosedAt(remediation: Remediation, all: readonly Remediation[], approvals: readonly RemediationApproval[]): number {
  const closed = approvals.filter(({ spec }) => spec.decision === "CircuitClosed");
  if (closed.length === 0) return 0;
  const related = new Set(
    all
      .filter((r) => policyKey(r) === policyKey(remediation) && targetKey(r.spec.workload) === targetKey(remediation.spec.workload))
      .map((r) => objectKey(r)),
  );
  return Math.max(
    0,
    ...closed.filter(({ metadata, spec }) => related.has(`${metadata.namespace}/${spec.remediation}`)).map(({ spec }) => timeMs(spec.at)),
  );
}

/** Whether a person was told of this incident already, and it is not over since, nor has a person closed its circuit. */
export function isPaged(remediation: Remediation, all: readonly Remediation[], approvals: readonly RemediationApproval[]): boolean {
  const key = dedupKey(remediation);
  const healed = Math.max(healedAt(remediation, all), circuitClosedAt(remediation, all, approvals));
  return all.some(
    (other) =>
      other.metadata.uid !== remediation.metadata.uid &&
      other.status.page?.dedupKey === key &&
      other.status.page.state !== "NoReceiver" &&
      !isOver(other.status.page) &&
      timeMs(other.status.endedAt ?? other.status.decidedAt ?? other.spec.startedAt) > healed,
  );
}

/** Tells people. */
export class Pager {
  readonly #receivers: readonly Receiver[];
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #metrics: LoopMetrics;
  readonly #stopping: AbortSignal;

  constructor(options: {
    readonly receivers: readonly Receiver[];
    readonly clock: Clock;
    readonly random: Random;
    readonly metrics: LoopMetrics;
    readonly stopping: AbortSignal;
  }) {
    this.#receivers = options.receivers;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#metrics = options.metrics;
    this.#stopping = options.stopping;
  }

  /** A page that is yet to be sent. It is stored with the episode first, so that no crash loses it. */
  newPage(remediation: Remediation, summary: string): PageRecord {
    return { state: "Pending", dedupKey: dedupKey(remediation), summary, tries: 0 };
  }

  /**
   * A question that is yet to be asked. It is stored with the episode first, and with whom it goes to: so that none is asked
   * twice after a restart, and each that may have it hears when it needs no answer any more.
   */
  newQuestion(remediation: Remediation, summary: string, policy: RemediationPolicy, target: TargetRef): QuestionRecord {
    const sentTo = this.#receiversOf(policy).map(({ name }) => name);
    return {
      state: "Pending",
      dedupKey: questionKey(remediation),
      summary,
      tries: 0,
      sentTo,
      askedAt: timestamp(this.#clock.now()),
      ...(target.uid === undefined ? {} : { targetUid: target.uid }),
    };
  }

  /**
   * Tries once what is to be told, or the word that it is over; returns what is to be stored. Where one receiver of several
   * fails, it alone is told again. That it is over hears who has it, or may have.
   */
  async deliver<R extends PageRecord>(
    remediation: Remediation,
    page: R,
    policy: RemediationPolicy | undefined,
    kind: PageKind,
  ): Promise<R> {
    const over = page.state === "Resolving";
    const { sentTo } = page;
    const named = this.#receivers.filter(({ name }) => sentTo?.includes(name) === true);
    // A question whose receivers are no longer configured is asked of those that are.
    const isNamed = sentTo !== undefined && (over || (kind === "Question" && named.length > 0));
    const meant = isNamed ? named : this.#receiversOf(policy);
    const all = meant.filter((receiver) => !over || receiver.resolve !== undefined);
    if (all.length === 0 && !over) return { ...page, state: "NoReceiver", lastError: "no receiver is configured: nobody was told" };
    const { nextTryAt: _next, lastError: _error, confirmedBy = [], ...kept } = page;
    const rest = over ? kept : { ...kept, sentTo: [...new Set([...(sentTo ?? []), ...all.map(({ name }) => name)])] };
    const left = all.filter((receiver) => !confirmedBy.includes(receiver.name));
    const summary = over && kind !== "Question" ? `over: ${page.summary}` : page.summary;
    const told = this.#page(remediation, page.dedupKey, kind === "Page" ? "Page" : "Info", summary);
    const sent = kind === "Question" ? questionOf(told, remediation, page) : told;
    const { failed, confirmed, retryAfterMs } = await this.#send(left, sent, over ? "resolve" : "send");
    const tries = page.tries + 1;
    const now = this.#clock.now();
    if (failed === undefined)
      return (over ? { ...rest, state: "Resolved", tries } : { ...rest, state: "Sent", tries, sentAt: timestamp(now) }) as R;
    const confirmedNow = [...confirmedBy, ...confirmed];
    return {
      ...rest,
      tries,
      ...(confirmedNow.length === 0 ? {} : { confirmedBy: confirmedNow }),
      lastError: failed,
      nextTryAt: timestamp(now + nextTry(tries, retryAfterMs, this.#random)),
    } as R;
  }

  /** What is over, or needs no answer any more: its receivers are yet to be told. */
  over<R extends PageRecord>({ nextTryAt: _next, lastError: _error, confirmedBy: _confirmed, ...page }: R): R {
    return { ...page, state: "Resolving", tries: 0, resolvedAt: timestamp(this.#clock.now()) } as unknown as R;
  }

  /** Whether a policy has anybody to be told. */
  hasReceivers(policy: RemediationPolicy): boolean {
    return this.#receiversOf(policy).length > 0;
  }

  #receiversOf(policy: RemediationPolicy | undefined): readonly Receiver[] {
    const names = policy?.spec.escalation.receivers ?? [];
    const named = this.#receivers.filter((receiver) => names.includes(receiver.name));
    // A name that is not configured must not mean that nobody is told.
    return named.length > 0 ? named : this.#receivers;
  }

  #page(remediation: Remediation, key: string, severity: Page["severity"], summary: string): Page {
    const { spec, status } = remediation;
    const lastAttempt = status.attempts.at(-1);
    return {
      dedupKey: key,
      severity,
      summary,
      remediation: objectKey(remediation),
      policy: policyKey(remediation),
      target: targetKey(spec.remediationTarget),
      details: [
        spec.diagnosis.summary,
        ...spec.diagnosis.evidence.map((evidence) => evidence.message),
        ...status.gates.filter((gate) => gate.verdict === "Block").map((gate) => `${gate.gate}: ${gate.message}`),
        ...status.attempts.map(
          (attempt, i) =>
            `attempt ${i + 1}, ${attempt.what}: ${attempt.outcome ?? "under way"}${attempt.message ? `, ${attempt.message}` : ""}`,
        ),
        ...(lastAttempt?.steps ?? []).map((step) => `step ${step.name}: ${step.state}${step.message ? `, ${step.message}` : ""}`),
      ],
      at: this.#clock.now(),
    };
  }

  async #send(
    receivers: readonly Receiver[],
    page: Page,
    how: "send" | "resolve",
  ): Promise<{ failed: string | undefined; confirmed: string[]; retryAfterMs: number | undefined }> {
    const results = await Promise.allSettled(receivers.map(async (receiver) => receiver[how]?.(page, this.#stopping)));
    const failures: string[] = [];
    const confirmed: string[] = [];
    let retryAfterMs: number | undefined;
    results.forEach((result, i) => {
      const name = receivers[i]?.name ?? "";
      this.#metrics.page(result.status === "fulfilled" ? "Sent" : "Failed");
      if (result.status === "fulfilled") {
        confirmed.push(name);
        return;
      }
      failures.push(`${name}: ${messageOf(result.reason)}`);
      const wanted = (result.reason as { retryAfterMs?: unknown } | undefined)?.retryAfterMs;
      if (typeof wanted === "number") retryAfterMs = Math.max(retryAfterMs ?? 0, wanted);
    });
    return { failed: failures.length === 0 ? undefined : failures.join("; "), confirmed, retryAfterMs };
  }
}
