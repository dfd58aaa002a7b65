import { z } from "zod";
import { resourceSchema } from "./meta.ts";
import { exactlyOneRule, kubernetes, type Validation } from "./kubernetes.ts";
import { ACTION_NAME, captureSchema, resizeSchema, scaleSchema } from "./policy.ts";
import { positiveDuration } from "./units.ts";

const empty = z.strictObject({});

/** What each step of a runbook may be. The key is the step's type; exactly one per step. */
export const STEP_SCHEMAS = {
  startReplacement: empty.meta({ description: "Start one replica more, which takes the target's place. The target still serves." }),
  awaitReady: empty.meta({ description: "Wait until the replacement is ready." }),
  removeFromTraffic: empty.meta({ description: "Send the target no new requests." }),
  awaitInFlight: z
    .strictObject({
      onTimeout: z.enum(["Continue", "Fail"]).default("Continue").meta({
        description:
          "What a request that never ends does at the timeout: `Continue` (default; it is cut by the stop, and counted), or `Fail` (the target goes back into traffic).",
      }),
    })
    .meta({ description: "Wait until the target's requests in flight have ended." }),
  capture: captureSchema.meta({ description: "Save evidence from the target's process." }),
  stop: z
    .strictObject({
      gracePeriod: positiveDuration.default("10s").meta({ description: "Between SIGTERM and SIGKILL. Default `10s`." }),
      allowCapacityDrop: z
        .boolean()
        .default(false)
        .meta({ description: "Permit a stop without a replacement that is ready. Default false." }),
    })
    .meta({ description: "Stop the target. Destructive." }),
  evict: z
    .strictObject({
      gracePeriod: positiveDuration
        .optional()
        .meta({ description: "Between SIGTERM and SIGKILL. Default: what the replica itself asks for." }),
    })
    .meta({ description: "Stop the target as its disruption budgets allow, and leave it to its owner to start another. Destructive." }),
  awaitAvailable: empty.meta({
    description: "Wait until every replica that the workload should have is ready and in traffic, and no rollout is under way.",
  }),
  scale: scaleSchema.meta({ description: "Give the workload more replicas." }),
  scaleBack: empty.meta({ description: "Take the replicas of an earlier scale back, unless somebody has changed their number since." }),
  rolloutRestart: empty.meta({ description: "Replace every replica by a rollout of the platform's own. Destructive." }),
  rollback: empty.meta({ description: "Go back to the newest earlier revision that was healthy. Destructive." }),
  resize: resizeSchema.meta({ description: "Give the target more memory, where possible without a restart." }),
  cordon: empty.meta({ description: "Let nothing new be started on the target, a node." }),
  drain: empty.meta({
    description: "Move what can be moved away from the target, a node: one after the other, as budgets allow. Destructive.",
  }),
  awaitHealed: empty.meta({ description: "Wait until the target, a node, is ready, or is gone." }),
  uncordon: empty.meta({ description: "Use the target, a node that an earlier cordon has closed, again." }),
  invoke: z
    .strictObject({
      action: z
        .string()
        .regex(ACTION_NAME, { error: "expected a to z, 0 to 9 and '-', 63 characters at most" })
        .meta({ description: "Name of the action: `pool-reset`, `cache-flush`, or the application's own." }),
    })
    .meta({
      description:
        "Ask the target for an action that it serves (see hints), and wait until it has done it. It stays in traffic. Treated as destructive: what it does is not known.",
    }),
  runJob: z
    .strictObject({ command: z.array(z.string()).min(1).max(100).meta({ description: "Program and arguments; no shell." }) })
    .meta({ description: "Run a command to its end; it must exit with 0. Treated as destructive: what it does is not known." }),
  notify: z
    .strictObject({ message: z.string().min(1).meta({ description: "What to say." }) })
    .meta({ description: "Tell the policy's receivers, without waking anyone." }),
  wait: z.strictObject({ for: positiveDuration.meta({ description: "How long." }) }).meta({ description: "Do nothing for a while." }),
} as const;

export type StepType = keyof typeof STEP_SCHEMAS;
export const STEP_TYPES = Object.keys(STEP_SCHEMAS) as StepType[];

/** Steps after which something cannot be brought back. */
export const DESTRUCTIVE: ReadonlySet<StepType> = new Set(["stop", "evict", "invoke", "runJob", "rolloutRestart", "rollback", "drain"]);

/** Parameters of a step of type `T`. */
export type StepParams<T extends StepType> = z.output<(typeof STEP_SCHEMAS)[T]>;

/** Time limit of a step that names none, in milliseconds. */
export const DEFAULT_STEP_TIMEOUT_MS: Readonly<Record<StepType, number>> = {
  startReplacement: 30_000,
  awaitReady: 60_000,
  removeFromTraffic: 10_000,
  awaitInFlight: 30_000,
  capture: 120_000,
  stop: 60_000,
  // A disruption budget may have to be waited for.
  evict: 120_000,
  awaitAvailable: 300_000,
  scale: 60_000,
  scaleBack: 60_000,
  rolloutRestart: 60_000,
  rollback: 60_000,
  resize: 120_000,
  cordon: 30_000,
  drain: 600_000,
  awaitHealed: 300_000,
  uncordon: 30_000,
  invoke: 30_000,
  runJob: 300_000,
  notify: 30_000,
  wait: 3_600_000,
};

