import { z } from "zod";
import { kubernetes } from "./kubernetes.ts";
import { conditionSchema, objectName, resourceSchema, targetRefSchema } from "./meta.ts";
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
  "StormBrake",
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
export const CAUSES = [
  "MemoryLeak",
  "Unresponsive",
  "HighErrorRate",
  "MetricThreshold",
  "RequestedByApplication",
  "LogPattern",
  "Alert",
  "DependencyFailure",
  "CrashLoop",
  "OutOfMemory",
  "ImagePull",
  "ContainerConfig",
  "StuckTerminating",
  "Pending",
  "NodeCondition",
  "RolloutStuck",
  "Event",
  "ResourceCondition",
] as const;
export type Cause = (typeof CAUSES)[number];

export const EVIDENCE_KINDS = [
  "Trend",
  "Probe",
  "ErrorRate",
  "Metric",
  "Hint",
  "Log",
  "Alert",
  "Dependency",
  "PodState",
  "NodeCondition",
  "Rollout",
  "Expression",
  "RootCause",
  "Change",
  "Event",
  "Resource",
] as const;

/** One thing that speaks for a diagnosis. */
export const evidenceSchema = z.strictObject({
  kind: z.enum(EVIDENCE_KINDS).meta({
    description:
      "What sort of thing was seen. `RootCause`: what statistics along the service graph say, ranked. `Change`: what was changed before the symptom began, ranked.",
  }),
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
  source: z
    .enum(["Alertmanager", "OpenTelemetry", "Prometheus", "HostProbe", "Kubernetes"])
    .meta({ description: "Where the evidence came in." }),
  startsAt: time.meta({ description: "When the condition began to hold, by its source." }),
  receivedAt: time.meta({ description: "When it reached Nightshift." }),
  fingerprint: z.string().meta({ description: "The same for the same condition on the same target." }),
});

/** Where evidence is that is larger than what a Remediation keeps. */
const evidenceArtifactSchema = z.strictObject({
  pieces: z.int().min(0).meta({ description: "How many pieces there are in all." }),
  bytes: z.int().min(0).meta({ description: "Size of all of it, as JSON." }),
  sha256: z.string().meta({ description: "Its digest, in hexadecimal: `nightshift audit evidence` takes it." }),
  path: z.string().optional().meta({ description: "The file that has all of it, in the state directory of whoever led then." }),
  problem: z.string().optional().meta({ description: "Why it is in no file; the decision on the audit trail has it in any case." }),
});
export type EvidenceArtifact = z.output<typeof evidenceArtifactSchema>;

/** What is really wrong, and with what. */
export const diagnosisRecordSchema = z.strictObject({
  cause: z.enum(CAUSES).meta({ description: "What is wrong." }),
  rootCauseKey: z.string().meta({ description: "The same for every episode with the same root cause." }),
  confidence: z.number().min(0).max(1).meta({ description: "How sure the diagnosis is, 0 to 1." }),
  summary: z.string().meta({ description: "One sentence for people." }),
  evidence: z.array(evidenceSchema).meta({ description: "What speaks for it: at most 40 pieces in 16 KiB." }),
  allEvidence: evidenceArtifactSchema.optional().meta({ description: "Where there is more of it, or longer texts: where all of it is." }),
});

const gateVerdictSchema = z.strictObject({
  gate: z.enum(BLOCK_REASONS).meta({ description: "Name of the gate, which is also its block reason." }),
  verdict: z.enum(["Pass", "Block"]).meta({ description: "What it said." }),
  message: z.string().meta({ description: "Why, with the numbers." }),
  until: time.optional().meta({ description: "When it may pass, where that is known." }),
});

export const artifactSchema = z.strictObject({
  type: z.enum(["HeapSnapshot", "CpuProfile", "HeapProfile"]).meta({
    description: "What was captured. `HeapProfile` (samples of where memory is allocated) takes the place of a snapshot that had no room.",
  }),
  path: z.string().meta({ description: "Where it is: `s3://bucket/key`, or a file's path (on `node`, where that is given)." }),
  node: z.string().optional().meta({ description: "The node that has the file or, of an object in a store, put it there." }),
  bytes: z.int().min(0).meta({ description: "Its size." }),
  sha256: z.string().meta({ description: "Its digest, in hexadecimal." }),
  replica: targetRefSchema.meta({ description: "Whose it is." }),
  capturedAt: time.meta({ description: "When." }),
  expiresAt: time.optional().meta({ description: "When it is deleted. Without it, it stays until others need the room." }),
});

