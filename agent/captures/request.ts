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

/** What an episode asks of the agents now: its current attempt's capture steps in state `Intended`. */
export function captureRequests(remediation: RemediationObject): CaptureRequest[] {
  const { spec, status, metadata } = remediation;
  const attempt = status?.attempts?.at(-1);
  if (status?.phase !== "Executing" || attempt === undefined || attempt.outcome !== undefined) return [];
  return attempt.steps.flatMap((step): CaptureRequest[] => {
    if (step.type !== "capture" || step.state !== "Intended") return [];
    const target = targetRefSchema.safeParse(step.target ?? spec?.remediationTarget);
    if (!target.success || target.data.kind !== "Pod" || target.data.uid === undefined) return [];
    return [
      {
        effectId: step.effectId,
        remediation: { namespace: metadata.namespace ?? "default", name: metadata.name },
        replica: { ...target.data, uid: target.data.uid },
        capture: captureSchema.safeParse(step.params).data,
        timeoutMs: step.timeoutMs,
      },
    ];
  });
}

/** The answer that there is to a capture step. */
export function answerTo(remediation: RemediationObject, effectId: string): CaptureRecord | undefined {
  return remediation.status?.captures?.find((entry) => entry.effectId === effectId);
}
