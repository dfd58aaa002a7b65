import { RE2JS } from "@bufbuild/re2";
import { Cron } from "croner";
import { z } from "zod";
import { durationExpression, exactlyOneRule, kubernetes, type Validation } from "./kubernetes.ts";
import { conditionSchema, objectName, resourceSchema } from "./meta.ts";
import { duration, durationMs, parsePercent, percent, percentOrInteger, positiveDuration, quantity } from "./units.ts";

/** How far a policy may go by itself. */
export const MODES = ["Observe", "Approve", "Enforce"] as const;
export const mode = z.enum(MODES).meta({
  description: "`Observe` decides and records, touches nothing (a dry run). `Approve` acts after a person's yes. `Enforce` acts by itself.",
});
export type Mode = z.output<typeof mode>;

/** Strategies ready to use: those that are built, so that any other is refused when a policy is applied. Which of them a platform can carry out is checked when the policy is loaded there. */
export const STRATEGIES = [
  "RestartPod",
  "RollingRestart",
  "ScaleUp",
  "EvictPod",
  "RollbackRollout",
  "ResizeResources",
  "ResetConnectionPool",
  "FlushCache",
  "CordonAndDrainNode",
  "RunJob",
  "Notify",
] as const;
export const strategy = z.enum(STRATEGIES).meta({ description: "A strategy that needs no runbook." });
export type Strategy = z.output<typeof strategy>;

/** Five or six fields, or a nickname such as `@daily`: what the API server can see of a cron expression. */
const CRON = /^(@[a-z]+|[^\s]+(\s+[^\s]+){4,5})$/;

/** Whether `text` is a cron expression of five or six fields. */
function isCron(text: string): boolean {
  if (!CRON.test(text)) return false;
  try {
    new Cron(text, { paused: true });
    return true;
  } catch {
    return false;
  }
}

// What is known of one is kept: to ask costs as much as all else of a policy's check. Few have a name, so it is bounded.
const timeZones = new Set<string>();

/** Whether the runtime knows the IANA time zone. */
function isTimeZone(text: string): boolean {
  if (timeZones.has(text)) return true;
  try {
    new Intl.DateTimeFormat("en", { timeZone: text });
    timeZones.add(text);
    return true;
  } catch {
    return false;
  }
}

const schedule = z
  .string()
  .max(256)
  .refine(isCron, { error: "expected a cron expression of five fields, such as '0 22 * * 1-5'" })
  .register(kubernetes, { schema: { pattern: CRON.source } })
  .meta({ description: "Cron expression: when the window opens." });
const timeZone = z
  .string()
  .refine(isTimeZone, { error: "expected an IANA time zone, such as Europe/Berlin" })
  .default("UTC")
  .meta({ description: "IANA time zone of the schedule. Default `UTC`." });

/** A span of time that recurs. */
export const windowSchema = z.strictObject({
  schedule,
  timeZone,
  duration: positiveDuration.meta({ description: "How long the window stays open after each opening." }),
});
export type Window = z.output<typeof windowSchema>;

/** How many of a workload may be down, and when. */
export const budgetSchema = z
  .strictObject({
    maxUnavailable: percentOrInteger.meta({
      description:
        "Most replicas of a workload that may be unavailable for any reason, the target of the action included. `0` forbids every action that the budget applies to: with a schedule, a freeze.",
    }),
    reasons: z
      .array(z.string())
      .min(1)
      .max(50)
      .optional()
      .meta({ description: "Causes (such as `MemoryLeak`) that the budget applies to. Default: all." }),
    schedule: schedule.optional().meta({ description: "Cron expression: when the budget begins to apply. Default: always." }),
    timeZone,
    duration: positiveDuration.optional().meta({ description: "How long it applies after each opening. Needed with `schedule`." }),
    whenRoundsToZero: z.enum(["Block", "AllowOne"]).default("Block").meta({
      description: "What holds where a percentage of a small workload rounds down to zero: `Block` (default), or `AllowOne` replica.",
    }),
  })
  .refine((b) => (b.schedule === undefined) === (b.duration === undefined), {
    error: "schedule and duration go together: give both, or neither",
  })
  .refine((b) => b.whenRoundsToZero === "Block" || (typeof b.maxUnavailable === "string" && parsePercent(b.maxUnavailable) !== 0), {
    path: ["whenRoundsToZero"],
    params: { code: "IMPOSSIBLE_BUDGET" },
    error: "AllowOne goes with a percentage above 0%; a whole number says by itself how many",
  })
  .register(kubernetes, {
    rules: [
      {
        rule: "has(self.schedule) == has(self.duration)",
        message: "schedule and duration go together: give both, or neither",
      },
      {
        rule: "self.whenRoundsToZero == 'Block' || (type(self.maxUnavailable) == string && self.maxUnavailable.matches('[1-9]'))",
        message: "AllowOne goes with a percentage above 0%; a whole number says by itself how many",
      },
    ],
  });
