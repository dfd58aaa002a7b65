import { setTimeout as sleep } from "node:timers/promises";
import { faultsOf } from "./faults.ts";
import { serve } from "./service.ts";

let canaries = 0;

serve({
  faults: await faultsOf(),
  routes: {
    // Remembers for the shop whether there was a canary of a bad release: see faults.ts.
    "POST /canary": async () => ({ status: canaries++ === 0 ? 201 : 200, body: {} }),
    "POST /authorize": async () => {
      await sleep(4 + Math.random() * 8);
      return { status: 200, body: { authorized: true } };
    },
  },
});
