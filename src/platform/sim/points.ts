import type { Interference, Request } from "./network.ts";
import type { Simulation } from "./simulation.ts";
import type { Delivery } from "./watch-stream.ts";

/** What can befall each kind of point of a run. */
export const PERTURBATIONS = {
  /**
   * A write of an operator: it dies before or right after it took effect; it never arrives; its answer never
   * arrives; it arrives when its sender has long given it up.
   */
  write: ["CrashBefore", "CrashAfter", "Lost", "AnswerLost", "Late"],
  /** News on their way to an operator: they never come, until everything is listed anew; they come twice; they, and with them all that follows, come late; others overtake them. */
  event: ["Drop", "Duplicate", "Delay", "Reorder"],
  /** An answer to an operator that has asked the same before: it gets what it got then. */
  read: ["Stale"],
} as const;
export type PointKind = keyof typeof PERTURBATIONS;
export type How = (typeof PERTURBATIONS)[PointKind][number];

/** A late write arrives after so long, when its lease has expired, too (ms). */
const LATE_MS = 20_000;
/** News that are dropped are missed for so long: then the watch is renewed (ms). Less than rules allow news to take. */
const DROPPED_MS = 20_000;
/** News that are delayed come so much later, past the next decisions (ms). */
const DELAY_MS = 20_000;
/** News that come twice come again after so long (ms). */
const AGAIN_MS = 2_000;
/** News that are overtaken are so much later than those of other objects (ms). */
const OVERTAKEN_MS = 3_000;

/**
 * What is no point of its own. The Lease is renewed and looked at every two seconds, whatever happens; only that it is made
 * counts. What a watch begins with has nothing older that it could be answered with.
 */
const CLOCKWORK = /^(PUT|GET) Lease$/;
const LISTING = /^(watch |list Workloads$)/;

/** Something that an operator sends or hears. */
export interface Point {
  readonly kind: PointKind;
  /** Which of its kind it is, from 1. */
  readonly number: number;
  /** What it is about, such as `update Remediation default/x`. */
  readonly what: string;
  /** Milliseconds since the beginning of the run. */
  readonly at: number;
  /** A read that nothing older is known of: there is no stale answer to it. */
  readonly isFirst: boolean;
}

/** One point, and what befalls it. */
export interface Perturbation {
  readonly kind: PointKind;
  readonly number: number;
  readonly how: How;
}

/** As the command line has it, such as `write:12:CrashAfter`. */
export function perturbationText({ kind, number, how }: Perturbation): string {
  return `${kind}:${number}:${how}`;
}

/** Reads what `perturbationText` wrote; undefined where it is none. */
export function parsePerturbation(text: string): Perturbation | undefined {
  const [kind = "", number = "", how = "", ...more] = text.split(":");
  if (!/^[1-9][0-9]{0,8}$/.test(number) || more.length > 0 || !Object.hasOwn(PERTURBATIONS, kind)) return undefined;
  const known = PERTURBATIONS[kind as PointKind].find((each) => each === how);
  return known === undefined ? undefined : { kind: kind as PointKind, number: Number(number), how: known };
}

/** Numbers the points of a run, and perturbs one of them. Up to that one a run is the same as without. */
export class Points {
  readonly #simulation: Simulation;
  readonly #perturbation: Perturbation | undefined;
  readonly #relist: (operator: number) => void;
  readonly #onPoint: ((point: Point) => void) | undefined;
  readonly #counts: Record<PointKind, number> = { write: 0, event: 0, read: 0 };
  #reordersUntil = -1;
  #isReached = false;

  constructor(options: {
    readonly simulation: Simulation;
    readonly perturbation?: Perturbation | undefined;
    /** Has everything that an operator watches listed anew. */
    readonly relist: (operator: number) => void;
    readonly onPoint?: ((point: Point) => void) | undefined;
  }) {
    this.#simulation = options.simulation;
    this.#perturbation = options.perturbation;
    this.#relist = options.relist;
    this.#onPoint = options.onPoint;
  }

  /** Whether the point that is to be perturbed has come. */
  get isReached(): boolean {
    return this.#isReached;
  }

  /** A request sets out. `isFirst`: its operator has asked for nothing like it before. */
  request({ write, what }: Request, isFirst: boolean): Interference | undefined {
    if (CLOCKWORK.test(what) || (!write && LISTING.test(what))) return undefined;
    switch (this.#perturbed(write ? "write" : "read", what, !write && isFirst)) {
      case "CrashBefore":
        return { crash: "Before" };
      case "CrashAfter":
        return { crash: "After" };
      case "Lost":
        return { lost: true };
      case "AnswerLost":
        return { replyLost: true };
      case "Late":
        return { lateMs: LATE_MS };
      case "Stale":
        return { stale: true };
      default:
        return undefined;
    }
  }

  /** How news travel to an operator, where they would travel by `inner`. */
  delivery(operator: number, inner: Delivery): Delivery {
    return {
      delays: (kind) => {
        const delays = inner.delays(kind);
        switch (this.#perturbed("event", kind, false)) {
          case "Drop":
            this.#simulation.schedule(DROPPED_MS, () => this.#relist(operator));
            return [];
          case "Duplicate":
            return delays.flatMap((delay) => [delay, delay + AGAIN_MS]);
          case "Delay":
            return delays.map((delay) => delay + DELAY_MS);
          case "Reorder":
            this.#reordersUntil = this.#simulation.elapsed + OVERTAKEN_MS;
            return delays.map((delay) => delay + OVERTAKEN_MS);
          default:
            return delays;
        }
      },
      mayReorder: () => inner.mayReorder() || this.#simulation.elapsed <= this.#reordersUntil,
    };
  }

  #perturbed(kind: PointKind, what: string, isFirst: boolean): How | undefined {
    const number = (this.#counts[kind] += 1);
    this.#onPoint?.({ kind, number, what, at: this.#simulation.elapsed, isFirst });
    if (this.#perturbation?.kind !== kind || this.#perturbation.number !== number) return undefined;
    this.#isReached = true;
    return this.#perturbation.how;
  }
}
