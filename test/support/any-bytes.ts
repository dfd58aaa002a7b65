import assert from "node:assert/strict";
import * as fc from "fast-check";
import { NightshiftError } from "../../src/api/errors.ts";

/** Any bytes, and mutants of a valid body, are taken or refused with a NightshiftError: `receive` throws nothing else. */
export function survivesAnyBytes(valid: Uint8Array, receive: (body: Uint8Array) => unknown): void {
  const survives = (body: Uint8Array): void => {
    try {
      receive(body);
    } catch (error) {
      assert.ok(error instanceof NightshiftError, String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), survives), { numRuns: 300 });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 }), fc.nat(20), (edits, cut) => {
      const body = Uint8Array.from(valid);
      for (const [place, byte] of edits) body[place] = byte;
      survives(body.subarray(0, body.length - cut));
    }),
    { numRuns: 500 },
  );
}
