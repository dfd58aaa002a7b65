import { parentPort, workerData } from "node:worker_threads";
import * as fc from "fast-check";
import { messageOf } from "../../src/api/errors.ts";
import type { FuzzTarget } from "./target.ts";

/** What the thread is started with. */
export interface Task {
  readonly target: string;
  readonly seed: number;
  readonly runs: number;
  /** Only these, and none that is made. */
  readonly inputs?: readonly Uint8Array[];
  /** The input at hand: its number, its length, its bytes. */
  readonly hand: SharedArrayBuffer;
}

/** What the thread reports, once. */
export interface Report {
  readonly runs: number;
  readonly bytes: number;
  /** How often each outcome came about. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly failure?: { readonly message: string; readonly input: Uint8Array; readonly shrinks: number };
}

/** Bytes of `hand` before the input. */
export const HEAD = 8;

/** Runs the target of this thread's task, and reports. */
export function work(targets: readonly FuzzTarget[]): void {
  // Most errors are what is expected of an input, and a stack is the larger part of what one costs.
  Error.stackTraceLimit = 0;
  parentPort?.postMessage(run(workerData as Task, targets));
}

function run({ target: name, seed, runs, inputs, hand }: Task, targets: readonly FuzzTarget[]): Report {
  const target = targets.find((each) => each.name === name);
  if (target === undefined) throw new Error(`there is no target ${name}`);
  const [numbers, bytes] = [new Int32Array(hand, 0, 2), new Uint8Array(hand, HEAD)];
  const outcomes: Record<string, number> = {};
  const total = { runs: 0, bytes: 0 };
  const check = (input: Uint8Array): void => {
    const length = Math.min(input.length, bytes.length);
    bytes.set(input.subarray(0, length));
    numbers[1] = length;
    Atomics.add(numbers, 0, 1);
    const outcome = target.check(input);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    total.runs++;
    total.bytes += input.length;
  };
  const report = (): Report => ({ ...total, outcomes });
  for (const input of inputs ?? target.seeds) {
    try {
      check(input);
    } catch (error) {
      return { ...report(), failure: { message: explained(target, input) ?? textOf(error), input, shrinks: 0 } };
    }
  }
  if (inputs !== undefined) return report();
  const details = fc.check(fc.property(target.inputs, check), { numRuns: runs, seed });
  if (!details.failed) return report();
  const [input = new Uint8Array()] = details.counterexample ?? [];
  return {
    ...report(),
    failure: { message: explained(target, input) ?? textOf(details.errorInstance), input, shrinks: details.numShrinks },
  };
}

/** What the input breaks, with where. */
function explained(target: FuzzTarget, input: Uint8Array): string | undefined {
  Error.stackTraceLimit = 12;
  try {
    target.check(input);
    return undefined;
  } catch (error) {
    return textOf(error);
  }
}

function textOf(error: unknown): string {
  return error instanceof Error && error.stack !== undefined ? error.stack : messageOf(error);
}
