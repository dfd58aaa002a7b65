import { setTimeout as sleep } from "node:timers/promises";
import { faultsOf } from "./faults.ts";
import { Mutex } from "./locks.ts";
import { Receipts } from "./receipts.ts";
import { call, requiredUrl, serve } from "./service.ts";

const bank = requiredUrl("BANK_URL");
const faults = await faultsOf();

const kept = Number(process.env["SHOP_RECEIPTS_KEPT"] ?? 50);
const receiptBytes = Number(process.env["SHOP_RECEIPT_KB"] ?? 64) * 1_024;
const receipts = new Receipts(faults.has("leak") ? Infinity : kept, receiptBytes);

const ledger = new Mutex();
const journal = new Mutex();

/** Enters a payment: ledger first, then journal. */
const enter = (): Promise<void> => ledger.hold(() => journal.hold(async () => undefined));

/**
 * Compares the two, again and again. The bad release takes the locks in the opposite order, and waits between them: with
 * the first payment that is entered meanwhile, a deadlock.
 */
const reconcile = async (): Promise<never> => {
  for (;;) {
    await journal.hold(async () => {
      await sleep(50);
      await ledger.hold(async () => undefined);
    });
    await sleep(50);
  }
};

async function pay(body: unknown): Promise<{ status: number; body: unknown }> {
  const { idempotencyKey, amountCents } = body as { idempotencyKey: string; amountCents: number };
  const known = receipts.get(idempotencyKey);
  if (known) return { status: 200, body: { receipt: known.idempotencyKey, at: known.at } };
  await enter();
  const authorized = await call("POST", `${bank}/authorize`, { amountCents }, 1_500);
  if (authorized.status !== 200) return { status: authorized.status === 504 ? 504 : 502, body: { error: "the bank did not authorize" } };
  const receipt = receipts.issue(idempotencyKey, amountCents);
  return { status: 200, body: { receipt: receipt.idempotencyKey, at: receipt.at } };
}

serve({
  faults,
  routes: { "POST /pay": pay },
  // It can take payments when it can enter one.
  ready: enter,
  onFirstRequest: () => {
    if (faults.has("deadlock")) setTimeout(() => void reconcile(), faults.afterMs);
  },
});
