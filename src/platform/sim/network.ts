import { KubeApiError } from "../kubernetes/errors.ts";
import type { SimProcess } from "./process.ts";
import type { SimRandom } from "./random.ts";
import type { Simulation } from "./simulation.ts";

/** A request, as faults see it. */
export interface Request {
  readonly process: SimProcess;
  /** Which operator sends it. */
  readonly operator: number;
  readonly write: boolean;
  /** What it is about, such as `update Remediation default/x`: for traces. */
  readonly what: string;
}

/** What a fault makes of a request. */
export interface Interference {
  /** The way there and back takes this much longer (ms). */
  readonly slowMs?: number;
  /** It reaches nobody. */
  readonly unreachable?: boolean;
  /** It is refused before it has an effect. */
  readonly refused?: KubeApiError;
  /** It never arrives, and nobody is told. */
  readonly lost?: boolean;
  /** It arrives so late that nobody waits for it any more (ms). */
  readonly lateMs?: number;
  /** It has its effect, and the answer never arrives. */
  readonly replyLost?: boolean;
  /** It is answered as the last one of this operator for the same was. */
  readonly stale?: boolean;
  /** The operator dies before, or right after it has had its effect. */
  readonly crash?: "Before" | "After";
}

/** Longest time that a client waits for an answer (ms): the operator's own limit for what concerns its lease. */
export const REQUEST_TIMEOUT_MS = 4_000;

const never = new Promise<never>(() => undefined);

/** The way between the operators and the API server. Everything that an operator does goes over it. */
export class Network {
  readonly #simulation: Simulation;
  readonly #random: SimRandom;
  /** What each operator was last answered, by what it asked for. */
  readonly #answers = new Map<string, unknown>();
  /** Asked for every request: what befalls it. */
  interfere: (request: Request) => Interference = () => ({});
  /** Told of every request that was served. */
  onServed: (request: Request, error: unknown) => void = () => undefined;

  constructor(simulation: Simulation, random: SimRandom) {
    this.#simulation = simulation;
    this.#random = random;
  }

  /** Whether an operator was answered before what it asks for. */
  hasAnswered(request: Request): boolean {
    return this.#answers.has(keyOf(request));
  }

  /** Has `serve` run on the other side, and resolves with what it returned, or rejects with what it threw. Never settles for a process that died. */
  request<T>(request: Request, serve: () => T): Promise<T> {
    const { process } = request;
    if (!process.alive) return never;
    const fate = this.interfere(request);
    if (fate.crash === "Before") {
      process.kill();
      return never;
    }
    const oneWay = 1 + this.#random.next() * 8 + Math.min(fate.slowMs ?? 0, REQUEST_TIMEOUT_MS) / 2;
    const back = 1 + this.#random.next() * 8 + (fate.slowMs ?? 0) / 2;
    return new Promise<T>((resolve, reject) => {
      const answer = (ms: number, settle: () => void): void => void this.#simulation.schedule(ms, settle, process);
      const lost = (code: "KUBE_TIMEOUT" | "KUBE_UNREACHABLE", ms: number): void =>
        answer(ms, () => reject(new KubeApiError(code, code === "KUBE_TIMEOUT" ? "no answer in time" : "connection refused")));
      if (fate.lost === true) return lost("KUBE_TIMEOUT", REQUEST_TIMEOUT_MS);
      if (fate.unreachable === true) return lost("KUBE_UNREACHABLE", oneWay);
      if (fate.lateMs !== undefined) lost("KUBE_TIMEOUT", REQUEST_TIMEOUT_MS);
      this.#simulation.schedule(fate.lateMs ?? oneWay, () => {
        if (fate.refused !== undefined) {
          const { refused } = fate;
          return answer(back, () => reject(refused));
        }
        let settle: () => void;
        let failed: unknown;
        try {
          const result = fate.stale === true && this.hasAnswered(request) ? (this.#answers.get(keyOf(request)) as T) : serve();
          if (!request.write) this.#answers.set(keyOf(request), result);
          settle = () => resolve(result);
        } catch (error) {
          failed = error;
          settle = () => reject(error instanceof Error ? error : new Error(String(error)));
        }
        this.onServed(request, failed);
        if (fate.lateMs !== undefined) return;
        if (fate.crash === "After") process.kill();
        else if (fate.replyLost === true || oneWay + back > REQUEST_TIMEOUT_MS)
          lost("KUBE_TIMEOUT", Math.max(0, REQUEST_TIMEOUT_MS - oneWay));
        else answer(back, settle);
      });
    });
  }
}

function keyOf({ operator, what }: Request): string {
  return `${operator} ${what}`;
}
