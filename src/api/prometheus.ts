import { z } from "zod";

/** The Prometheus that `promql` signals are asked of. */
export const prometheusSchema = z
  .strictObject({
    url: z.url({ protocol: /^https?$/ }).meta({
      description: "Its own address: what `/api/v1/query` is below, such as `http://prometheus:9090` or `http://mimir/prometheus`.",
    }),
    tenant: z.string().min(1).optional().meta({ description: "Mimir's tenant: the header `X-Scope-OrgID`." }),
    tokenFile: z.string().min(1).optional().meta({ description: "File with a bearer token that is sent along. Read anew each time." }),
    username: z.string().min(1).optional().meta({ description: "User of basic authentication." }),
    passwordFile: z
      .string()
      .min(1)
      .optional()
      .meta({ description: "File with the password of basic authentication. Read anew each time." }),
    caFile: z.string().min(1).optional().meta({ description: "File with the certificates that its own is checked against." }),
  })
  .refine(({ username, passwordFile }) => (username === undefined) === (passwordFile === undefined), {
    error: "username and passwordFile go together: give both, or neither",
  })
  .refine(({ username, tokenFile }) => username === undefined || tokenFile === undefined, {
    error: "give either tokenFile or username: only one can be shown",
  })
  .optional()
  .meta({ description: "The Prometheus that `promql` signals are asked of, or what speaks its API (Mimir, Thanos). Default: none." });
export type PrometheusSpec = NonNullable<z.output<typeof prometheusSchema>>;
