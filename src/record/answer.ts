import { createHash } from "node:crypto";
import type { RemediationApproval } from "../api/approval.ts";
import { NightshiftError } from "../api/errors.ts";
import { API_VERSION } from "../api/meta.ts";
import { isTerminal, type Remediation } from "../api/remediation.ts";
import { durationMs } from "../api/units.ts";
import { answerFrom } from "../decide/episode.ts";
import type { Store } from "../ports/store.ts";

/** What a question for approval was about. */
export interface Question {
  /** Uid of the Remediation. */
  readonly uid: string;
  /** Uid of its target, where that has one. */
  readonly targetUid?: string | undefined;
}

/** What a person answers. */
export interface Answer {
  readonly namespace: string;
  readonly name: string;
  readonly decision: RemediationApproval["spec"]["decision"];
  readonly by: string;
  readonly reason?: string | undefined;
  /** Where it was given. Default: by whoever writes the record. */
  readonly via?: RemediationApproval["spec"]["via"];
  /** The question that was answered, where the person saw one: it is answered once, in time, and about what it was about. */
  readonly question?: Question | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Stores a person's answer to an episode: a yes where it waits for one, a no until it is over (a no is always in time). It is
 * for the target that the episode names now: another one voids it. That a circuit is closed can be said of an episode that
 * waits for it, and of one that failed; it is about the whole workload.
 *
 * An answer to a `question` has the same name however often it is given, so that the store takes one alone.
 *
 * @throws NightshiftError `NOT_FOUND` (naming those that wait), `NOT_AWAITING_APPROVAL` or `NO_OPEN_CIRCUIT`; of a question
 * also `TARGET_CHANGED`, `APPROVAL_EXPIRED`, or `ALREADY_EXISTS` where it was answered so before.
 */
export async function answerEpisode(store: Pick<Store, "get" | "list" | "create">, answer: Answer): Promise<RemediationApproval> {
  const { namespace, name, decision, by, reason, via, question, now } = answer;
  const remediation = await store.get("Remediation", namespace, name);
  if (remediation === undefined) {
    const waiting = (await store.list("Remediation", namespace)).filter((other) => other.status.phase === "AwaitingApproval");
    const names = waiting.map((other) => other.metadata.name);
    throw new NightshiftError("NOT_FOUND", `there is no remediation ${name} in namespace ${namespace}`, {
      fix: names.length === 0 ? "None waits for approval; nightshift status lists all." : `These wait for approval: ${names.join(", ")}.`,
    });
  }
  if (question !== undefined && (await answered(store, remediation, decision, question)) !== undefined)
    throw new NightshiftError("ALREADY_EXISTS", "this was answered before", { where: nameOf(remediation) });
  const { phase, message, reason: because, attempts } = remediation.status;
  const failed = (phase === "Failed" || phase === "Escalated") && attempts.length > 0;
  if (decision === "CircuitClosed" && because !== "CircuitOpen" && !failed)
    throw new NightshiftError("NO_OPEN_CIRCUIT", `its failures opened no circuit: it is ${phase}${message ? ` (${message})` : ""}`, {
      where: nameOf(remediation),
      fix: "Name an episode that failed, or one that is blocked with CircuitOpen: nightshift status lists them.",
    });
  if (decision !== "CircuitClosed" && (decision === "Denied" ? isTerminal(remediation) : phase !== "AwaitingApproval"))
    throw new NightshiftError("NOT_AWAITING_APPROVAL", `it waits for no answer: it is ${phase}${message ? ` (${message})` : ""}`, {
      where: nameOf(remediation),
      fix: `nightshift audit show ${name} tells its story.`,
    });
  const asked = remediation.status.question;
  const uid = asked?.targetUid ?? remediation.spec.remediationTarget.uid;
  if (question !== undefined) {
    if (question.uid !== remediation.metadata.uid || question.targetUid !== uid)
      throw new NightshiftError("TARGET_CHANGED", "what was asked was about another target", { where: nameOf(remediation) });
    const policy = await store.get("RemediationPolicy", namespace, remediation.spec.policy.name);
    if (decision === "Approved" && policy !== undefined && now > answerFrom(remediation) + durationMs(policy.spec.approval.timeout))
      throw new NightshiftError("APPROVAL_EXPIRED", `an answer was due within ${policy.spec.approval.timeout}`, {
        where: nameOf(remediation),
      });
  }
  return store.create<"RemediationApproval">({
    apiVersion: API_VERSION,
    kind: "RemediationApproval",
    metadata: {
      name: question === undefined ? `${name.slice(0, 230)}-${now.toString(36)}` : answerName(name, decision, question),
      namespace,
    },
    spec: {
      remediation: name,
      ...(uid === undefined || decision === "CircuitClosed" ? {} : { targetUid: uid }),
      decision,
      by,
      ...(via === undefined ? {} : { via }),
      at: new Date(now).toISOString(),
      ...(reason === undefined ? {} : { reason }),
    },
  });
}

/** The answer of that kind that a question got, if any. */
export function answered(
  store: Pick<Store, "get">,
  { metadata }: Pick<Remediation, "metadata">,
  decision: Answer["decision"],
  question: Question,
): Promise<RemediationApproval | undefined> {
  return store.get("RemediationApproval", metadata.namespace, answerName(metadata.name, decision, question));
}

/** What the answer to a question is called: the same, whoever gives it and however often. */
function answerName(name: string, decision: Answer["decision"], { uid, targetUid = "" }: Question): string {
  const digest = createHash("sha256").update(`${uid}|${targetUid}|${decision}`).digest("hex");
  return `${name.slice(0, 220)}-${digest.slice(0, 10)}`;
}

function nameOf(object: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${object.metadata.namespace}/${object.metadata.name}`;
}
