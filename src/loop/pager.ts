import type { RemediationApproval } from "../api/approval.ts";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { targetKey } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { PageRecord, Remediation } from "../api/remediation.ts";
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

function questionOf(page: Page, { metadata, spec }: Remediation): Page {
  const { namespace, name, uid = "" } = metadata;
  const targetUid = spec.remediationTarget.uid;
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
   * Tries a page once, or the word that its incident is over; returns what is to be stored. Where one receiver of several
   * fails, it alone is told again.
   */
  async deliver(remediation: Remediation, page: PageRecord, policy: RemediationPolicy | undefined): Promise<PageRecord> {
    const over = page.state === "Resolving";
    const all = this.#receiversOf(policy).filter((receiver) => !over || receiver.resolve !== undefined);
    if (all.length === 0 && !over) return { ...page, state: "NoReceiver", lastError: "no receiver is configured: nobody was told" };
    const { nextTryAt: _next, lastError: _error, confirmedBy = [], ...rest } = page;
    const left = all.filter((receiver) => !confirmedBy.includes(receiver.name));
    const told = this.#page(remediation, page.dedupKey, "Page", over ? `over: ${page.summary}` : page.summary);
    const { failed, confirmed, retryAfterMs } = await this.#send(left, told, over ? "resolve" : "send");
    const tries = page.tries + 1;
    const now = this.#clock.now();
    if (failed === undefined)
      return over ? { ...rest, state: "Resolved", tries } : { ...rest, state: "Sent", tries, sentAt: timestamp(now) };
    const kept = [...confirmedBy, ...confirmed];
    return {
      ...rest,
      tries,
      ...(kept.length === 0 ? {} : { confirmedBy: kept }),
      lastError: failed,
      nextTryAt: timestamp(now + nextTry(tries, retryAfterMs, this.#random)),
    };
  }

  /** A page whose incident is over: its receivers are yet to be told. */
  over(page: PageRecord): PageRecord {
    return { ...page, state: "Resolving", tries: 0, resolvedAt: timestamp(this.#clock.now()) };
  }

  /** How long after so many failed tries the next one comes (ms). */
  backoff(tries: number): number {
    return nextTry(tries, undefined, this.#random);
  }

  /** Tells the policy's receivers something that wakes nobody; rejects when not all confirmed it. */
  async notify(remediation: Remediation, key: string, message: string, policy: RemediationPolicy | undefined): Promise<void> {
    const receivers = this.#receiversOf(policy);
    if (receivers.length === 0) throw new NightshiftError("NO_RECEIVER", "no receiver is configured", { fix: "Add one under receivers." });
    const { failed } = await this.#send(receivers, this.#page(remediation, key, "Info", message), "send");
    if (failed !== undefined) throw new NightshiftError("NOT_DELIVERED", failed);
  }

  /**
   * Asks for a yes or no, without waking anybody: those of the policy's receivers that have not confirmed it yet. Resolves to
   * those that have, and to what failed.
   */
  async ask(
    remediation: Remediation,
    message: string,
    policy: RemediationPolicy | undefined,
    confirmedBy: readonly string[],
  ): Promise<{ readonly confirmedBy: readonly string[]; readonly failed: string | undefined }> {
    const receivers = this.#receiversOf(policy);
    if (receivers.length === 0) throw new NightshiftError("NO_RECEIVER", "no receiver is configured", { fix: "Add one under receivers." });
    const left = receivers.filter(({ name }) => !confirmedBy.includes(name));
    const { failed, confirmed } = await this.#send(
      left,
      questionOf(this.#page(remediation, questionKey(remediation), "Info", message), remediation),
      "send",
    );
    return { confirmedBy: [...confirmedBy, ...confirmed], failed };
  }

  /** Tells those that a question was asked of that it needs no answer any more; resolves to those that have not heard it. */
  async answered(remediation: Remediation, message: string, asked: readonly string[]): Promise<readonly string[]> {
    const receivers = this.#receivers.filter((receiver) => asked.includes(receiver.name) && receiver.resolve !== undefined);
    const { confirmed } = await this.#send(
      receivers,
      questionOf(this.#page(remediation, questionKey(remediation), "Info", message), remediation),
      "resolve",
    );
    return receivers.map(({ name }) => name).filter((name) => !confirmed.includes(name));
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
