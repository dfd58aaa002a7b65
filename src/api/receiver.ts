import { z } from "zod";
import { objectName } from "./meta.ts";

/** Somewhere that pages go. */
const receiverSchema = z
  .strictObject({
    name: objectName.meta({ description: "Name that policies use." }),
    type: z.enum(["Webhook", "Slack"]).meta({ description: "`Webhook` (JSON by POST) or `Slack` (an incoming webhook)." }),
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .meta({ description: "Where pages are sent." }),
    urlFile: z.string().min(1).optional().meta({ description: "Or a file that holds the address, where that is a secret." }),
    tokenFile: z.string().min(1).optional().meta({ description: "File with a bearer token that is sent along." }),
  })
  .refine((receiver) => (receiver.url === undefined) !== (receiver.urlFile === undefined), { error: "give either url or urlFile" });
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
