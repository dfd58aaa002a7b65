import { randomBytes } from "node:crypto";

/** Proof of a payment, kept so that a client that asks twice with the same key pays once. */
interface Receipt {
  readonly idempotencyKey: string;
  readonly amountCents: number;
  readonly at: string;
  /** The signed document, base64. */
  readonly document: string;
}

/** Receipts by idempotency key. */
export class Receipts {
  readonly #receipts = new Map<string, Receipt>();
  readonly #keep: number;
  readonly #documentBytes: number;

  /** Keeps the newest `keep` receipts. The bad release passes Infinity: the map is never emptied. */
  constructor(keep: number, documentBytes: number) {
    this.#keep = keep;
    this.#documentBytes = documentBytes;
  }

  get(idempotencyKey: string): Receipt | undefined {
    return this.#receipts.get(idempotencyKey);
  }

  issue(idempotencyKey: string, amountCents: number): Receipt {
    // Base64 is 4 characters for 3 bytes; V8 keeps it flat, one byte a character.
    const document = randomBytes(Math.ceil(this.#documentBytes * 0.75)).toString("base64");
    const receipt = { idempotencyKey, amountCents, at: new Date().toISOString(), document };
    this.#receipts.set(idempotencyKey, receipt);
    while (this.#receipts.size > this.#keep) {
      const [oldest] = this.#receipts.keys();
      if (oldest === undefined) break;
      this.#receipts.delete(oldest);
    }
    return receipt;
  }
}
