import type { Random } from "../../ports/random.ts";

/** Random numbers of a seed, with what a simulation draws from them. */
export interface SimRandom extends Random {
  /** A whole number from `min` to `max`, both included. */
  int(min: number, max: number): number;
  /** True with probability `p`. */
  chance(p: number): boolean;
  /** One of the list, each as likely. */
  pick<T>(list: readonly T[]): T;
}

/**
 * The stream of a name under a seed: the same numbers on every machine, and independent of every other stream. Each part
 * of a simulation draws from its own, so that a fault that is left out does not shift what the others do.
 */
export function streamOf(seed: number, name: string): SimRandom {
  let [a, b, c, d] = hash(`${seed}/${name}`);
  // sfc32 (Chris Doty-Humphrey, public domain), of PractRand's test suite.
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return (t >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    int,
    chance: (p) => next() < p,
    pick: <T>(list: readonly T[]): T => {
      if (list.length === 0) throw new RangeError(`${name}: nothing to pick from`);
      return list[int(0, list.length - 1)] as T;
    },
    uuid: () => uuidOf(next),
  };
}

/** A version 4 UUID of numbers in [0, 1). */
export function uuidOf(next: () => number): string {
  return "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx".replace(/[xy]/g, (digit) =>
    Math.floor(digit === "x" ? next() * 16 : 8 + next() * 4).toString(16),
  );
}

/** Four words of a text (cyrb128, public domain). */
function hash(text: string): [number, number, number, number] {
  let h1 = 1779033703;
  let h2 = 3144134277;
  let h3 = 1013904242;
  let h4 = 2773480762;
  for (let i = 0; i < text.length; i++) {
    const k = text.charCodeAt(i);
    h1 = h2 ^ Math.imul(h1 ^ k, 597399067);
    h2 = h3 ^ Math.imul(h2 ^ k, 2869860233);
    h3 = h4 ^ Math.imul(h3 ^ k, 951274213);
    h4 = h1 ^ Math.imul(h4 ^ k, 2716044179);
  }
  h1 = Math.imul(h3 ^ (h1 >>> 18), 597399067);
  h2 = Math.imul(h4 ^ (h2 >>> 22), 2869860233);
  h3 = Math.imul(h1 ^ (h3 >>> 17), 951274213);
  h4 = Math.imul(h2 ^ (h4 >>> 19), 2716044179);
  return [h1 ^ h2 ^ h3 ^ h4, h2 ^ h1, h3 ^ h1, h4 ^ h1];
}
