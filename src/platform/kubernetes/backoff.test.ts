import assert from "node:assert/strict";
import { it } from "node:test";
import { Backoff } from "./backoff.ts";

it("waits as client-go's reflector does: 800 ms doubling to 30 s, and up to as much again", () => {
  for (const random of [0, 0.5, 0.999]) {
    const backoff = new Backoff({ next: () => random, uuid: () => "" });
    const waits = Array.from({ length: 8 }, () => backoff.next() / (1 + random));
    assert.deepEqual(
      waits.map((wait) => Math.round(wait)),
      [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000],
    );
    backoff.reset();
    assert.equal(Math.round(backoff.next() / (1 + random)), 800);
  }
});
