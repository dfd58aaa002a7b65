import { z } from "zod";

/** An Alertmanager that is asked what fires. */
const alertmanagerSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).meta({ description: "Its own address, with its path prefix where it has one." }),
  receiver: z.string().min(1).optional().meta({
    description: "Name of the receiver of its configuration that sends here: only alerts for that one are taken. Default: all.",
  }),
  tokenFile: z.string().min(1).optional().meta({ description: "File with a bearer token that is sent along. Read anew each time." }),
  caFile: z.string().min(1).optional().meta({ description: "File with the certificates that its own is checked against." }),
});
export type AlertmanagerSpec = z.output<typeof alertmanagerSchema>;

/** Every Alertmanager that sends alerts here. */
export const alertmanagersSchema = z.array(alertmanagerSchema).max(16).default([]).meta({
  description:
    "Every Alertmanager that sends alerts here. They are asked for what fires at a start and every 30 seconds, as they repeat it by themselves after hours only.",
});
