import { z } from "zod";
import { objectName, resourceSchema, targetRefSchema } from "./meta.ts";
import { MODES, SIGNAL_CONDITIONS, policySpecSchema } from "./policy.ts";
import { STEP_TYPES } from "./runbook.ts";

const time = z.iso.datetime();

export const PHASES = [
  "Pending",
  "Blocked",
  "AwaitingApproval",
  "Executing",
  "Verifying",
  "Succeeded",
  "Failed",
  "Escalated",
  "Cancelled",
] as const;
export type Phase = (typeof PHASES)[number];

/** Phases in which an episode is over. `Verifying` is none: an alert that fires again during it folds in. */
export const TERMINAL_PHASES: ReadonlySet<Phase> = new Set(["Succeeded", "Failed", "Escalated", "Cancelled"]);

/** Why a gate blocks, in the order of the gates. */
export const BLOCK_REASONS = [
  "Paused",
  "Unmanaged",
  "StaleSignal",
  "NoData",
  "DependencyUnhealthy",
  "InProgress",
  "RecentlyRemediated",
  "CircuitOpen",
  "BudgetExhausted",
  "OutsideWindow",
  "AwaitingApproval",
] as const;
export type BlockReason = (typeof BLOCK_REASONS)[number];

export const OUTCOMES = ["Remediated", "Ineffective", "SelfRecovered", "Escalated", "Inconclusive", "Observed"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What is wrong with a target. */
export const CAUSES = ["MemoryLeak", "Unresponsive", "HighErrorRate", "MetricThreshold", "Alert", "DependencyFailure"] as const;
export type Cause = (typeof CAUSES)[number];

/** One thing that speaks for a diagnosis. */
export const evidenceSchema = z.strictObject({
  kind: z.enum(["Trend", "Probe", "ErrorRate", "Metric", "Alert", "Dependency"]).meta({ description: "What sort of thing was seen." }),
  message: z.string().meta({ description: "It, in a sentence." }),
  values: z
    .record(z.string(), z.union([z.number(), z.string(), z.boolean()]))
    .default({})
    .meta({ description: "Its numbers." }),
});
export type Evidence = z.output<typeof evidenceSchema>;

/** What began the episode, as it was at that moment. */
export const signalRecordSchema = z.strictObject({
  name: z.string().meta({ description: "Name of the policy's signal." }),
  condition: z.enum(SIGNAL_CONDITIONS).meta({ description: "Kind of its condition." }),
  source: z.enum(["Alertmanager", "OpenTelemetry", "HostProbe", "Kubernetes"]).meta({ description: "Where the evidence came in." }),
  startsAt: time.meta({ description: "When the condition began to hold, by its source." }),
  receivedAt: time.meta({ description: "When it reached Nightshift." }),
  fingerprint: z.string().meta({ description: "The same for the same condition on the same target." }),
});

/** What is really wrong, and with what. */
export const diagnosisRecordSchema = z.strictObject({
  cause: z.enum(CAUSES),
  rootCauseKey: z.string().meta({ description: "The same for every episode with the same root cause." }),
  confidence: z.number().min(0).max(1),
  summary: z.string(),
  evidence: z.array(evidenceSchema),
});

const gateVerdictSchema = z.strictObject({
  gate: z.enum(BLOCK_REASONS).meta({ description: "Name of the gate, which is also its block reason." }),
  verdict: z.enum(["Pass", "Block"]),
  message: z.string().meta({ description: "Why, with the numbers." }),
  until: time.optional().meta({ description: "When it may pass, where that is known." }),
});

const artifactSchema = z.strictObject({
  type: z.enum(["HeapSnapshot", "CpuProfile"]),
  path: z.string().meta({ description: "Where it is." }),
  bytes: z.int().min(0),
  sha256: z.string(),
  replica: targetRefSchema.meta({ description: "Whose it is." }),
  capturedAt: time,
});

export const STEP_STATES = ["Pending", "Intended", "Done", "Failed", "Skipped"] as const;

const stepRecordSchema = z.strictObject({
  name: z.string(),
  type: z.enum([...STEP_TYPES, "restoreTraffic", "removeReplacement"]).meta({ description: "The last two undo a step." }),
  params: z.record(z.string(), z.unknown()),
  target: targetRefSchema.optional().meta({ description: "The replica that it acts on, where it is one of several." }),
  timeoutMs: z.int().min(0),
  state: z.enum(STEP_STATES),
  effectId: z.string().meta({ description: "Key under which the platform carries the effect out at most once." }),
  intendedAt: time.optional().meta({ description: "When the intent was stored, before the effect." }),
  endedAt: time.optional(),
  message: z.string().optional(),
  result: z.record(z.string(), z.unknown()).optional().meta({ description: "What the platform returned." }),
});

const attemptSchema = z.strictObject({
  rung: z.int().min(0).meta({ description: "Index in the ladder." }),
  what: z.string().meta({ description: "Its strategy or runbook." }),
  startedAt: time,
  deadline: time.meta({ description: "End of the rung's timeout." }),
  endedAt: time.optional(),
  outcome: z.enum(["Effective", "Ineffective", "Failed", "Cancelled"]).optional(),
  message: z.string().optional().meta({ description: "Why it ended as it did." }),
  steps: z.array(stepRecordSchema),
  undo: z.array(stepRecordSchema).default([]).meta({ description: "Steps that brought the world back after a failure." }),
});

const pageSchema = z.strictObject({
  state: z.enum(["Pending", "Sent", "NoReceiver"]).meta({ description: "`NoReceiver`: nobody is configured to be told." }),
  dedupKey: z.string(),
  summary: z.string(),
  tries: z.int().min(0),
  nextTryAt: time.optional(),
  sentAt: time.optional(),
  lastError: z.string().optional(),
});

const conditionSchema = z.strictObject({
  type: z.string(),
  status: z.enum(["True", "False", "Unknown"]),
  reason: z.string(),
  message: z.string().default(""),
  lastTransitionTime: time,
});

export const remediationStatusSchema = z.strictObject({
  revision: z.int().min(0).default(0).meta({ description: "Counts the writes of the status: a later state has a larger one." }),
  phase: z.enum(PHASES),
  reason: z.string().optional().meta({ description: "Block reason, or why it ended." }),
  message: z.string().optional(),
  blockedUntil: time.optional(),
  outcome: z.enum(OUTCOMES).optional(),
  gates: z.array(gateVerdictSchema).default([]).meta({ description: "Every gate's verdict in the latest decision." }),
  decidedAt: time.optional(),
  attempts: z.array(attemptSchema).default([]),
  verification: z.strictObject({ startedAt: time, stableSince: time.optional(), message: z.string().optional() }).optional(),
  artifacts: z.array(artifactSchema).default([]),
  page: pageSchema.optional(),
  signalsFolded: z.int().min(0).default(0).meta({ description: "Signals that arrived during the episode and belong to it." }),
  lastSignalAt: time.optional(),
  signalResolvedAt: time.optional().meta({ description: "When the signal's source said that it is over." }),
  conditions: z.array(conditionSchema).default([]),
  endedAt: time.optional(),
});

/** The immutable part of an episode. */
export const remediationSpecSchema = z.strictObject({
  policy: z.strictObject({ name: objectName, uid: z.string(), generation: z.int() }),
  mode: z.enum(MODES),
  signal: signalRecordSchema,
  signalTarget: targetRefSchema.meta({ description: "What the signal is about." }),
  remediationTarget: targetRefSchema.meta({ description: "What the diagnosis says is ill; may be another." }),
  workload: targetRefSchema.meta({ description: "The workload that the remediation target belongs to, or is." }),
  diagnosis: diagnosisRecordSchema,
  ladder: policySpecSchema.shape.ladder.meta({ description: "The policy's ladder as it was." }),
  startedAt: time,
});

/** One episode: why, diagnosis, gate results, steps, outcome, evidence. Lock, history and audit record in one. */
export const remediationSchema = resourceSchema("Remediation", remediationSpecSchema).extend({
  status: remediationStatusSchema,
});
export type Remediation = z.output<typeof remediationSchema>;
export type RemediationSpec = Remediation["spec"];
export type RemediationStatus = Remediation["status"];
export type GateVerdict = z.output<typeof gateVerdictSchema>;
export type StepRecord = z.output<typeof stepRecordSchema>;
export type Attempt = z.output<typeof attemptSchema>;
export type Artifact = z.output<typeof artifactSchema>;
export type PageRecord = z.output<typeof pageSchema>;
export type SignalRecord = z.output<typeof signalRecordSchema>;
export type DiagnosisRecord = z.output<typeof diagnosisRecordSchema>;

/** Whether an episode is over. */
export function isTerminal(remediation: Remediation): boolean {
  return TERMINAL_PHASES.has(remediation.status.phase);
}