export type Budget = z.output<typeof budgetSchema>;

/** Stops everything that it covers, until it is taken away or has expired. */
export const pauseSchema = z.strictObject({
  reason: z.string().min(1).meta({ description: "Why; shown with every decision that it blocks." }),
  until: z.iso.datetime({ offset: true }).optional().meta({ description: "When the pause ends by itself (RFC 3339). Default: never." }),
});
export type Pause = z.output<typeof pauseSchema>;

/** A capture of a process: evidence that a restart would destroy. */
export const captureSchema = z.strictObject({
  type: z
    .enum(["HeapSnapshot", "CpuProfile"])
    .meta({ description: "`HeapSnapshot` (opens in Chrome DevTools) or `CpuProfile` (10 s of samples)." }),
  required: z
    .boolean()
    .default(true)
    .meta({ description: "When true (default), a capture that failed stops every destructive step after it." }),
  raiseLimit: z
    .boolean()
    .default(true)
    .meta({ description: "Whether the memory limit may be raised for the capture where headroom is missing. Default true." }),
  container: z.string().min(1).optional().meta({
    description:
      "On Kubernetes, the container whose process is meant. Default: the one that has a Node.js process, or the largest of them.",
  }),
});
export type Capture = z.output<typeof captureSchema>;

const exactlyOne =
  (fields: readonly string[]) =>
  (value: Record<string, unknown>): boolean =>
    fields.filter((field) => value[field] !== undefined).length === 1;

const labelSelector = z.strictObject({
  matchLabels: z
    .record(z.string(), z.string())
    .refine((labels) => Object.keys(labels).length > 0, { error: "an empty selector selects nothing here: name at least one label" })
    .register(kubernetes, { schema: { minProperties: 1 } })
    .meta({ description: "Labels that a target must all have." }),
});

const targetSchema = z
  .strictObject({
    kind: z
      .enum(["Workload", "Deployment", "StatefulSet", "DaemonSet", "Pod", "Node"])
      .default("Workload")
      .meta({ description: "Kind of the target. `Workload` (default) is any owner of replicas." }),
    name: objectName.optional().meta({ description: "Its name." }),
    selector: labelSelector.optional().meta({ description: "Or its labels. An empty selector is refused." }),
  })
  .refine(exactlyOne(["name", "selector"]), { error: "give either name or selector" })
  .register(kubernetes, { rules: [{ rule: exactlyOneRule(["name", "selector"]), message: "give either name or selector" }] });

/** The kinds of condition that a policy's signal can have; exactly one each. */
export const SIGNAL_CONDITIONS = [
  "trend",
  "probe",
  "errorRate",
  "metric",
  "promql",
  "hint",
  "log",
  "alert",
  "podState",
  "nodeCondition",
  "rollout",
  "event",
  "resource",
] as const;
/** Conditions that only a platform with Kubernetes' objects reports. Any other refuses a policy that has one when it is loaded. */
export const OBJECT_CONDITIONS = [
  "podState",
  "nodeCondition",
  "rollout",
  "event",
  "resource",
] as const satisfies readonly (typeof SIGNAL_CONDITIONS)[number][];
export type ObjectCondition = (typeof OBJECT_CONDITIONS)[number];

/** What the cluster says of a pod that does not run as it should, by the name that `kubectl get pods` shows. */
export const POD_STATES = [
  "CrashLoopBackOff",
  "OOMKilled",
  "ImagePullBackOff",
  "CreateContainerConfigError",
  "Terminating",
  "Pending",
] as const;
export type PodState = (typeof POD_STATES)[number];

/** Severities of log records, with the least number that OpenTelemetry gives each. */
export const LOG_SEVERITIES = { TRACE: 1, DEBUG: 5, INFO: 9, WARN: 13, ERROR: 17, FATAL: 21 } as const;
/** Longest time that log records are counted for (ms). */
const MAX_LOG_WINDOW_MS = 3_600_000;

/** Whether `text` is a pattern of RE2. */
function isRe2(text: string): boolean {
  try {
    RE2JS.compile(text);
    return true;
  } catch {
    return false;
  }
}

/** What the name of an action is made of. */
export const ACTION_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Actions that a number can stand for. */
const NUMBERED_ACTIONS: readonly string[] = ["pool-reset", "cache-flush", "restart"];
const BARE_MESSAGE = `a number without remediation.action can only mean ${NUMBERED_ACTIONS.join(", ")}: leave bareValue out`;
const BARE_RULE = `self.bareValue == 'Inconclusive' || self.action in [${NUMBERED_ACTIONS.map((action) => `'${action}'`).join(", ")}]`;

