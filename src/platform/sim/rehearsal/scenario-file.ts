import { z } from "zod";
import { workloadName } from "../../../api/cluster.ts";
import { duration, durationMs, positiveDuration } from "../../../api/units.ts";
import { ENDINGS, FAULT_KINDS, SYMPTOMS, WRITTEN_KINDS } from "../scenario.ts";
import { befallsSomebody } from "./symptoms.ts";

/** What comes of a fault on a workload. */
export const RESULTS = {
  Healed: "An episode ended with the target well again.",
  Escalated: "A person was paged.",
  Observed: "The policy is in `Observe`: what it would have done is on record.",
  Failed: "Something was done, it did not help, and nobody was paged as long as the fault lasted.",
  HeldBack: "Gates held everything back, and nobody was paged as long as the fault lasted.",
  Recovered: "It went by before anything was done.",
  Untouched: "A policy listens to it, and began nothing.",
  Unheard: "No policy that covers the workload listens to it.",
} as const;
export const RESULT_NAMES = Object.keys(RESULTS) as (keyof typeof RESULTS)[];
export type Result = keyof typeof RESULTS;

/** Workloads by their part in a scenario. */
export const PARTS = ["Target", "Dependency", "Others", "All"] as const;

const results = z.array(z.enum(RESULT_NAMES as [Result, ...Result[]])).min(1);

/** A part, or a workload by its name: not a part that is written small. */
function isWhom(text: string): boolean {
  if (PARTS.includes(text as (typeof PARTS)[number])) return true;
  return workloadName.safeParse(text).success && PARTS.every((part) => part.toLowerCase() !== text);
}

const faultSchema = z
  .strictObject({
    kind: z.enum([...FAULT_KINDS, ...WRITTEN_KINDS]).meta({ description: "What goes wrong, or is done by others." }),
    on: z
      .string()
      .refine(isWhom, { error: `expected one of ${PARTS.join(", ")}, or the name of a workload` })
      .default("Target")
      .meta({
        description:
          "Whom it befalls: the workload that is rehearsed (`Target`, the default), what that calls (`Dependency`), every workload but it (`Others`), or `All`; or a workload by its name. A fault of nodes befalls the node, or the zone, of the target's first replica.",
      }),
    at: duration.default("2m").meta({ description: "When it begins. Default `2m`: monitoring and operators have begun by then." }),
    for: positiveDuration.optional().meta({ description: "How long it lasts, where nothing heals it. Default: as long as the scenario." }),
    replicas: z
      .union([z.int().min(1).max(1_000), z.literal("all")], { error: "expected a whole number from 1, or all" })
      .default(1)
      .meta({ description: "How many of the workload's replicas it befalls, or `all`. Default 1." }),
    recurs: z
      .boolean()
      .default(false)
      .meta({ description: "It befalls also what takes the place of what had it, as a fault in the code does. Default false." }),
    endedBy: z.array(z.enum(ENDINGS)).min(1).optional().meta({
      description:
        "What ends it, besides a cure of its kind: `Job` (a `RunJob` that completes); of what a replica has also `Action` (one that it served, such as `ResetConnectionPool`), and of a `WorkloadCondition` `Restart` (all replicas that serve were started since) and `Scale` (more replicas serve than when it began).",
    }),
    share: z.number().min(0).max(100).optional().meta({
      description:
        "Share of requests that fail (0 to 1; of a condition 0 where it says none), how likely it is at each occasion, or of `Overload`: how many times the usual requests. `ResizeByPerson`: how many times the memory limit.",
    }),
    takes: duration.optional().meta({
      description:
        "`PodLeak`: until the limit is reached. `CrashLoop`: from one crash to the next. `SlowStart`, `ApiSlow`, `WatchLag`, `AlertDelay`: how much later. `Stop`: for how long. `ClockJump`: by how much.",
    }),
    count: z
      .int()
      .min(-1_000)
      .max(1_000)
      .optional()
      .meta({ description: "`ScaleByPerson`: how many replicas more, or fewer. `CrashBeforeWrite`, `CrashAfterWrite`: at which write." }),
    what: z.string().optional().meta({
      description:
        "`PodCondition`, `WorkloadCondition`: the alert, metric or signal (of a query) by which it is seen. `BadRollout`: `Errors` where the new pods become ready and fail requests. `ResizeRefused`: `Infeasible` (default: the node has not so much) or `Deferred` (not yet). `Mark`: `Pod`, `Workload`, `Namespace` or `Node`. `PausePolicy`, `PauseAll`: `Open` where it has no end. `EditMode`: `Observe` (default) or `Approve`. `EditPolicy`: `Budgets`, `Windows`, `Cooldown`, `Attempts` or `Ladder`.",
    }),
    expect: results.optional().meta({
      description: "What should come of it: one of these, on every workload that it befalls and a policy covers, and on the target.",
    }),
  })
  .refine(({ kind, expect }) => expect === undefined || befallsSomebody(kind), {
    path: ["expect"],
    error: "a fault of this kind is nothing to be healed, but a circumstance of others: write expect with those",
  })
  .refine(({ kind, what }) => what !== undefined || (kind !== "PodCondition" && kind !== "WorkloadCondition"), {
    path: ["what"],
    error: "a condition is seen by an alert, a metric or the signal of a query: name it",
  })
  .refine(
    ({ kind, endedBy = ["Job"] }) => endedBy.every((each) => each === "Job" || (each === "Action") !== (kind === "WorkloadCondition")),
    {
      path: ["endedBy"],
      error: "Restart and Scale end a WorkloadCondition, an Action what one replica suffers from; that ends with it, too",
    },
  );
