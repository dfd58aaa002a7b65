/**
 * Shapes of memory over time, for tests and benches: what is a leak and what is none. Seeded, so a seed is one series.
 */
import type { Point } from "./statistics.ts";

const MB = 1e6;

/** A seeded generator of uniform numbers in [0, 1) (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A normal deviate of a uniform generator (Box-Muller). */
export function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A shape: what it does between the shares 0 and 1 of its span. */
export interface Shape {
  readonly name: string;
  readonly leak: boolean;
  /** Seconds in view, and between samples. */
  readonly span: number;
  readonly step: number;
  /** The limit that it is judged by, in bytes. */
  readonly limit: number;
  /** Makes the series' function of seconds. */
  make(random: () => number, span: number, step: number): (t: number) => number;
  /** Which samples there are; default every step. */
  readonly times?: (random: () => number, span: number, step: number) => number[];
}

/** The series of a shape: times in milliseconds from an epoch. */
export function seriesOf(shape: Shape, seed: number, epoch = 1_700_000_000_000): Point[] {
  const random = seeded(seed * 7919 + 17);
  const value = shape.make(random, shape.span, shape.step);
  const times =
    shape.times?.(random, shape.span, shape.step) ??
    Array.from({ length: Math.floor(shape.span / shape.step) + 1 }, (_, i) => i * shape.step);
  return times.map((t) => ({ t: epoch + Math.round(t * 1000), v: Math.max(0, Math.round(value(t))) }));
}

type Make = Shape["make"];
const between = (random: () => number, low: number, high: number): number => low + (high - low) * random();

/** White noise of a standard deviation. */
const noisy =
  (sd: number, inner: Make): Make =>
  (random, span, step) => {
    const f = inner(random, span, step);
    return (t) => f(t) + sd * normal(random);
  };

/** Noise that remembers: AR(1). */
const wandering =
  (sd: number, phi: number, inner: Make): Make =>
  (random, span, step) => {
    const f = inner(random, span, step);
    let state = sd * normal(random);
    return (t) => {
      state = phi * state + sd * Math.sqrt(1 - phi * phi) * normal(random);
      return f(t) + state;
    };
  };

const flat: Make = (random) => {
  const base = between(random, 80, 200) * MB;
  return () => base;
};

/** A collector's teeth: `period` in seconds, with the given jitter of period and floor (as shares). */
const sawtooth =
  (period: number, amplitude: number, jitter: number, leakPerSecond = 0): Make =>
  (random) => {
    const base = between(random, 60, 100) * MB;
    let start = -between(random, 0, period);
    let length = period * (1 + jitter * (random() - 0.5));
    let floor = base;
    return (t) => {
      while (t >= start + length) {
        start += length;
        length = period * (1 + jitter * (random() - 0.5));
        floor = base + jitter * amplitude * 0.3 * random();
      }
      return floor + leakPerSecond * Math.max(0, t) + (amplitude * (t - start)) / period;
    };
  };

const line =
  (perSecond: number, after = 0): Make =>
  (random) => {
    const base = between(random, 60, 120) * MB;
    return (t) => base + perSecond * Math.max(0, t - after);
  };

const sum =
  (...parts: readonly Make[]): Make =>
  (random, span, step) => {
    const made = parts.map((part) => part(random, span, step));
    return (t) => made.reduce((total, f) => total + f(t), 0);
  };

const zero =
  (f: (t: number, span: number, random: () => number) => (t: number) => number): Make =>
  (random, span) =>
    f(0, span, random);

const saturating = (amplitude: number, tauShare: number): Make =>
  zero((_, span) => (t) => amplitude * (1 - Math.exp(-t / (tauShare * span))));
const fill = (amplitude: number, until: number): Make => zero((_, span) => (t) => amplitude * Math.min(1, t / (until * span)));
const stepAt = (amplitude: number): Make =>
  zero((_, span, random) => {
    const at = between(random, 0.1, 0.95) * span;
    return (t) => (t >= at ? amplitude : 0);
  });