const typesOf = (step: Partial<Record<StepType, unknown>>): StepType[] => STEP_TYPES.filter((type) => step[type] !== undefined);

export const stepSchema = z
  .strictObject({
    name: z.string().optional().meta({ description: "A name for people. Default: the step's type." }),
    timeout: positiveDuration.optional().meta({ description: "Longest time for the step. Default: by type." }),
    startReplacement: STEP_SCHEMAS.startReplacement.optional(),
    awaitReady: STEP_SCHEMAS.awaitReady.optional(),
    removeFromTraffic: STEP_SCHEMAS.removeFromTraffic.optional(),
    awaitInFlight: STEP_SCHEMAS.awaitInFlight.optional(),
    capture: STEP_SCHEMAS.capture.optional(),
    stop: STEP_SCHEMAS.stop.optional(),
    evict: STEP_SCHEMAS.evict.optional(),
    awaitAvailable: STEP_SCHEMAS.awaitAvailable.optional(),
    scale: STEP_SCHEMAS.scale.optional(),
    scaleBack: STEP_SCHEMAS.scaleBack.optional(),
    rolloutRestart: STEP_SCHEMAS.rolloutRestart.optional(),
    rollback: STEP_SCHEMAS.rollback.optional(),
    resize: STEP_SCHEMAS.resize.optional(),
    cordon: STEP_SCHEMAS.cordon.optional(),
    drain: STEP_SCHEMAS.drain.optional(),
    awaitHealed: STEP_SCHEMAS.awaitHealed.optional(),
    uncordon: STEP_SCHEMAS.uncordon.optional(),
    invoke: STEP_SCHEMAS.invoke.optional(),
    runJob: STEP_SCHEMAS.runJob.optional(),
    notify: STEP_SCHEMAS.notify.optional(),
    wait: STEP_SCHEMAS.wait.optional(),
  })
  .refine((step) => typesOf(step).length === 1, {
    error: `a step has exactly one of ${STEP_TYPES.join(", ")}`,
  })
  .register(kubernetes, {
    rules: [{ rule: exactlyOneRule(STEP_TYPES), message: `a step has exactly one of ${STEP_TYPES.join(", ")}` }],
  });
export type Step = z.output<typeof stepSchema>;

/** The type of a step that the schema has accepted. */
export function stepType(step: Step): StepType {
  const type = STEP_TYPES.find((candidate) => step[candidate] !== undefined);
  if (type === undefined) throw new RangeError("a step without a type");
  return type;
}

/** A fault in the order of steps: which step, and what to do. */
export interface OrderFault {
  readonly index: number;
  readonly message: string;
}

/** Steps that make sense only after another. */
const STEP_PAIRS: readonly (readonly [later: StepType, earlier: StepType, message: string])[] = [
  ["scaleBack", "scale", "nothing to take back: put scale before scaleBack"],
  ["drain", "cordon", "what is moved away would come back: put cordon before drain"],
  ["uncordon", "cordon", "nothing to take back: put cordon before uncordon"],
];

/**
 * The orders that can only do harm: a capture after the step that destroyed what it would capture, a stop before its
 * replacement is ready, a wait for a replacement that nothing starts, anything on the target after its stop.
 */
export function stepOrderFaults(steps: readonly Step[]): OrderFault[] {
  const types = steps.map(stepType);
  const faults: OrderFault[] = [];
  const firstStop = types.findIndex((type) => type === "stop" || type === "evict");
  const before = (type: StepType, index: number): boolean => types.indexOf(type) !== -1 && types.indexOf(type) < index;
  types.forEach((type, index) => {
    const fault = (message: string): void => void faults.push({ index, message });
    if (type === "stop") {
      if (index !== firstStop) return fault("the target is stopped already by an earlier step: delete this one");
      if (steps[index]?.stop?.allowCapacityDrop) return;
      if (!before("startReplacement", index))
        fault("stop without a replacement drops capacity: put startReplacement and awaitReady before it, or set allowCapacityDrop: true");
      else if (!before("awaitReady", index)) fault("stop before the replacement is ready drops capacity: put awaitReady before it");
      else if (!before("removeFromTraffic", index))
        fault("stop of a target that still serves loses requests: put removeFromTraffic before it");
      return;
    }
    if (type === "evict" && index !== firstStop) return fault("the target is stopped already by an earlier step: delete this one");
    for (const [later, earlier, message] of STEP_PAIRS) if (type === later && !before(earlier, index)) fault(message);
    if (type === "capture") {
      const destroyer = types.findIndex((t) => DESTRUCTIVE.has(t));
      if (destroyer !== -1 && destroyer < index)
        fault(`capture comes after the destructive step ${destroyer + 1} (${types[destroyer] ?? ""}): move it before`);
    }
    if (type === "awaitReady" && !before("startReplacement", index)) fault("nothing to wait for: put startReplacement before awaitReady");
    if (type === "awaitInFlight" && !before("removeFromTraffic", index))
      fault("requests keep coming until removeFromTraffic: put it before awaitInFlight");
    if (type === "startReplacement" && types.indexOf(type) !== index) fault("one replacement a runbook: delete this step");
    if (firstStop !== -1 && firstStop < index && ["removeFromTraffic", "awaitInFlight", "startReplacement"].includes(type))
      fault(`${type} after ${types[firstStop] ?? ""} is too late: move it before step ${firstStop + 1}`);
  });
  // A target left out of traffic for good is lost capacity (design rule L3).
  const removed = types.indexOf("removeFromTraffic");
  if (removed !== -1 && firstStop === -1)
    faults.push({ index: removed, message: "removeFromTraffic without a later stop would leave the target out of traffic: add a stop" });
  return faults;
}