export const CAPTURE_STATES = ["Running", "Done", "Failed"] as const;

const captureRecordSchema = z.strictObject({
  effectId: z.string().meta({ description: "The capture step that it answers." }),
  state: z.enum(CAPTURE_STATES).meta({ description: "`Running`: the agent on `node` has taken it up. An entry never becomes another's." }),
  node: z.string().meta({ description: "Whose agent writes this entry: the node that the replica runs on." }),
  message: z.string().optional().meta({ description: "What came of it, with the error's code where it failed." }),
  progress: z.string().optional().meta({ description: "How far it is, while it runs." }),
  startedAt: time.meta({ description: "When the agent took it up, by the node's clock." }),
  endedAt: time.optional().meta({ description: "When it was over, by the node's clock." }),
  artifact: artifactSchema.optional().meta({ description: "What was saved." }),
});

export const STEP_STATES = ["Pending", "Intended", "Done", "Failed", "Skipped"] as const;

const stepRecordSchema = z.strictObject({
  name: z.string().meta({ description: "Its name in the runbook, or its type." }),
  type: z.enum([...STEP_TYPES, "restoreTraffic", "removeReplacement", "resizeBack"]).meta({ description: "The last three undo a step." }),
  params: z.record(z.string(), z.unknown()).meta({ description: "What the runbook says about it." }),
  target: targetRefSchema.optional().meta({ description: "The replica that it acts on, where it is one of several." }),
  timeoutMs: z.int().min(0).meta({ description: "Longest time for it, in milliseconds." }),
  state: z.enum(STEP_STATES).meta({ description: "How far it is. `Intended`: the intent is stored, the result is not known yet." }),
  effectId: z.string().meta({ description: "Key under which the platform carries the effect out at most once." }),
  intendedAt: time.optional().meta({ description: "When the intent was stored, before the effect." }),
  endedAt: time.optional().meta({ description: "When its result was stored." }),
  message: z.string().optional().meta({ description: "What came of it." }),
  result: z.record(z.string(), z.unknown()).optional().meta({ description: "What the platform returned." }),
});

const attemptSchema = z.strictObject({
  rung: z.int().min(0).meta({ description: "Index in the ladder." }),
  what: z.string().meta({ description: "Its strategy or runbook." }),
  startedAt: time.meta({ description: "When the rung began." }),
  deadline: time.meta({ description: "End of the rung's timeout." }),
  revision: z.string().optional().meta({
    description:
      "What the workload's replicas were made from when the rung began, where the platform tells: another means that somebody rolled it out.",
  }),
  endedAt: time.optional().meta({ description: "When its outcome was known." }),
  outcome: z
    .enum(["Effective", "Ineffective", "Failed", "Cancelled"])
    .optional()
    .meta({ description: "`Ineffective`: all steps done, and the target is not well. `Failed`: a step failed." }),
  message: z.string().optional().meta({ description: "Why it ended as it did." }),
  steps: z.array(stepRecordSchema).meta({ description: "Its steps, in order." }),
  undo: z.array(stepRecordSchema).default([]).meta({ description: "Steps that brought the world back after a failure." }),
});

const pageSchema = z.strictObject({
  state: z.enum(["Pending", "Sent", "NoReceiver", "Resolving", "Resolved"]).meta({
    description:
      "`NoReceiver`: nobody is configured to be told. `Resolving`: the incident is over, and the receivers are yet to be told so; `Resolved`: they were.",
  }),
  dedupKey: z.string().meta({ description: "The same for every delivery of the same incident." }),
  summary: z.string().meta({ description: "One line." }),
  tries: z.int().min(0).meta({ description: "Deliveries that were tried; from zero again once the incident is over." }),
  confirmedBy: z
    .array(z.string())
    .optional()
    .meta({ description: "Receivers that have confirmed it while others have not: they are not told again." }),
  sentTo: z
    .array(z.string())
    .optional()
    .meta({ description: "Receivers that have it, or may have: they are told when it is over, whatever the policy says by then." }),
  nextTryAt: time.optional().meta({ description: "When it is tried again." }),
  sentAt: time.optional().meta({ description: "When all receivers had confirmed it." }),
  resolvedAt: time.optional().meta({ description: "When the incident was seen to be over." }),
  lastError: z.string().optional().meta({ description: "Why the last try failed." }),
});

const noticeSchema = pageSchema.extend({
  step: z.string().meta({ description: "`effectId` of the step that told it last." }),
});