const stairs = (height: number, at: readonly number[]): Make =>
  zero((_, span) => (t) => height * at.filter((share) => t >= share * span).length);
const sine = (amplitude: number, phase: number): Make => zero(() => (t) => amplitude * Math.sin((2 * Math.PI * t) / 86_400 + phase));
const restart =
  (before: number, after: Make): Make =>
  (random, span, step) => {
    const at = between(random, 0.3, 0.8) * span;
    const f = after(random, span, step);
    const top = between(random, 200, 260) * MB;
    return (t) => (t < at ? top + (before * t) / at : f(t - at));
  };
const walk =
  (sd: number): Make =>
  (random) => {
    let v = 150 * MB;
    return () => (v += sd * normal(random));
  };
const spikes =
  (share: number, height: number): Make =>
  (random) =>
  () =>
    random() < share ? height * random() : 0;

const irregular: NonNullable<Shape["times"]> = (random, span, step) => {
  const times: number[] = [];
  for (let t = 0; t <= span; t += step * between(random, 0.05, 2.5)) times.push(t);
  return times;
};
const gappy: NonNullable<Shape["times"]> = (random, span, step) => {
  const from = between(random, 0.2, 0.5) * span;
  const to = from + between(random, 0.1, 0.3) * span;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => i * step).filter((t) => t < from || t > to);
};

const HOUR = 3600;
const DAY = 86_400;
const shape = (name: string, leak: boolean, span: number, step: number, make: Make, more: Partial<Shape> = {}): Shape => ({
  name,
  leak,
  span,
  step,
  limit: 512 * 2 ** 20,
  make,
  ...more,
});

