import { isIP } from "node:net";
import { z } from "zod";
import { objectName } from "../../api/meta.ts";
import { alertmanagersSchema } from "../../api/alertmanager.ts";
import { prometheusSchema } from "../../api/prometheus.ts";
import { serviceGraphSchema } from "../../api/service-graph.ts";
import { receiversSchema } from "../../api/receiver.ts";
import { slackSchema } from "../../api/slack.ts";
import { duration, parseDuration, positiveDuration, quantity } from "../../api/units.ts";

const HOST_PORT = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/;

/** Host and port of an address such as `127.0.0.1:8477` or `[::1]:8477`; undefined when it is none. */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = HOST_PORT.exec(text);
  if (!match) return undefined;
  const [, bracketed, plain, digits] = match;
  const port = Number(digits);
  if (port > 65_535 || (bracketed !== undefined && isIP(bracketed) !== 6)) return undefined;
  return { host: bracketed ?? plain ?? "", port };
}

const port = z.int().min(1).max(65_535);

const readinessSchema = z.strictObject({
  path: z
    .string()
    .startsWith("/", { error: "expected a path that begins with '/', such as /healthz" })
    .optional()
    .meta({ description: "Path of an HTTP GET on the replica's `PORT`; 200 to 399 is ready. Default: a TCP connection is enough." }),
  period: positiveDuration
    .refine((text) => (parseDuration(text) ?? 50) >= 50, { error: "expected 50ms or longer" })
    .default("1s")
    .meta({ description: "From one probe to the next, `50ms` or longer. Default `1s`." }),
  timeout: positiveDuration.default("1s").meta({ description: "A probe without an answer in this time has failed. Default `1s`." }),
  failureThreshold: z.int().min(1).default(3).meta({ description: "Failures in a row that make a ready replica unready. Default 3." }),
  successThreshold: z.int().min(1).default(1).meta({ description: "Successes in a row that make it ready. Default 1." }),
  initialDelay: duration.default("0s").meta({ description: "From the start of the process to the first probe. Default `0s`." }),
});

const workloadSchema = z.strictObject({
  name: objectName.meta({ description: "Name of the workload, unique in the stack; also its OpenTelemetry `service.name`." }),
  namespace: objectName.default("default").meta({ description: "Its namespace. Default `default`." }),
  command: z
    .array(z.string())
    .min(1)
    .meta({ description: "Program and arguments; no shell. The program listens on 127.0.0.1, on the port in `PORT`." }),
  cwd: z.string().optional().meta({ description: "Working directory, relative to the stack file. Default: the stack file's directory." }),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "expected a name of letters, digits and '_'" }), z.string())
    .default({})
    .refine((env) => env["PORT"] === undefined, {
      error: "PORT differs from replica to replica and is set by Nightshift: read it in the program",
    })
    .meta({ description: "Environment variables, added to those of Nightshift itself. `PORT` is set by Nightshift." }),
  labels: z.record(z.string(), z.string()).default({}).meta({ description: "Labels, for selection by policies." }),
  annotations: z
    .record(z.string(), z.string())
    .default({})
    .meta({ description: "Annotations, such as `nightshift.dev/do-not-remediate`." }),
  replicas: z.int().min(0).max(1000).default(1).meta({ description: "How many run. Default 1." }),
  port: port.optional().meta({
    description: "Port on 127.0.0.1 where the router takes requests and spreads them over the ready replicas. Default: no router.",
  }),
  actions: z.boolean().default(false).meta({
    description:
      "Its replicas serve actions such as `pool-reset` (see hints): each is given `NIGHTSHIFT_ACTIONS_PORT` and `NIGHTSHIFT_ACTIONS_KEY`. Default false.",
  }),
  requestTimeout: positiveDuration
    .default("30s")
    .meta({ description: "The router answers 504 when a replica has not answered in this time. Default `30s`." }),
  readiness: readinessSchema
    .optional()
    .meta({ description: "When a replica is ready. Default: a TCP connection to `PORT` where there is a `port`; else once it runs." }),
  memory: z
    .strictObject({
      limit: quantity.optional().meta({
        description:
          "Most memory of each replica: a memory cgroup as root; else, for Node.js, `--max-old-space-size`. Default: the whole machine.",
      }),
    })
    .prefault({})
    .meta({ description: "Memory of each replica." }),
  minAvailable: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "Least replicas that must stay ready whatever is healed, as of a PodDisruptionBudget. Default: none." }),
  stopGracePeriod: positiveDuration
    .default("10s")
    .meta({ description: "Between SIGTERM and SIGKILL where the supervisor itself stops a replica. Default `10s`." }),
});