const questionSchema = pageSchema.extend({
  askedAt: time.optional().meta({ description: "When an answer was first waited for: it is due within `approval.timeout` from then." }),
  targetUid: z.string().optional().meta({
    description: "What it is about: the target, or what has replaced that by an earlier rung.",
  }),
});

/** What targets can share, and so be ill of, from the narrowest to the widest. */
export const DOMAIN_KINDS = ["Workload", "Node", "Zone", "Namespace", "Cluster"] as const;
export type DomainKind = (typeof DOMAIN_KINDS)[number];

const oneStormSchema = z.strictObject({
  domain: z.string().meta({
    description: "Where too much is ill at once: `Workload/namespace/name`, `Node/name`, `Zone/name`, `Namespace/name` or `Cluster`.",
  }),
  message: z.string().meta({ description: "How much of it is ill, and what the ill ones share." }),
  since: time.meta({ description: "When the storm was first seen; an episode that takes over from another keeps it." }),
  releasedAt: time.optional().meta({ description: "When it was over. What is still ill is then acted on a little at a time." }),
  page: pageSchema.optional().meta({ description: "The page for the group. None where an earlier episode of the same storm has it." }),
});

const stormSchema = oneStormSchema.extend({
  earlier: z.array(oneStormSchema).optional().meta({
    description: "Storms that it stood for before, and whose pages' receivers have not all heard that they are over.",
  }),
});

export const remediationStatusSchema = z
  .strictObject({
    revision: z.int().min(0).default(0).meta({ description: "Counts the writes of the status: a later state has a larger one." }),
    epoch: z.int().min(0).optional().meta({
      description: "Epoch of the leader that wrote it (the Lease's `leaseTransitions`). A lower one is refused: its leader was deposed.",
    }),
    phase: z.enum(PHASES).meta({ description: "How far the episode is." }),
    reason: z.string().optional().meta({ description: "Block reason, or why it ended." }),
    message: z.string().optional().meta({ description: "Why, for people." }),
    blockedUntil: time.optional().meta({ description: "When the gate that blocks may pass, where that is known." }),
    outcome: z.enum(OUTCOMES).optional().meta({ description: "How it ended." }),
    gates: z.array(gateVerdictSchema).default([]).meta({ description: "Every gate's verdict in the latest decision." }),
    decidedAt: time.optional().meta({ description: "When the gates were last asked." }),
    diagnosis: diagnosisRecordSchema.optional().meta({
      description:
        "What is wrong as of that decision, where the cause is another than the episode began with: what it depended on has become well, and it has not.",
    }),
    attempts: z.array(attemptSchema).default([]).meta({ description: "One for each rung that was begun." }),
    verification: z
      .strictObject({
        startedAt: time.meta({ description: "When it began." }),
        stableSince: time.optional().meta({ description: "Since when the target has been well without a break." }),
        message: z.string().optional().meta({ description: "What is looked at, and how it stands." }),
      })
      .optional()
      .meta({ description: "Whether the rung helped." }),
    artifacts: z.array(artifactSchema).default([]).meta({ description: "What was captured." }),
    captures: z
      .array(captureRecordSchema)
      .register(kubernetes, { listMapKeys: ["effectId"] })
      .default([])
      .meta({
        description: "On Kubernetes, the node agents' answers to capture steps, one for each `effectId`. Only agents write here.",
      }),
    page: pageSchema.optional().meta({ description: "The page that was sent for it, if any." }),
    question: questionSchema.optional().meta({
      description:
        "The question for a person's yes or no, where one was asked: whether its receivers have it, and whether they know that it needs no answer any more.",
    }),
    notice: noticeSchema.optional().meta({
      description:
        "What `Notify` has told, and whether the receivers know that it is over. One incident, however many steps tell something.",
    }),
    storm: stormSchema
      .optional()
      .meta({ description: "The storm that this episode stands for: its target was held, together with others that were ill at once." }),
    signalsFolded: z.int().min(0).default(0).meta({ description: "Signals that arrived during the episode and belong to it." }),
    lastSignalAt: time.optional().meta({ description: "When the newest of them arrived." }),
    signalResolvedAt: time.optional().meta({ description: "When the signal's source said that it is over." }),
    conditions: z
      .array(conditionSchema)
      .register(kubernetes, { listMapKeys: ["type"] })
      .default([])
      .meta({ description: "Conditions as Kubernetes has them." }),
    endedAt: time.optional().meta({ description: "When the episode was over." }),
  })
  .register(kubernetes, {
    rules: [
      {
        rule: "!has(oldSelf.epoch) || (has(self.epoch) && self.epoch >= oldSelf.epoch)",
        message: "a later leader has written this status: the writer was deposed",
      },
      { rule: "self.revision >= oldSelf.revision", message: "the status was written again since: its revision never goes back" },
    ],
  });

