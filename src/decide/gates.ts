import { awaitingApproval } from "./awaiting-approval.ts";
import { budgetExhausted } from "./budget-exhausted.ts";
import { circuitOpen } from "./circuit-open.ts";
import { dependencyUnhealthy } from "./dependency-unhealthy.ts";
import type { Gate } from "./gate.ts";
import { inProgress } from "./in-progress.ts";
import { noData } from "./no-data.ts";
import { outsideWindow } from "./outside-window.ts";
import { paused } from "./paused.ts";
import { recentlyRemediated } from "./recently-remediated.ts";
import { stormBrake } from "./storm-brake.ts";
import { staleSignal } from "./stale-signal.ts";
import { unmanaged } from "./unmanaged.ts";

/**
 * The gates, in the order in which they are asked. All of them are always asked and recorded; the order decides which
 * one is named as the reason. First what people have said, then whether the evidence stands and is about the target itself, then what is going on, then
 * how much is allowed, and last what needs a person's time.
 */
export const GATES: readonly Gate[] = [
  // The emergency brake. Whoever pulled it must see that it is what holds.
  paused,
  // Not ours to touch. Before the evidence: what is not ours is not to be judged either.
  unmanaged,
  // Is there a fault now? Everything below reasons about a fault.
  staleSignal,
  // Do we see what the fault is about? Without that, the answers below would be guesses.
  noData,
  // Is the fault here at all? If it is elsewhere, the counts below are about the wrong workload.
  dependencyUnhealthy,
  // Too much is ill at once for it to be here. After the dependency, which is the better name for the same; before
  // everything that counts what is done to this one target.
  stormBrake,
  // Somebody is at it: it will pass soon, and by itself. Before history, which that episode is about to change.
  inProgress,
  // Just treated. Before the circuit: it is the shorter rest and has a known end.
  recentlyRemediated,
  // Treated too often: a person is paged. Before budgets, which would make a hopeless case look like one that must wait.
  circuitOpen,
  // Is there room for it? Changes with every replica that comes and goes.
  budgetExhausted,
  // Is it the hour for it? After budgets, so that a workload that is short of replicas is named even at night.
  outsideWindow,
  // Last: nobody is asked for a yes that another gate would overrule.
  awaitingApproval,
];
