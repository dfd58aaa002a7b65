import { z } from "zod";
import { captureSchema, type Capture } from "../../src/api/policy.ts";
import { targetRefSchema, type TargetRef } from "../../src/api/meta.ts";
import type { CaptureRecord, Remediation } from "../../src/api/remediation.ts";

/** A Remediation as the API server has it: of a version that may know more than this agent, so nothing of it is sure to be there. */
export interface RemediationObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly uid: string; readonly resourceVersion: string };
  readonly spec?: Partial<Remediation["spec"]>;
  readonly status?: Partial<Remediation["status"]>;
}

/** A capture step whose intent is stored, and which waits for its answer. */
export interface CaptureRequest {
  readonly effectId: string;
  /** The episode that asks. */
  readonly remediation: { readonly namespace: string; readonly name: string };
  /** The pod. */
  readonly replica: TargetRef & { readonly uid: string };
  /** Undefined where this agent does not understand what is wanted. */
  readonly capture: Capture | undefined;
  /** How long the step may take (ms). */
  readonly timeoutMs: number;
}

const requestingSchema = z.object({
  phase: z.literal("Executing"),
  attempts: z.array(z.object({ outcome: z.unknown().optional(), steps: z.array(z.unknown()) })),
});
const stepSchema = z.object({
  type: z.literal("capture"),
  state: z.literal("Intended"),
  effectId: z.string().min(1),
  timeoutMs: z.number().min(0),
  target: z.unknown().optional(),
  params: z.unknown().optional(),
});
const answersSchema = z.object({ captures: z.array(z.looseObject({ effectId: z.string() })) });

/** What an episode asks of the agents now: its current attempt's capture steps in state `Intended`. */
export function captureRequests({ spec, status, metadata }: RemediationObject): CaptureRequest[] {
  const attempt = requestingSchema.safeParse(status).data?.attempts.at(-1);
  if (attempt === undefined || attempt.outcome !== undefined) return [];
  return attempt.steps.flatMap((item): CaptureRequest[] => {
    const step = stepSchema.safeParse(item).data;
    if (step === undefined) return [];
    const target = targetRefSchema.safeParse(step.target ?? spec?.remediationTarget).data;
    if (target?.kind !== "Pod" || target.uid === undefined) return [];
    return [
      {
        effectId: step.effectId,
        remediation: { namespace: metadata.namespace ?? "default", name: metadata.name },
        replica: { ...target, uid: target.uid },
        capture: captureSchema.safeParse(step.params).data,
        timeoutMs: step.timeoutMs,
      },
    ];
  });
}

/** The answer that there is to a capture step. */
export function answerTo({ status }: RemediationObject, effectId: string): CaptureRecord | undefined {
  const answer = answersSchema.safeParse(status).data?.captures.find((entry) => entry.effectId === effectId);
  // Of a later version it may say more. It is an answer all the same: what was begun once is not begun again.
  return answer as CaptureRecord | undefined;
}
