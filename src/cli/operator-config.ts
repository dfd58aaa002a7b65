import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { alertmanagersSchema } from "../api/alertmanager.ts";
import { NightshiftError } from "../api/errors.ts";
import { parseDocument } from "../api/parse.ts";
import { prometheusSchema } from "../api/prometheus.ts";
import { receiversSchema } from "../api/receiver.ts";
import { serviceGraphSchema } from "../api/service-graph.ts";
import { slackSchema } from "../api/slack.ts";
import { problemsError } from "./resources.ts";

/** The operator's configuration file. Paths are relative to the file. */
export const operatorConfigSchema = z.strictObject({
  receivers: receiversSchema,
  alertmanagers: alertmanagersSchema,
  slack: slackSchema.optional(),
  prometheus: prometheusSchema,
  serviceGraph: serviceGraphSchema,
  changes: z
    .strictObject({
      configMaps: z.boolean().default(false).meta({
        description:
          "Whether new versions of ConfigMaps count as changes of the workloads whose pods are given them. The operator must be let list and watch ConfigMaps (`changes.configMaps` in the chart's values); it asks for their metadata alone, and keeps names and versions. Default `false`.",
      }),
    })
    .prefault({})
    .meta({ description: "What is followed to tell what has changed, beside workloads and nodes." }),
  audit: z
    .strictObject({
      head: z.string().min(1).optional().meta({
        description:
          "File that holds the head of the audit chain, best on another volume: it shows when the trail's end was cut. Default: `audit.head` in the state directory.",
      }),
    })
    .prefault({})
    .meta({ description: "The audit trail." }),
});
export type OperatorConfig = z.output<typeof operatorConfigSchema>;

/** Reads the configuration file; without one, the defaults. Throws `INVALID_RESOURCES` with every problem, or `NOT_FOUND`. */
export async function readOperatorConfig(file: string | undefined): Promise<{ config: OperatorConfig; dir: string }> {
  if (file === undefined) return { config: operatorConfigSchema.parse({}), dir: process.cwd() };
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new NightshiftError("NOT_FOUND", "the configuration file cannot be read", { where: file, fix: "Name it with --config.", cause });
  }
  const { value, errors } = parseDocument(text.trim() === "" ? "{}" : text, file, operatorConfigSchema);
  if (value === undefined) throw problemsError(errors, "the configuration file");
  return { config: value, dir: dirname(resolve(file)) };
}