/** The immutable part of an episode. */
export const remediationSpecSchema = z
  .strictObject({
    policy: z
      .strictObject({
        name: objectName.meta({ description: "Its name." }),
        uid: z.string().meta({ description: "Its identity." }),
        generation: z.int().meta({ description: "Its generation when the episode began." }),
      })
      .meta({ description: "The policy that it belongs to." }),
    mode: z.enum(MODES).meta({ description: "The policy's mode when the episode began; it never goes further than that." }),
    signal: signalRecordSchema.meta({ description: "What began it." }),
    signalTarget: targetRefSchema.meta({ description: "What the signal is about." }),
    remediationTarget: targetRefSchema.meta({ description: "What the diagnosis says is ill; may be another." }),
    workload: targetRefSchema.meta({ description: "The workload that the remediation target belongs to, or is." }),
    diagnosis: diagnosisRecordSchema.meta({ description: "What is wrong, and with what." }),
    ladder: policySpecSchema.shape.ladder.meta({ description: "The policy's ladder as it was." }),
    startedAt: time.meta({ description: "When the episode began." }),
  })
  .register(kubernetes, { rules: [{ rule: "self == oldSelf", message: "an episode's spec is immutable: it is its lock and its record" }] });

/** One episode: why, diagnosis, gate results, steps, outcome, evidence. Lock, history and audit record in one. */
export const remediationSchema = resourceSchema("Remediation", remediationSpecSchema)
  .extend({
    status: remediationStatusSchema.meta({ description: "What came of it so far." }),
  })
  .register(kubernetes, {
    rules: [{ rule: "!has(oldSelf.status) || has(self.status)", message: "a status is never taken away: it is the record" }],
  });
export type Remediation = z.output<typeof remediationSchema>;
export type RemediationSpec = Remediation["spec"];
export type RemediationStatus = Remediation["status"];
export type GateVerdict = z.output<typeof gateVerdictSchema>;
export type StepRecord = z.output<typeof stepRecordSchema>;
export type Attempt = z.output<typeof attemptSchema>;
export type Artifact = z.output<typeof artifactSchema>;
export type CaptureRecord = z.output<typeof captureRecordSchema>;
export type StormRecord = z.output<typeof stormSchema>;
export type PageRecord = z.output<typeof pageSchema>;
export type NoticeRecord = z.output<typeof noticeSchema>;
export type QuestionRecord = z.output<typeof questionSchema>;
export type SignalRecord = z.output<typeof signalRecordSchema>;
export type DiagnosisRecord = z.output<typeof diagnosisRecordSchema>;

/** What is on record of what people were told and asked. */
type Told = Partial<Pick<RemediationStatus, "page" | "storm" | "question" | "notice">>;

const stormPages = (storm: StormRecord | undefined): (PageRecord | undefined)[] =>
  storm === undefined ? [] : [storm, ...(storm.earlier ?? [])].map(({ page }) => page);

/** Whether somebody is yet to be told of an episode, or of its end. A question that is open is owed nothing. */
export function owesPage({ page, storm, notice, question }: Told): boolean {
  return (
    [page, ...stormPages(storm), notice].some((each) => each?.state === "Pending" || each?.state === "Resolving") ||
    question?.state === "Resolving"
  );
}

/** Whether an episode is over, as far as its status says, and nobody is yet to be told of it. */
export function isSettled(status: Told & Partial<Pick<RemediationStatus, "phase">>): boolean {
  return status.phase !== undefined && TERMINAL_PHASES.has(status.phase) && !owesPage(status);
}

/** Whether somebody was told, and not yet that it is over. A receiver of several that never confirms keeps nobody waiting for the end. */
export function wasTold<P extends PageRecord>(page: P | undefined): page is P {
  return page?.state === "Sent" || (page?.state === "Pending" && (page.confirmedBy ?? []).length > 0);
}

/** Whether somebody was told, and what they were told of is not over yet. */
export function isOpenIncident({ page, storm, notice }: Told): boolean {
  return [page, ...stormPages(storm), notice].some(wasTold);
}

/** Whether an episode is over. */
export function isTerminal(remediation: Remediation): boolean {
  return TERMINAL_PHASES.has(remediation.status.phase);
}
