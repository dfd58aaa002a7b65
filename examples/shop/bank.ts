import { setTimeout as sleep } from "node:timers/promises";
import { faultsOf } from "./faults.ts";
import { serve } from "./service.ts";

let canary: string | undefined;

serve({
  faults: await faultsOf(),
  routes: {
    // Remembers for the shop whether there was a canary of a bad release: see faults.ts.
    "POST /canary": async (body) => {
      const { id } = body as { id: string };
      canary ??= id;
      // Whoever was the first is told so again: its first answer may have been lost.
      return { status: canary === id ? 201 : 200, body: {} };
    },
    "POST /authorize": async () => {
      await sleep(4 + Math.random() * 8);
      return { status: 200, body: { authorized: true } };
    },
  },
});