/** Every shape, with the answer that is right. */
export const SHAPES: readonly Shape[] = [
  // What is no leak.
  ...[
    [60, 1],
    [900, 5],
    [HOUR, 15],
    [DAY, 60],
  ].flatMap(([span = 0, step = 0]) => [
    shape(`constant ${span}s`, false, span, step, flat),
    shape(`noise 1 MB ${span}s`, false, span, step, noisy(1 * MB, flat)),
    shape(`noise 10 MB ${span}s`, false, span, step, noisy(10 * MB, flat)),
    shape(`AR(1) 0.7 ${span}s`, false, span, step, wandering(5 * MB, 0.7, flat)),
    shape(`AR(1) 0.95 ${span}s`, false, span, step, wandering(5 * MB, 0.95, flat)),
    shape(`spikes ${span}s`, false, span, step, noisy(1 * MB, sum(flat, spikes(0.05, 100 * MB)))),
    ...[200, 30, 10, 4, 2.5, 1.6].map((teeth) =>
      shape(`sawtooth ${teeth} teeth ${span}s`, false, span, step, noisy(1 * MB, sawtooth(span / teeth, 80 * MB, 0))),
    ),
    ...[50, 8, 3].map((teeth) =>
      shape(`sawtooth jitter ${teeth} teeth ${span}s`, false, span, step, noisy(1 * MB, sawtooth(span / teeth, 80 * MB, 0.4))),
    ),
    shape(`sawtooth small teeth ${span}s`, false, span, step, noisy(2 * MB, sawtooth(span / 12, 8 * MB, 0.2))),
    shape(`warm-up 0.1 ${span}s`, false, span, step, noisy(0.5 * MB, sum(flat, saturating(80 * MB, 0.1)))),
    shape(`warm-up 0.3 ${span}s`, false, span, step, noisy(0.5 * MB, sum(flat, saturating(80 * MB, 0.3)))),
    shape(`warm-up 0.6 ${span}s`, false, span, step, noisy(0.5 * MB, sum(flat, saturating(80 * MB, 0.6)))),
    shape(`warm-up 0.3 noisy ${span}s`, false, span, step, noisy(8 * MB, sum(flat, saturating(80 * MB, 0.3)))),
    shape(
      `warm-up under teeth ${span}s`,
      false,
      span,
      step,
      noisy(0.5 * MB, sum(sawtooth(span / 25, 30 * MB, 0.2), saturating(80 * MB, 0.2))),
    ),
    shape(
      `warm-up under long teeth ${span}s`,
      false,
      span,
      step,
      noisy(0.5 * MB, sum(sawtooth(span / 6, 60 * MB, 0.2), saturating(60 * MB, 0.15))),
    ),
    shape(`cache 0.3 ${span}s`, false, span, step, noisy(1 * MB, sum(flat, fill(100 * MB, 0.3)))),
    shape(`cache 0.6 ${span}s`, false, span, step, noisy(1 * MB, sum(flat, fill(100 * MB, 0.6)))),
    shape(`cache 0.8 ${span}s`, false, span, step, noisy(1 * MB, sum(flat, fill(100 * MB, 0.8)))),
    shape(`cache under teeth ${span}s`, false, span, step, noisy(1 * MB, sum(sawtooth(span / 25, 40 * MB, 0.2), fill(100 * MB, 0.6)))),
    shape(`step ${span}s`, false, span, step, noisy(1 * MB, sum(flat, stepAt(80 * MB)))),
    shape(`two steps ${span}s`, false, span, step, noisy(1 * MB, sum(flat, stepAt(60 * MB), stepAt(60 * MB)))),
    shape(`three steps ${span}s`, false, span, step, noisy(1 * MB, sum(flat, stairs(30 * MB, [0.25, 0.5, 0.7])))),
    shape(
      `minor and major teeth ${span}s`,
      false,
      span,
      step,
      noisy(0.3 * MB, sum(sawtooth(span / 5, 60 * MB, 0), sawtooth(span / 40, 15 * MB, 0))),
    ),
    shape(`step noisy ${span}s`, false, span, step, noisy(6 * MB, sum(flat, stepAt(40 * MB)))),
    shape(`step down ${span}s`, false, span, step, noisy(1 * MB, sum(flat, stepAt(-60 * MB)))),
    shape(`restart then flat ${span}s`, false, span, step, noisy(1 * MB, restart(80 * MB, flat))),
    shape(`restart then warm-up ${span}s`, false, span, step, noisy(1 * MB, restart(0, sum(line(0), saturating(30 * MB, 0.05))))),
    shape(`decline ${span}s`, false, span, step, noisy(1 * MB, sum(flat, fill(-60 * MB, 1)))),
    shape(`irregular sawtooth ${span}s`, false, span, step, noisy(1 * MB, sawtooth(span / 10, 80 * MB, 0.2)), { times: irregular }),
    shape(`gaps noise ${span}s`, false, span, step, noisy(5 * MB, flat), { times: gappy }),
    shape(`gaps warm-up ${span}s`, false, span, step, noisy(1 * MB, sum(flat, saturating(80 * MB, 0.15))), { times: gappy }),
  ]),
  ...[0, 0.5, 1, 2, 3, 4, 5].flatMap((phase) => [
    shape(`day rhythm 1 d phase ${phase}`, false, DAY, 60, noisy(1 * MB, sum(flat, sine(30 * MB, phase)))),
    shape(`day rhythm 3 d phase ${phase}`, false, 3 * DAY, 60, noisy(1 * MB, sum(flat, sine(30 * MB, phase)))),
    shape(`day rhythm 1.6 d phase ${phase}`, false, 1.6 * DAY, 60, noisy(1 * MB, sum(flat, sine(30 * MB, phase)))),
  ]),
  ...[0, 0.4, 0.8].map((phase) =>
    shape(`day rhythm 6 h phase ${phase}`, false, 6 * HOUR, 30, noisy(1 * MB, sum(flat, sine(30 * MB, phase)))),
  ),
  ...[-1.57, -1, 0].map((phase) =>
    shape(`day rhythm 9 h phase ${phase}`, false, 9 * HOUR, 30, noisy(1 * MB, sum(flat, sine(30 * MB, phase)))),
  ),
  shape("random walk", false, HOUR, 15, walk(0.5 * MB)),

  // What is a leak.
  ...[
    [60, 1],
    [900, 5],
    [HOUR, 15],
    [6 * HOUR, 60],
    [DAY, 60],
  ].flatMap(([span = 0, step = 0]) => [
    shape(`leak clean ${span}s`, true, span, step, line((100 * MB) / span)),
    shape(`leak ${span}s`, true, span, step, noisy(2 * MB, line((100 * MB) / span))),
    shape(`leak slow ${span}s`, true, span, step, noisy(1 * MB, line((25 * MB) / span))),
    shape(`leak noisy ${span}s`, true, span, step, noisy(15 * MB, line((100 * MB) / span))),
    shape(`leak AR(1) ${span}s`, true, span, step, wandering(4 * MB, 0.7, line((100 * MB) / span))),
    shape(`leak spikes ${span}s`, true, span, step, noisy(1 * MB, sum(line((80 * MB) / span), spikes(0.05, 100 * MB)))),
    ...[60, 25, 12]
      .filter((teeth) => span / step / teeth >= 4)
      .map((teeth) =>
        shape(
          `leak under ${teeth} teeth ${span}s`,
          true,
          span,
          step,
          noisy(1 * MB, sawtooth(span / teeth, 60 * MB, 0.2, (100 * MB) / span)),
        ),
      ),
    shape(
      `leak slow under ${span > 60 ? 40 : 12} teeth ${span}s`,
      true,
      span,
      step,
      noisy(0.5 * MB, sawtooth(span / (span > 60 ? 40 : 12), 50 * MB, 0.1, (40 * MB) / span)),
    ),
    shape(`leak under 6 teeth ${span}s`, true, span, step, noisy(1 * MB, sawtooth(span / 6, 60 * MB, 0.1, (150 * MB) / span))),
    shape(`leak after flat half ${span}s`, true, span, step, noisy(1 * MB, line((120 * MB) / span, span / 2))),
    shape(`leak after flat 3/4 ${span}s`, true, span, step, noisy(1 * MB, line((240 * MB) / span, (3 * span) / 4))),
    shape(`leak after warm-up ${span}s`, true, span, step, noisy(0.5 * MB, sum(line((100 * MB) / span), saturating(40 * MB, 0.06)))),
    shape(`restart then leak ${span}s`, true, span, step, noisy(1 * MB, restart(0, line((150 * MB) / span)))),
    shape(`leak irregular ${span}s`, true, span, step, noisy(2 * MB, line((100 * MB) / span)), { times: irregular }),
    shape(`leak gaps ${span}s`, true, span, step, noisy(2 * MB, line((100 * MB) / span)), { times: gappy }),
  ]),
  ...[1, 3, 8].map((speed) =>
    shape(`leak demo ${speed} MB/s 15 s`, true, 15, 1, noisy(1 * MB, line(speed * MB)), { limit: 256 * 2 ** 20 }),
  ),
  ...[2, 5].map((speed) =>
    shape(`leak demo teeth ${speed} MB/s 25 s`, true, 25, 1, noisy(1 * MB, sawtooth(4, 4 * MB, 0.5, speed * MB)), { limit: 256 * 2 ** 20 }),
  ),
  ...[0, 1.5, 3, 4.5].flatMap((phase) => [
    shape(`leak on day rhythm 4 d phase ${phase}`, true, 4 * DAY, 60, noisy(1 * MB, sum(line((30 * MB) / DAY), sine(25 * MB, phase)))),
    shape(`leak on day rhythm 7 d phase ${phase}`, true, 7 * DAY, 60, noisy(1 * MB, sum(line((15 * MB) / DAY), sine(25 * MB, phase)))),
  ]),
  shape("leak 2 h flat 1 h", true, 2 * HOUR, 15, noisy(1 * MB, line((60 * MB) / HOUR, HOUR))),
];
