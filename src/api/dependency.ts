import { z } from "zod";
import { kubernetes } from "./kubernetes.ts";
import { objectName, resourceSchema } from "./meta.ts";
import { percent, positiveDuration } from "./units.ts";

const service = z.strictObject({
  name: objectName.meta({ description: "Name of the workload." }),
  namespace: objectName.optional().meta({ description: "Its namespace. Default: that of the ServiceDependency." }),
});

/** An edge of the service graph. */
export const serviceDependencySpecSchema = z
  .strictObject({
    from: service.meta({ description: "The caller." }),
    to: service.meta({ description: "What it depends on." }),
    unhealthyAbove: percent
      .default("10%")
      .meta({ description: "Error rate of `to` above which it is taken for the cause. Default `10%`." }),
    window: positiveDuration.default("30s").meta({ description: "The span that the error rate is computed over. Default `30s`." }),
  })
  .register(kubernetes, {
    rules: [
      {
        rule: "self.from.name != self.to.name || (has(self.from.__namespace__) ? self.from.__namespace__ : '') != (has(self.to.__namespace__) ? self.to.__namespace__ : '')",
        message: "it depends on itself: name what it calls",
      },
    ],
  });

/** Declared edges that complete the observed graph. */
export const serviceDependencySchema = resourceSchema("ServiceDependency", serviceDependencySpecSchema);
export type ServiceDependency = z.output<typeof serviceDependencySchema>;
