import type { TargetRef } from "../api/meta.ts";
import type { Attempt, Remediation, StepRecord } from "../api/remediation.ts";
import type { Telemetry } from "../observe/telemetry.ts";
import type { Effect, EffectResult, Replica, Workload } from "../ports/platform.ts";

/** What a step may look at. A snapshot: nothing here waits. */
export interface StepContext {
  readonly now: number;
  /** Milliseconds since the step began; 0 before that. Unlike the difference of two times it bears clocks that jump. */
  readonly elapsed: number;
  readonly remediation: Remediation;
  readonly attempt: Attempt;
  readonly step: StepRecord;
  /** The workload as it is now; undefined when it is gone. */
  readonly workload: Workload | undefined;
  /** The replica that the step acts on; undefined when it is gone, or the target is a workload. */
  readonly replica: Replica | undefined;
  /** What the attempt's startReplacement started for the step's target, where it did; `now` undefined when it is gone again. */
  readonly replacement: { readonly ref: TargetRef; readonly now: Replica | undefined } | undefined;
}

/** What a waiting step sees. */
export interface Poll {
  readonly state: "Waiting" | "Done" | "Failed";
  readonly message: string;
}

/** A kind of step. */
export interface StepDefinition {
  readonly type: StepRecord["type"];
  /** Nothing brings back what it takes away: its preconditions and every gate are asked right before it. */
  readonly destructive: boolean;
  /** Why it must not begin now, in the world as it is; undefined when it may. */
  precondition?(context: StepContext): string | undefined;
  /** What is waited for before it begins, for as long as the rung has time: what may pass, and does no harm meanwhile. */
  awaits?(context: StepContext): string | undefined;
  /** The effect, for a step that changes the world. Deterministic: the same record gives the same effect, also after a crash. */
  effect?(context: StepContext): Effect;
  /** For a step that only waits. Asked until it is `Done` or `Failed`, or the step's time is up. */
  poll?(context: StepContext, telemetry: Telemetry): Poll;
  /** For a step that tells people something. */
  notification?(context: StepContext): string;
  /** What the end of the step's time means. Default `Fail`. */
  onTimeout?(context: StepContext): { readonly outcome: "Fail" | "Continue"; readonly message: string };
  /** Whether the attempt goes on without it when it fails. Default: it does not. */
  optional?(step: StepRecord): boolean;
  /** The step that takes it back, where one can, given the world as it is when the attempt failed. */
  undo?(context: StepContext): StepRecord["type"] | undefined;
}

/** The replica that an effect's stored result names. */
export function resultReplica(step: StepRecord): TargetRef | undefined {
  return (step.result as EffectResult | undefined)?.replica;
}

/** The attempt's step of a type on the same target that was begun, the newest. */
export function earlierStep({ attempt, step }: StepContext, type: StepRecord["type"]): StepRecord | undefined {
  return attempt.steps.findLast(
    (s) => s.type === type && s.target?.uid === step.target?.uid && (s.state === "Done" || s.state === "Failed"),
  );
}
