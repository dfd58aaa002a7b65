import type { EffectType } from "../ports/platform.ts";
import type { Phase, Outcome, BlockReason } from "../api/remediation.ts";
import type { Signal, SignalCondition } from "../api/signal.ts";

/** The five rooms of the loop, in the order in which data moves through them. */
export const ROOMS = ["observe", "orient", "decide", "act", "record"] as const;
export type Room = (typeof ROOMS)[number];

/**
 * What the loop says about itself while it runs. Every method returns at once and never throws: a fault in the
 * measurement must not become a fault of the loop.
 */
export interface LoopMetrics {
  /** One pass through a room took `seconds`. */
  room(name: Room, seconds: number): void;
  /** A signal came in, or its end did. */
  signal(source: Signal["source"], condition: SignalCondition, state: Signal["state"]): void;
  /** From when a condition began to hold, by its source's clock, to when Nightshift knew of it, in seconds. Told once of each that begins. */
  detected(source: Signal["source"], seconds: number): void;
  /** The gates have answered. `reason` is the first gate that blocked. */
  decision(action: "Act" | "Observe" | "AwaitApproval" | "Block", reason?: BlockReason): void;
  /** From a signal's arrival to the first effect of its episode, in seconds. */
  signalToEffect(seconds: number): void;
  /** Work that waits to be taken up. */
  queueDepth(depth: number): void;
  /** Where the number of episodes in each phase is read, at the time of a scrape. The last one that was set is asked. */
  phases(read: () => Readonly<Partial<Record<Phase, number>>>): void;
  /** An effect on the world has ended. */
  effect(type: EffectType, result: "Applied" | "Failed" | "Unknown"): void;
  /** A delivery of a page was tried. */
  page(result: "Sent" | "Failed"): void;
  /** An episode has ended. */
  outcome(outcome: Outcome): void;
}

/** Measures nothing. For tests, and for commands that serve no metrics. */
export const NO_METRICS: LoopMetrics = {
  room() {},
  signal() {},
  detected() {},
  decision() {},
  signalToEffect() {},
  queueDepth() {},
  phases() {},
  effect() {},
  page() {},
  outcome() {},
};