const policySignalSchema = z
  .strictObject({
    name: objectName.meta({ description: "Name of the signal, unique in the policy; it appears in every record." }),
    when: z.string().min(1).max(2_048).optional().meta({
      description:
        "CEL: the condition counts only where this is true of `signal`, `target`, `metrics`, `kernel`, `graph` and `changes`. What it reads and is not there is missing data, whatever the rest of it says of it. Default: always.",
    }),
    trend: z
      .strictObject({
        metric: z.string().min(1).default("memory").meta({
          description:
            "What must not reach its limit: `memory` (default: the working set that the platform measures), or the name of an OTLP gauge such as `process.memory.usage`.",
        }),
        limit: quantity.optional().meta({ description: "The limit in bytes. Default: the replica's own memory limit." }),
        horizon: positiveDuration.default("30m").meta({
          description:
            "Fires when the limit would be reached within this time, and no further ahead than growth has been seen. Default `30m`.",
        }),
        minConfidence: z
          .number()
          .min(0.5)
          .max(1)
          .default(0.95)
          .meta({ description: "Least confidence in the trend, 0.5 to 1. Default 0.95." }),
        window: positiveDuration.default("1h").meta({ description: "How much of the past is looked at. Default `1h`." }),
      })
      .optional()
      .meta({ description: "A replica's memory grows to its limit: a leak." }),
    probe: z
      .strictObject({
        failingFor: positiveDuration
          .default("10s")
          .meta({ description: "How long the readiness probe has failed without a break. Default `10s`." }),
      })
      .optional()
      .meta({ description: "A replica that has been ready fails its readiness probe." }),
    errorRate: z
      .strictObject({
        above: percent.meta({ description: "Share of failed requests above which the signal fires." }).register(kubernetes, {
          rules: [{ rule: "!self.startsWith('100')", message: "no share of requests is above 100%: write a lower percentage" }],
        }),
        for: duration.default("30s").meta({ description: "How long without a break. Default `30s`." }),
        minRequests: z
          .int()
          .min(1)
          .default(10)
          .meta({ description: "Fewer requests in the window than this are no evidence. Default 10." }),
      })
      .optional()
      .meta({ description: "A workload answers too many requests with an error." }),
    metric: z
      .strictObject({
        name: z.string().min(1).meta({
          description:
            "Name of an OTLP metric. A counter is its rate a second; of a histogram or summary there are `NAME.count` (observations a second) and `NAME.sum` (what they add up to a second).",
        }),
        above: z.number().optional().meta({ description: "Fires above this value." }),
        below: z.number().optional().meta({ description: "Fires below this value." }),
        for: duration.default("30s").meta({ description: "How long without a break. Default `30s`." }),
      })
      .refine(exactlyOne(["above", "below"]), { error: "give either above or below" })
      .register(kubernetes, { rules: [{ rule: exactlyOneRule(["above", "below"]), message: "give either above or below" }] })
      .optional()
      .meta({ description: "A metric of a replica crosses a threshold." }),
    promql: z
      .strictObject({
        query: z.string().min(1).max(4_096).meta({
          description:
            "PromQL that gives the value, without a comparison: what has no row is missing data, never well and never ill. A row names its target by the labels that an alert would (`namespace`; `pod`, `replica`, `node`, `deployment`, `statefulset`, `daemonset`, `workload`, `service`).",
        }),
        above: z.number().optional().meta({ description: "Fires above this value." }),
        below: z.number().optional().meta({ description: "Fires below this value." }),
        for: duration.default("1m").meta({
          description:
            "How long without a break: every step of that range must be there and beyond. `0s` looks at one instant. Default `1m`.",
        }),
        every: positiveDuration.default("30s").meta({ description: "How often it is asked, at least `5s`. Default `30s`." }),
      })
      .refine(exactlyOne(["above", "below"]), { error: "give either above or below" })
      .refine(({ every }) => durationMs(every) >= 5_000, { path: ["every"], error: "expected at least 5s" })
      .register(kubernetes, {
        rules: [
          { rule: exactlyOneRule(["above", "below"]), message: "give either above or below" },
          { rule: `${durationExpression("self.every")} >= timestamp(5)`, message: "every is at least 5s" },
        ],
      })
      .optional()
      .meta({ description: "A query of Prometheus, or of what speaks its API (Mimir, Thanos), crosses a threshold." }),
    hint: z
      .strictObject({
        action: z.string().regex(ACTION_NAME, { error: "expected a name of an action, such as pool-reset: a to z, 0 to 9 and -" }).meta({
          description: "The `remediation.action` that is asked for: `pool-reset`, `cache-flush`, `restart`, or a name of your own.",
        }),
        saturationType: z
          .string()
          .min(1)
          .max(128)
          .optional()
          .meta({ description: "And the `saturation.type` that goes with it. Default: any." }),
        activeFor: positiveDuration.default("2m").meta({
          description:
            "How long a hint stands that is not repeated; then it is over. At most `maxSignalAge` counts. Longer than the sender's export interval, which is 1m unless it says otherwise. Default `2m`.",
        }),
        bareValue: z.enum(["Inconclusive", "SingleAddition"]).default("Inconclusive").meta({
          description:
            "What a number stands for that comes without `remediation.action` (1 `pool-reset`, 2 `cache-flush`, 3 `restart`) and may be a sum: nothing (`Inconclusive`, default), or one addition (`SingleAddition`), where the sender exports differences (delta temporality) and adds at most once an export.",
        }),
      })
      .register(kubernetes, { rules: [{ rule: BARE_RULE, message: BARE_MESSAGE }] })
      .refine(({ action, bareValue }) => bareValue === "Inconclusive" || NUMBERED_ACTIONS.includes(action), {
        path: ["bareValue"],
        error: BARE_MESSAGE,
      })
      .optional()
      .meta({ description: "A replica asks for an action itself, by the counter `service.remediation.hint` over OTLP." }),
    log: z
      .strictObject({
        severity: z
          .enum(["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
          .default("ERROR")
          .meta({ description: "Least severity of a record that counts. Default `ERROR`." }),
        body: z
          .string()
          .min(1)
          .max(512)
          .refine(isRe2, { error: "expected a pattern of RE2, such as 'connection pool (exhausted|timed out)'" })
          .optional()
          .meta({
            description: "Pattern (RE2) that a part of its body matches; of a body the first 1,024 characters are looked at. Default: any.",
          }),
        attributes: z
          .record(z.string().min(1), z.string())
          .default({})
          .meta({ description: "Attributes that it must all have, such as `exception.type`." }),
        above: z.int().min(0).default(0).meta({ description: "Fires when more than so many count. Default 0." }),
        window: positiveDuration.default("1m").meta({ description: "Within this time, at most `1h`. Default `1m`." }),
      })
      .refine(({ window }) => durationMs(window) <= MAX_LOG_WINDOW_MS, { path: ["window"], error: "expected at most 1h" })
      .register(kubernetes, {
        rules: [{ rule: `${durationExpression("self.window")} <= timestamp(3600)`, message: "window is at most 1h" }],
      })
      .optional()
      .meta({
        description: "A replica logs, over OTLP, more records of a kind than a number within a time. The records themselves are not kept.",
      }),
    alert: z
      .strictObject({
        alertname: z.string().min(1).meta({ description: "The alert's name in Alertmanager." }),
        matchLabels: z.record(z.string(), z.string()).default({}).meta({ description: "Labels that the alert must also have." }),
      })
      .optional()
      .meta({ description: "An alert that Alertmanager sent." }),
    podState: z
      .strictObject({
        state: z.enum(POD_STATES).meta({
          description:
            "`CrashLoopBackOff`: a container ends again and again; it is over when the container is ready, or has run for 10 minutes. `OOMKilled`: the kernel ended a container for its memory, no longer ago than `within`. `ImagePullBackOff`: an image cannot be pulled (`ErrImagePull` and the like, too). `CreateContainerConfigError`: a ConfigMap, a Secret or a key is not there. `Terminating`: the pod was deleted, its grace period has passed, and it is still there. `Pending`: not all of its containers were ever started.",
        }),
        for: duration.optional().meta({
          description: "How long without a break; of `Terminating`, after the end of the grace period. Not for `OOMKilled`. Default `1m`.",
        }),
        within: positiveDuration.optional().meta({ description: "For `OOMKilled`: how long ago at most. Default `10m`." }),
        minRestarts: z
          .int()
          .min(0)
          .default(0)
          .meta({ description: "Only where the pod's containers were started again at least this often. Default 0." }),
        reason: z.string().min(1).max(256).optional().meta({
          description: "For `Pending`: why it must be, such as `Unschedulable` or `ContainerCreating`. Default: whatever it is.",
        }),
        container: z.string().min(1).max(253).optional().meta({ description: "Only this container of the pod. Default: any." }),
      })
      .refine(({ state, for: span }) => state !== "OOMKilled" || span === undefined, {
        path: ["for"],
        error: "OOMKilled is a moment: say within, not for",
      })
      .refine(({ state, within }) => state === "OOMKilled" || within === undefined, {
        path: ["within"],
        error: "within goes with OOMKilled only: say for",
      })
      .refine(({ state, reason }) => state === "Pending" || reason === undefined, {
        path: ["reason"],
        error: "reason goes with Pending only",
      })
      .refine(({ state, container }) => (state !== "Pending" && state !== "Terminating") || container === undefined, {
        path: ["container"],
        error: "Pending and Terminating are said of a pod, not of a container",
      })
      .register(kubernetes, {
        rules: [
          {
            rule: "self.state == 'OOMKilled' ? !has(self.for) : !has(self.within)",
            message: "OOMKilled has within, every other state has for",
          },
          { rule: "self.state == 'Pending' || !has(self.reason)", message: "reason goes with Pending only" },
          {
            rule: "!(self.state in ['Pending', 'Terminating']) || !has(self.container)",
            message: "Pending and Terminating are said of a pod, not of a container",
          },
        ],
      })
      .optional()
      .meta({ description: "On Kubernetes: what the cluster says of a pod that does not run as it should." }),
    nodeCondition: z
      .strictObject({
        type: z.string().min(1).max(316).meta({
          description:
            "`NotReady` (its `Ready` condition is anything but `True`), or the type of any condition of the node: `DiskPressure`, `MemoryPressure`, `PIDPressure`, `NetworkUnavailable`, or one that something else sets. A condition that is not there, or of which the node is not heard, is missing data.",
        }),
        status: z.enum(["True", "False"]).default("True").meta({ description: "Its status. Default `True`; of `NotReady` no other." }),
        for: duration.default("1m").meta({ description: "How long without a break. Default `1m`." }),
      })
      .refine(({ type, status }) => type !== "NotReady" || status === "True", {
        path: ["status"],
        error: "NotReady has no status: for a node that is ready write type Ready",
      })
      .register(kubernetes, {
        rules: [{ rule: "self.type != 'NotReady' || self.status == 'True'", message: "NotReady has no status" }],
      })
      .optional()
      .meta({ description: "On Kubernetes: a condition of a node. For targets of kind `Node`." }),
    rollout: z
      .strictObject({
        stuckFor: positiveDuration.default("10m").meta({
          description:
            "For StatefulSets and DaemonSets: how long without progress. A Deployment counts as stuck when its own `progressDeadlineSeconds` has passed (`Progressing` is `False`). Default `10m`.",
        }),
      })
      .optional()
      .meta({ description: "On Kubernetes: a rollout of the workload makes no progress." }),
    event: z
      .strictObject({
        reason: z.string().min(1).max(128).meta({ description: "Reason of the events, such as `FailedMount` or `FailedCreate`." }),
        count: z.int().min(1).max(1_000).default(3).meta({ description: "How many at least. Default 3." }),
        within: positiveDuration
          .default("10m")
          .meta({ description: "In how long a time up to now. The API server keeps events for an hour. Default `10m`." }),
      })
      .optional()
      .meta({
        description:
          "On Kubernetes: events of type `Warning` about the target (a pod, its node, its workload or a ReplicaSet of that). The operator must be let read events (`watchResources` in the chart's values).",
      }),
    resource: z
      .strictObject({
        apiVersion: z
          .string()
          .regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?v[0-9]+((alpha|beta)[0-9]+)?$/, {
            error: "expected GROUP/VERSION, such as cert-manager.io/v1",
          })
          .max(253)
          .meta({ description: "Group and version of the objects, such as `cert-manager.io/v1`." }),
        kind: z
          .string()
          .regex(/^[A-Z][A-Za-z0-9]*$/, { error: "expected a kind, such as Certificate" })
          .max(63)
          .refine((kind) => kind !== "Secret", { error: "Secrets are never read" })
          .register(kubernetes, { rules: [{ rule: "self != 'Secret'", message: "Secrets are never read" }] })
          .meta({ description: "Their kind. Secrets are never read." }),
        when: z.string().min(1).max(2_048).meta({
          description:
            "CEL: what must be true of `object`, the whole of it as the API server shows it. What it reads and is not there is missing data.",
        }),
        for: duration.default("1m").meta({
          description: "How long without a break, by the versions of the object that were seen. Default `1m`.",
        }),
        name: objectName.optional().meta({ description: "The object's name. Default: that of the target (the workload, or the node)." }),
        label: z.string().min(1).max(316).optional().meta({ description: "Or the key of the object's label that has the target's name." }),
        owned: z.literal(true).optional().meta({ description: "Or: the target is among the object's owners (`ownerReferences`)." }),
        belongs: z
          .string()
          .min(1)
          .max(2_048)
          .optional()
          .meta({ description: "Or CEL over `object` and `target`: whether it is the target's." }),
      })
      .refine((r) => [r.name, r.label, r.owned, r.belongs].filter((way) => way !== undefined).length <= 1, {
        error: "give at most one of name, label, owned, belongs",
      })
      .register(kubernetes, {
        rules: [
          {
            rule: "[has(self.name), has(self.label), has(self.owned), has(self.belongs)].filter(given, given).size() <= 1",
            message: "give at most one of name, label, owned, belongs",
          },
        ],
      })
      .optional()
      .meta({
        description:
          "On Kubernetes: something is true of an object of any kind, in the policy's namespace, that belongs to the target. The operator must be let read it (`watchResources` in the chart's values). Objects without a namespace are for policies in Nightshift's own.",
      }),
  })
  .refine(exactlyOne(SIGNAL_CONDITIONS), { error: `give exactly one of ${SIGNAL_CONDITIONS.join(", ")}` })
  .register(kubernetes, {
    rules: [{ rule: exactlyOneRule(SIGNAL_CONDITIONS), message: `give exactly one of ${SIGNAL_CONDITIONS.join(", ")}` }],
  });
export type PolicySignal = z.output<typeof policySignalSchema>;

const scaleFields = {
  by: z.int().min(1).default(1).meta({ description: "How many replicas more. Default 1." }),
  max: z.int().min(1).meta({ description: "Never more replicas than this." }),
};
const scaleRules: readonly Validation[] = [
  { rule: "self.max > 1", message: "max 1 leaves nothing to scale up to: give max at least 2" },
  { rule: "self.by <= self.max", message: "by is always more than max: raise max, or lower by" },
];

/** How many replicas more. */
export const scaleSchema = z.strictObject(scaleFields).register(kubernetes, { rules: scaleRules });

const scaleRungSchema = z
  .strictObject({
    ...scaleFields,
    for: positiveDuration.optional().meta({
      description:
        "How long the replicas more are kept; then they are taken back, and it is verified that the workload does without them. Default: they stay. They are taken back in any case when they did not help.",
    }),
  })
  .register(kubernetes, { rules: scaleRules });

/** How much more memory, up to a bound. */
export const resizeSchema = z.strictObject({
  memory: z
    .strictObject({
      factor: z
        .number()
        .min(1.01)
        .max(10)
        .optional()
        .meta({ description: "The new limit as a multiple of the present one, such as `1.5`." }),
      by: quantity.optional().meta({ description: "Or how much is added to it." }),
      max: quantity.meta({ description: "Never a higher limit than this." }),
    })
    .refine(exactlyOne(["factor", "by"]), { error: "give either factor or by" })
    .register(kubernetes, { rules: [{ rule: exactlyOneRule(["factor", "by"]), message: "give either factor or by" }] })
    .meta({ description: "The memory limit of the replica's main container." }),
  whenRefused: z.enum(["Fail", "Rollout"]).default("Fail").meta({
    description:
      "What is done where the node or the cluster cannot resize a running replica: `Fail` (default), or `Rollout` (all replicas are replaced by ones with the new limit).",
  }),
});

const rungSchema = z
  .strictObject({
    strategy: strategy.optional(),
    runbook: objectName.optional().meta({ description: "Name of a Runbook in the policy's namespace." }),
    timeout: positiveDuration.default("10m").meta({ description: "Longest time for the whole rung, verification apart. Default `10m`." }),
    verify: z
      .strictObject({
        stableFor: positiveDuration.optional().meta({ description: "In the place of the policy's `verify.stableFor`." }),
        timeout: positiveDuration.optional().meta({ description: "In the place of the policy's `verify.timeout`." }),
        maxErrorRate: percent.optional().meta({ description: "In the place of the policy's `verify.maxErrorRate`." }),
      })
      .optional()
      .meta({ description: "When the target counts as well after this rung. Default: as the policy's `verify` has it." }),
    captures: z
      .array(captureSchema)
      .max(10)
      .default([])
      .meta({ description: "For `RestartPod`, `RollingRestart` and `EvictPod`: what to save from the process first." }),
    scale: scaleRungSchema.optional().meta({ description: "For `ScaleUp`." }),
    resize: resizeSchema.optional().meta({ description: "For `ResizeResources`." }),
    drain: z
      .strictObject({
        healWithin: positiveDuration.default("5m").meta({
          description:
            "How long an emptied node is waited for to become ready, and is then used again. One that does not stays cordoned, and a person is told. Default `5m`.",
        }),
      })
      .optional()
      .meta({ description: "For `CordonAndDrainNode`." }),
    command: z.array(z.string()).min(1).max(100).optional().meta({ description: "For `RunJob`: program and arguments; no shell." }),
    message: z.string().optional().meta({ description: "For `Notify`: what to say." }),
  })
  .refine(exactlyOne(["strategy", "runbook"]), { error: "give either strategy or runbook" })
  .superRefine((rung, ctx) => {
    const needs = (field: "scale" | "resize" | "command", by: Strategy): void => {
      if ((rung.strategy === by) !== (rung[field] !== undefined))
        ctx.addIssue({
          code: "custom",
          path: [field],
          message: rung.strategy === by ? `${by} needs ${field}` : `${field} goes with strategy ${by} only`,
        });
    };
    needs("scale", "ScaleUp");
    needs("resize", "ResizeResources");
    needs("command", "RunJob");
    if (rung.drain !== undefined && rung.strategy !== "CordonAndDrainNode")
      ctx.addIssue({ code: "custom", path: ["drain"], message: "drain goes with strategy CordonAndDrainNode only" });
    if (rung.message !== undefined && rung.strategy !== "Notify")
      ctx.addIssue({ code: "custom", path: ["message"], message: "message goes with strategy Notify only" });
    if (rung.captures.length > 0 && !["RestartPod", "RollingRestart", "EvictPod"].includes(rung.strategy ?? ""))
      ctx.addIssue({
        code: "custom",
        path: ["captures"],
        message: "captures go with RestartPod, RollingRestart and EvictPod; in a runbook write a capture step",
      });
  })
  .register(kubernetes, {
    rules: [
      { rule: exactlyOneRule(["strategy", "runbook"]), message: "give either strategy or runbook" },
      {
        rule: "(has(self.strategy) && self.strategy == 'ScaleUp') == has(self.scale)",
        message: "ScaleUp needs scale, and scale goes with strategy ScaleUp only",
      },
      {
        rule: "(has(self.strategy) && self.strategy == 'ResizeResources') == has(self.resize)",
        message: "ResizeResources needs resize, and resize goes with strategy ResizeResources only",
      },
      {
        rule: "!has(self.drain) || (has(self.strategy) && self.strategy == 'CordonAndDrainNode')",
        message: "drain goes with strategy CordonAndDrainNode only",
      },
      {
        rule: "(has(self.strategy) && self.strategy == 'RunJob') == has(self.command)",
        message: "RunJob needs command, and command goes with strategy RunJob only",
      },
      {
        rule: "!has(self.message) || (has(self.strategy) && self.strategy == 'Notify')",
        message: "message goes with strategy Notify only",
      },
      {
        rule: "self.captures.size() == 0 || (has(self.strategy) && self.strategy in ['RestartPod', 'RollingRestart', 'EvictPod'])",
        message: "captures go with RestartPod, RollingRestart and EvictPod; in a runbook write a capture step",
      },
    ],
  });
export type Rung = z.output<typeof rungSchema>;

/** What a policy says. */
export const policySpecSchema = z
  .strictObject({
    mode: mode.default("Observe"),
    paused: pauseSchema.optional().meta({ description: "Stops this policy, with a reason and an end." }),
    targets: z.array(targetSchema).min(1).max(100).meta({ description: "What the policy covers. Nothing else is ever touched." }),
    signals: z
      .array(policySignalSchema)
      .min(1)
      .max(50)
      .register(kubernetes, { listMapKeys: ["name"] })
      .meta({ description: "Any one of these begins an episode." }),
    maxSignalAge: positiveDuration
      .default("5m")
      .meta({ description: "A signal that was last seen longer ago is stale and never acts. Default `5m`." }),
    ladder: z
      .array(rungSchema)
      .min(1)
      .max(20)
      .meta({ description: "What to do, least disruptive first. A rung that did not help leads to the next." }),
    firstRung: z.enum(["LeastDisruptive", "WhatWorkedLast", "UndoChange"]).optional().meta({
      description:
        "Where an episode begins on the ladder: with its first rung (`LeastDisruptive`, the default), or with the one that healed the same cause of the same workload last (`WhatWorkedLast`), or with the first that rolls back, where the workload was rolled out within the half hour before the symptom began (`UndoChange`); the others follow in their order.",
    }),
    verify: z
      .strictObject({
        stableFor: positiveDuration
          .default("30s")
          .meta({ description: "The target must be well for this long without a break. Default `30s`." }),
        timeout: positiveDuration.default("5m").meta({
          description: "After this the rung was ineffective. What is well by then is given `stableFor` to show it. Default `5m`.",
        }),
        maxErrorRate: percent.default("5%").meta({ description: "Error rate of the workload that counts as well. Default `5%`." }),
      })
      .register(kubernetes, {
        rules: [
          {
            rule: `${durationExpression("self.timeout")} > ${durationExpression("self.stableFor")}`,
            message: "verification ends before the target can have been well for stableFor: give timeout more",
          },
        ],
      })
      .prefault({})
      .meta({ description: "When the target counts as well again." }),
    budgets: z
      .array(budgetSchema)
      .min(1)
      .max(50)
      .register(kubernetes, {
        rules: [
          {
            rule: "!self.exists(b, !has(b.schedule) && !has(b.reasons) && !(type(b.maxUnavailable) == int ? b.maxUnavailable > 0 : b.maxUnavailable.matches('[1-9]')))",
            message:
              "maxUnavailable 0 without a schedule forbids every action, always: allow at least 1, or give it a schedule and duration; to watch only, use mode: Observe",
          },
        ],
      })
      .default([{ maxUnavailable: 1, timeZone: "UTC", whenRoundsToZero: "Block" }])
      .meta({ description: "Limits; the strictest that applies wins. Default: one replica." }),
    windows: z
      .array(windowSchema)
      .min(1)
      .max(50)
      .optional()
      .meta({ description: "Actions only inside one of these windows. Default: always." }),
    cooldown: duration.default("10m").meta({ description: "Rest of a target after an episode. Default `10m`." }),
    attempts: z
      .strictObject({
        max: z
          .int()
          .min(1)
          .max(100)
          .default(3)
          .meta({ description: "Attempts without success, after which the circuit opens. Default 3." }),
        window: positiveDuration.default("1h").meta({ description: "The span that they are counted in. Default `1h`." }),
        reset: positiveDuration
          .optional()
          .meta({ description: "The circuit closes by itself after this long without an attempt. Default: the window." }),
      })
      .prefault({})
      .meta({ description: "Strikes." }),
    approval: z
      .strictObject({
        timeout: positiveDuration
          .default("30m")
          .meta({ description: "Without an answer in this time from when it is asked for, the episode is escalated. Default `30m`." }),
      })
      .prefault({})
      .meta({ description: "For mode `Approve`." }),
    escalation: z
      .strictObject({
        receivers: z.array(objectName).max(50).default([]).meta({ description: "Names of configured receivers. Default: all of them." }),
        blockedFor: positiveDuration
          .default("15m")
          .meta({ description: "A fault that lasts while a gate blocks for this long is handed to a person. Default `15m`." }),
      })
      .prefault({})
      .meta({ description: "Who is paged when Nightshift gives up." }),
  })
  .superRefine((spec, ctx) => {
    const seen = new Set<string>();
    spec.signals.forEach((signal, i) => {
      if (seen.has(signal.name))
        ctx.addIssue({ code: "custom", path: ["signals", i, "name"], message: `the name ${signal.name} is taken by an earlier signal` });
      seen.add(signal.name);
    });
    const nodes = spec.targets.filter((target) => target.kind === "Node").length;
    spec.signals.forEach((signal, i) => {
      if (signal.nodeCondition !== undefined && nodes < spec.targets.length)
        ctx.addIssue({
          code: "custom",
          path: ["signals", i, "nodeCondition"],
          message: "nodeCondition is about nodes: give the policy targets of kind Node only",
        });
      for (const condition of ["podState", "rollout"] as const)
        if (signal[condition] !== undefined && nodes > 0)
          ctx.addIssue({
            code: "custom",
            path: ["signals", i, condition],
            message: `${condition} is not about nodes: give the policy no targets of kind Node`,
          });
    });
    spec.ladder.forEach(({ strategy: named }, i) => {
      const path = ["ladder", i, "strategy"];
      if (named === "CordonAndDrainNode" && nodes < spec.targets.length)
        ctx.addIssue({ code: "custom", path, message: "CordonAndDrainNode acts on nodes: give the policy targets of kind Node only" });
      else if (nodes > 0 && named !== undefined && named !== "CordonAndDrainNode" && named !== "Notify")
        ctx.addIssue({ code: "custom", path, message: `${named} does not act on nodes: give the policy no targets of kind Node` });
    });
  })
  .register(kubernetes, {
    rules: [
      {
        rule: "!self.ladder.exists(r, has(r.strategy) && r.strategy == 'CordonAndDrainNode') || self.targets.all(t, t.kind == 'Node')",
        message: "CordonAndDrainNode acts on nodes: give the policy targets of kind Node only",
      },
      {
        rule: "!self.targets.exists(t, t.kind == 'Node') || self.ladder.all(r, !has(r.strategy) || r.strategy in ['CordonAndDrainNode', 'Notify'])",
        message: "nodes are acted on by CordonAndDrainNode, Notify and runbooks: give the policy no targets of kind Node",
      },
      {
        rule: "!self.signals.exists(s, has(s.nodeCondition)) || self.targets.all(t, t.kind == 'Node')",
        message: "nodeCondition is about nodes: give the policy targets of kind Node only",
      },
      {
        rule: "!self.targets.exists(t, t.kind == 'Node') || self.signals.all(s, !has(s.podState) && !has(s.rollout))",
        message: "podState and rollout are not about nodes: give the policy no targets of kind Node",
      },
    ],
  });
export type PolicySpec = z.output<typeof policySpecSchema>;

/** How Nightshift stands to a policy. */
export const policyStatusSchema = z.strictObject({
  observedGeneration: z.int().min(0).optional().meta({ description: "The newest `metadata.generation` that Nightshift has read." }),
  conditions: z
    .array(conditionSchema)
    .register(kubernetes, { listMapKeys: ["type"] })
    .default([])
    .meta({
      description:
        "`Accepted`: the policy is sound, and this platform can carry it out. `Ready`: it is accepted, covers at least one workload, and everything that its signals look at is there; what is otherwise for less than a minute is not told.",
    }),
});

/** For which targets, on which signals, what to do, within which limits. Namespaced, owned by the team. */
export const remediationPolicySchema = resourceSchema("RemediationPolicy", policySpecSchema).extend({
  status: policyStatusSchema.optional().meta({ description: "How Nightshift stands to it. Nobody else writes it." }),
});
export type RemediationPolicy = z.output<typeof remediationPolicySchema>;
