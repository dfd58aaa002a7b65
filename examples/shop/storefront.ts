import { randomUUID } from "node:crypto";
import { faultsOf } from "./faults.ts";
import { call, requiredUrl, serve } from "./service.ts";

const payments = requiredUrl("PAYMENTS_URL");

serve({
  faults: await faultsOf(),
  routes: {
    "GET /checkout": async () => {
      const order = { idempotencyKey: randomUUID(), amountCents: 100 + Math.floor(Math.random() * 20_000), currency: "EUR" };
      // The key makes a payment safe to send again, as over a connection that broke, which does not say whether it was made.
      const pay = () => call("POST", `${payments}/pay`, order, 2_000);
      const first = await pay();
      const paid = first.status === 502 ? await pay() : first;
      if (paid.status !== 200) return { status: paid.status >= 502 ? paid.status : 502, body: { error: "payment failed" } };
      return { status: 200, body: { order: order.idempotencyKey, paid: true } };
    },
  },
});