/** CEL: the index of the first (or last) of the steps `self` that is of one of the types; -1 where none is. */
function indexExpression(which: "indexOf" | "lastIndexOf", ...types: readonly StepType[]): string {
  return `self.map(s, ${types.map((type) => `has(s.${type})`).join(" || ")}).${which}(true)`;
}

/** `stepOrderFaults` for the API server: the same orders are refused, by rules on the whole list. */
function stepOrderRules(): Validation[] {
  const first = (...types: readonly StepType[]): string => indexExpression("indexOf", ...types);
  const last = (...types: readonly StepType[]): string => indexExpression("lastIndexOf", ...types);
  const atMostOne = (type: StepType, message: string): Validation => ({
    rule: `self.filter(s, has(s.${type})).size() <= 1`,
    message,
  });
  /** Where a stop is not allowed to drop capacity, `type` comes before it. */
  const beforeStop = (type: StepType, message: string): Validation => ({
    rule: `!self.exists(s, has(s.stop) && !s.stop.allowCapacityDrop) || (${first(type)} >= 0 && ${first(type)} < ${first("stop")})`,
    message,
  });
  const after = (type: StepType, earlier: StepType, message: string): Validation => ({
    rule: `${first(type)} == -1 || (${first(earlier)} >= 0 && ${first(earlier)} < ${first(type)})`,
    message,
  });
  const notAfterStop = (type: StepType): Validation => ({
    rule: `${first("stop", "evict")} == -1 || ${last(type)} < ${first("stop", "evict")}`,
    message: `${type} after stop or evict is too late: move it before`,
  });
  return [
    {
      rule: "self.filter(s, has(s.stop) || has(s.evict)).size() <= 1",
      message: "the target is stopped already by an earlier step: one stop or evict a runbook",
    },
    atMostOne("startReplacement", "one replacement a runbook: one startReplacement"),
    beforeStop(
      "startReplacement",
      "stop without a replacement drops capacity: put startReplacement and awaitReady before it, or set allowCapacityDrop: true",
    ),
    beforeStop("awaitReady", "stop before the replacement is ready drops capacity: put awaitReady before it"),
    beforeStop("removeFromTraffic", "stop of a target that still serves loses requests: put removeFromTraffic before it"),
    {
      rule: `${first(...DESTRUCTIVE)} == -1 || ${last("capture")} < ${first(...DESTRUCTIVE)}`,
      message: `capture comes after a destructive step (${[...DESTRUCTIVE].join(", ")}): move it before`,
    },
    after("awaitReady", "startReplacement", "nothing to wait for: put startReplacement before awaitReady"),
    after("awaitInFlight", "removeFromTraffic", "requests keep coming until removeFromTraffic: put it before awaitInFlight"),
    notAfterStop("removeFromTraffic"),
    notAfterStop("awaitInFlight"),
    notAfterStop("startReplacement"),
    {
      rule: `${first("removeFromTraffic")} == -1 || ${first("stop", "evict")} >= 0`,
      message: "removeFromTraffic without a later stop would leave the target out of traffic: add a stop",
    },
    ...STEP_PAIRS.map(([later, earlier, message]) => after(later, earlier, message)),
  ];
}

/** What a runbook says. */
export const runbookSpecSchema = z
  .strictObject({
    description: z.string().optional().meta({ description: "When to use it, for people." }),
    steps: z
      .array(stepSchema)
      .min(1)
      .max(50)
      .register(kubernetes, { rules: stepOrderRules() })
      .meta({ description: "Carried out in this order." }),
  })
  .superRefine((spec, ctx) => {
    // A step of no type, or of two, has been refused already.
    if (spec.steps.some((step) => typesOf(step).length !== 1)) return;
    for (const fault of stepOrderFaults(spec.steps))
      ctx.addIssue({ code: "custom", path: ["steps", fault.index], message: fault.message, params: { code: "IMPOSSIBLE_STEP_ORDER" } });
  });
export type RunbookSpec = z.output<typeof runbookSpecSchema>;

/** Named, reusable, typed steps: the wiki page as code. */
export const runbookSchema = resourceSchema("Runbook", runbookSpecSchema);
export type Runbook = z.output<typeof runbookSchema>;
