import { uuidOf } from "../../src/platform/sim/random.ts";
import type { Random } from "../../src/ports/random.ts";

/** The same numbers for the same seed, on every machine: mulberry32 (Tommy Ettinger, public domain). */
export function seededRandom(seed = 1): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, uuid: () => uuidOf(next) };
}