export type FileFault = z.output<typeof faultSchema>;

/** A scenario as a file has it. */
export const scenarioFileSchema = z
  .strictObject({
    description: z.string().min(1).max(1_000).meta({ description: "What happens, in a sentence." }),
    lasts: positiveDuration.default("30m").meta({ description: "Until when faults last. Default `30m`." }),
    time: z.iso
      .datetime()
      .default("2026-01-05T10:00:00Z")
      .meta({ description: "When it begins, for windows and schedules. Default: a Monday, ten o'clock UTC." }),
    faults: z.array(faultSchema).min(1).max(200).meta({ description: "What goes wrong." }),
    operators: z.int().min(1).max(5).default(1).meta({ description: "How many operators run. Default 1." }),
    monitoring: z
      .strictObject({
        scrape: positiveDuration.default("15s").meta({ description: "How often is scraped. Default `15s`." }),
        evaluate: positiveDuration.default("15s").meta({ description: "How often rules are evaluated. Default `15s`." }),
        for: duration.default("30s").meta({ description: "How long a rule must hold until it fires. Default `30s`." }),
        groupWait: duration.default("10s").meta({ description: "`group_wait`. Default `10s`." }),
        groupInterval: positiveDuration.default("1m").meta({ description: "`group_interval`. Default `1m`." }),
        asked: z.boolean().default(false).meta({
          description:
            "Whether operators ask Alertmanager every 30 s what fires, as they do where the chart's `alertmanagers` has it. Default false.",
        }),
        repeat: positiveDuration.default("4h").meta({ description: "`repeat_interval`. Default `4h`." }),
      })
      .prefault({})
      .meta({ description: "How Prometheus and Alertmanager are set up." }),
    names: z
      .array(
        z.strictObject({
          symptom: z.enum(SYMPTOMS).meta({ description: "What is seen." }),
          name: z.string().min(1).meta({ description: "The alert or metric by which it is seen." }),
        }),
      )
      .max(200)
      .default([])
      .meta({
        description:
          "What your alerts and metrics stand for, where their names are not those of kube-prometheus or OpenTelemetry. `--map` says the same.",
      }),
    approver: z
      .strictObject({
        answer: z.enum(["Approve", "Deny", "Nothing"]).default("Approve").meta({ description: "What people answer. Default `Approve`." }),
        after: positiveDuration.default("2m").meta({ description: "After how long, about. Default `2m`." }),
      })
      .prefault({})
      .meta({ description: "How people answer when approval is asked for." }),
    expect: z
      .strictObject({
        maxUnavailable: z
          .int()
          .min(0)
          .optional()
          .meta({ description: "Most replicas of one workload that Nightshift itself may take down at once." }),
        effects: z.literal(false).optional().meta({ description: "`false`: Nightshift changes nothing in the cluster." }),
        maxPages: z.int().min(0).optional().meta({ description: "Most pages." }),
        minPages: z.int().min(0).optional().meta({ description: "Fewest pages." }),
      })
      .prefault({})
      .meta({ description: "What should come of the whole." }),
  })
  .superRefine(({ lasts, faults }, ctx) => {
    faults.forEach(({ at }, i) => {
      if (durationMs(at) >= durationMs(lasts))
        ctx.addIssue({ code: "custom", path: ["faults", i, "at"], message: `the scenario lasts ${lasts}: a fault begins before that` });
    });
  });
export type ScenarioFile = z.output<typeof scenarioFileSchema>;
