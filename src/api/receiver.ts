import { z } from "zod";
import { objectName } from "./meta.ts";

/** Somewhere that pages go. */
const receiverSchema = z
  .strictObject({
    name: objectName.meta({ description: "Name that policies use." }),
    type: z.enum(["Webhook", "Slack", "PagerDuty", "Opsgenie", "Alertmanager"]).meta({
      description:
        "`Webhook` (JSON by POST), `Slack` (an incoming webhook), `PagerDuty` (Events API v2), `Opsgenie` (Alert API v2) or `Alertmanager` (an alert `NightshiftEscalation`).",
    }),
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .meta({
        description:
          "Where pages are sent. Not needed for `PagerDuty` and `Opsgenie`, whose public addresses are the default; of `Alertmanager` its own.",
      }),
    urlFile: z.string().min(1).optional().meta({ description: "Or a file that holds the address, where that is a secret." }),
    tokenFile: z.string().min(1).optional().meta({
      description: "File with a bearer token that is sent along; needed for `PagerDuty` (its routing key) and `Opsgenie` (its API key).",
    }),
  })
  .refine(
    ({ type, url, urlFile }) =>
      type === "PagerDuty" || type === "Opsgenie"
        ? url === undefined || urlFile === undefined
        : (url === undefined) !== (urlFile === undefined),
    { error: "give either url or urlFile" },
  )
  .refine(({ type, tokenFile }) => (type !== "PagerDuty" && type !== "Opsgenie") || tokenFile !== undefined, {
    path: ["tokenFile"],
    error: "PagerDuty and Opsgenie need tokenFile: the file with the routing key, or API key",
  });
export type ReceiverSpec = z.output<typeof receiverSchema>;

/** Everyone who can be paged, each under a name of its own. */
export const receiversSchema = z
  .array(receiverSchema)
  .superRefine((receivers, ctx) => {
    const seen = new Set<string>();
    receivers.forEach(({ name }, index) => {
      if (seen.has(name)) ctx.addIssue({ code: "custom", path: [index, "name"], message: `the name ${name} is taken by an earlier one` });
      seen.add(name);
    });
  })
  .default([])
  .meta({ description: "Who can be paged." });
