import { z } from "zod";
import { positiveDuration } from "./units.ts";

/** How the service graph is gathered. */
export const serviceGraphSchema = z
  .strictObject({
    fromPrometheus: z.boolean().default(true).meta({
      description:
        "Whether the Prometheus, where one is configured, is asked for metrics of a service graph (`traces_service_graph_request_*`), six queries every 30 s. Default true.",
    }),
    edgesAgeOutAfter: positiveDuration.default("1h").meta({
      description:
        "After how long without a call one service no longer counts as a caller of another, where no ServiceDependency says that it is. Default `1h`.",
    }),
  })
  .prefault({})
  .meta({ description: "How it is learned who calls whom." });
export type ServiceGraphSpec = z.output<typeof serviceGraphSchema>;
