import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { Artifact, Attempt, Remediation, StepRecord } from "../../api/remediation.ts";
import { DESTRUCTIVE, type StepType } from "../../api/runbook.ts";
import type { AuditRecord } from "../../record/audit.ts";

/** Steps that change the world; the others only wait or tell. */
const EFFECTS: ReadonlySet<string> = new Set([
  "startReplacement",
  "removeFromTraffic",
  "capture",
  "stop",
  "scale",
  "invoke",
  "runJob",
  "restoreTraffic",
  "removeReplacement",
]);

/** Something that was done to the shop. */
export interface ActionDone {
  readonly step: string;
  readonly remediation: string;
  readonly at: string;
  readonly tookMs: number;
  readonly message: string;
}

/** Every attempt of every episode, in order. */
export function attemptsOf(
  remediations: readonly Remediation[],
): readonly { readonly remediation: Remediation; readonly attempt: Attempt }[] {
  return remediations.flatMap((remediation) => remediation.status.attempts.map((attempt) => ({ remediation, attempt })));
}

/** Every step that changed the shop, in order. */
export function actionsOf(remediations: readonly Remediation[]): ActionDone[] {
  return attemptsOf(remediations)
    .flatMap(({ remediation, attempt }) =>
      [...attempt.steps, ...attempt.undo]
        .filter((step) => EFFECTS.has(step.type) && step.state === "Done")
        .map((step) => ({
          step: step.type,
          remediation: `${remediation.metadata.namespace}/${remediation.metadata.name}`,
          at: step.intendedAt ?? "",
          tookMs: tookMs(step) ?? 0,
          message: step.message ?? "",
        })),
    )
    .sort((a, b) => a.at.localeCompare(b.at));
}

/** How long a step took; undefined while it has not ended. */
export function tookMs(step: StepRecord): number | undefined {
  return step.intendedAt === undefined || step.endedAt === undefined ? undefined : Date.parse(step.endedAt) - Date.parse(step.intendedAt);
}

/** Whether anything was stopped or run. */
export function destructive(actions: readonly ActionDone[]): readonly ActionDone[] {
  return actions.filter((action) => DESTRUCTIVE.has(action.step as StepType));
}

/** The first record of a signal that fires; what Nightshift knows begins there. */
export function firstSignal(records: readonly AuditRecord[]): AuditRecord | undefined {
  return records.find((record) => record.type === "Signal" && record.data?.["state"] === "Firing");
}

/** Seconds to the limit as the evidence of an episode has it. */
export function secondsToLimit(remediation: Remediation | undefined): number | undefined {
  for (const evidence of remediation?.spec.diagnosis.evidence ?? []) {
    const value = evidence.values["secondsToLimit"];
    if (typeof value === "number") return value;
  }
  return undefined;
}

/** Decisions that named a block reason. */
export function blockedBy(records: readonly AuditRecord[], reason: string): readonly AuditRecord[] {
  return records.filter((record) => record.type === "Decision" && record.data?.["action"] === "Block" && record.data["reason"] === reason);
}

/** What is wrong with a capture on disk, compared with what is on record; undefined when nothing is. */
export async function faultOf(artifact: Artifact): Promise<string | undefined> {
  const { size } = await stat(artifact.path);
  if (size !== artifact.bytes) return `${size} bytes on disk, ${artifact.bytes} on record`;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(artifact.path)) hash.update(chunk as Buffer);
  const digest = hash.digest("hex");
  if (digest !== artifact.sha256) return `digest ${digest} on disk, ${artifact.sha256} on record`;
  const file = await open(artifact.path);
  try {
    const { buffer } = await file.read(Buffer.alloc(23), 0, 23, 0);
    const tail = await file.read(Buffer.alloc(16), 0, 16, Math.max(0, size - 16));
    // The form that V8 writes and DevTools reads; a snapshot that was cut off lacks its end.
    if (!buffer.toString("utf8").startsWith('{"snapshot":{"meta":') || !tail.buffer.toString("utf8").trimEnd().endsWith("}"))
      return "not a whole heap snapshot";
  } finally {
    await file.close();
  }
  return undefined;
}