/** A stack file: the workloads of one machine and what Nightshift needs beside them. Paths are relative to the file. */
export const stackSchema = z
  .strictObject({
    listen: z
      .string()
      .refine((text) => parseHostPort(text) !== undefined, { error: "expected host:port, such as 127.0.0.1:8477" })
      .default("127.0.0.1:8477")
      .meta({ description: "Address of Nightshift's own HTTP server (OTLP, webhook, metrics, health). Default `127.0.0.1:8477`." }),
    grpcListen: z
      .string()
      .refine((text) => parseHostPort(text) !== undefined, { error: "expected host:port, such as 127.0.0.1:4317" })
      .optional()
      .meta({ description: "Address for OTLP over gRPC, such as `127.0.0.1:4317`. Default: it is taken over HTTP alone." }),
    resources: z
      .array(z.string().min(1))
      .default([])
      .meta({ description: "Files and directories with policies, runbooks, budgets and dependencies." }),
    receivers: receiversSchema,
    alertmanagers: alertmanagersSchema,
    slack: slackSchema.optional(),
    prometheus: prometheusSchema,
    serviceGraph: serviceGraphSchema,
    audit: z
      .strictObject({
        head: z.string().min(1).optional().meta({
          description:
            "File that holds the head of the audit chain, best on another disk: it shows when the trail's end was cut. Default: `audit.head` in the state directory.",
        }),
      })
      .prefault({})
      .meta({ description: "The audit trail." }),
    artifacts: z
      .strictObject({
        maxBytes: quantity
          .default("10Gi")
          .meta({ description: "Bytes of captures that are kept; the oldest go first, the newest always stays. Default `10Gi`." }),
        maxCount: z.int().min(1).default(50).meta({ description: "Captures that are kept. Default 50." }),
      })
      .prefault({})
      .meta({ description: "Captures kept in the state directory." }),
    logs: z
      .strictObject({
        maxBytes: quantity
          .default("16Mi")
          .meta({ description: "Size at which a workload's log file is moved to `.1`, of which one is kept. Default `16Mi`." }),
      })
      .prefault({})
      .meta({ description: "Output of the workloads." }),
    restartBackoff: z
      .strictObject({
        initial: positiveDuration.default("1s").meta({ description: "Wait before the first restart after a crash. Default `1s`." }),
        max: positiveDuration.default("5m").meta({ description: "Longest wait; each crash doubles it up to here. Default `5m`." }),
        resetAfter: positiveDuration
          .default("10m")
          .meta({ description: "A replica that ran this long begins again at `initial`. Default `10m`." }),
      })
      .refine((backoff) => (parseDuration(backoff.initial) ?? 0) <= (parseDuration(backoff.max) ?? Infinity), {
        path: ["max"],
        error: "max is shorter than initial",
      })
      .prefault({})
      .meta({ description: "Restarts of crashed replicas." }),
    workloads: z.array(workloadSchema).min(1).meta({ description: "What runs." }),
  })
  .superRefine((stack, ctx) => {
    const unique = (items: readonly (string | number | undefined)[], at: (index: number) => (string | number)[], what: string): void => {
      const seen = new Set<string | number>();
      items.forEach((item, index) => {
        if (item === undefined) return;
        if (seen.has(item)) ctx.addIssue({ code: "custom", path: at(index), message: `the ${what} ${item} is taken by an earlier one` });
        seen.add(item);
      });
    };
    unique(
      stack.workloads.map((workload) => workload.name),
      (index) => ["workloads", index, "name"],
      "name",
    );
    unique(
      stack.workloads.map((workload) => workload.port),
      (index) => ["workloads", index, "port"],
      "port",
    );
    for (const field of ["listen", "grpcListen"] as const) {
      const own = parseHostPort(stack[field] ?? "")?.port;
      stack.workloads.forEach((workload, index) => {
        if (workload.port !== undefined && workload.port === own)
          ctx.addIssue({ code: "custom", path: ["workloads", index, "port"], message: `the port ${own} is Nightshift's own (${field})` });
      });
    }
  });
/** A stack file that the schema has accepted, with its defaults. */
export type Stack = z.output<typeof stackSchema>;
/** One workload of a stack. */
export type WorkloadSpec = Stack["workloads"][number];
