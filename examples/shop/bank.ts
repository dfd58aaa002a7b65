import { setTimeout as sleep } from "node:timers/promises";
import { faultsOf } from "./faults.ts";
import { serve } from "./service.ts";

serve({
  faults: faultsOf(),
  routes: {
    "POST /authorize": async () => {
      await sleep(4 + Math.random() * 8);
      return { status: 200, body: { authorized: true } };
    },
  },
});
