import { NightshiftError, messageOf } from "../../../api/errors.ts";
import { sleep } from "../../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType } from "../../../ports/platform.ts";
import type { Random } from "../../../ports/random.ts";
import { isConflict, isFenced, KubeApiError } from "../errors.ts";
import { capture } from "./capture.ts";
import { cordon, uncordon } from "./cordon.ts";
import { drain } from "./drain.ts";
import { evict } from "./evict.ts";
import { invokeAction } from "./invoke-action.ts";
import { removeFromTraffic } from "./remove-from-traffic.ts";
import { removeReplacement } from "./remove-replacement.ts";
import { resizeBack } from "./resize-back.ts";
import { resize } from "./resize.ts";
import { restoreTraffic } from "./restore-traffic.ts";
import { rollback } from "./rollback.ts";
import { rolloutRestart } from "./rollout-restart.ts";
import { runJob } from "./run-job.ts";
import { scaleBack } from "./scale-back.ts";
import { scale } from "./scale.ts";
import type { Deps, Handler } from "./shared.ts";
import { startReplacement } from "./start-replacement.ts";
import { stop } from "./stop.ts";

/** Every kind of effect that can be carried out on Kubernetes. */
export const HANDLERS = {
  StartReplacement: startReplacement,
  RemoveReplacement: removeReplacement,
  RemoveFromTraffic: removeFromTraffic,
  RestoreTraffic: restoreTraffic,
  Stop: stop,
  Evict: evict,
  Capture: capture,
  Scale: scale,
  ScaleBack: scaleBack,
  RolloutRestart: rolloutRestart,
  Rollback: rollback,
  Resize: resize,
  ResizeBack: resizeBack,
  Cordon: cordon,
  Uncordon: uncordon,
  Drain: drain,
  InvokeAction: invokeAction,
  RunJob: runJob,
} satisfies { readonly [T in EffectType]: Handler<T> };

/** First and longest pause after the API server failed to answer (ms). */
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 5_000;

/** Carries out effects: one run at a time for an id, and on through what will pass by itself. */
export class Effects {
  readonly #deps: Deps;
  readonly #random: Random;
  readonly #running = new Map<string, Promise<EffectResult>>();
  readonly #stopping = new AbortController();

  constructor(deps: Omit<Deps, "draining">, random: Random) {
    this.#deps = { ...deps, draining: new Set() };
    this.#random = random;
  }

  /** See `Platform.apply`. A call with the id of one that is under way shares its run. */
  apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const running = this.#running.get(effect.id);
    if (running !== undefined) return running;
    const run = this.#run(effect, AbortSignal.any([signal, this.#stopping.signal])).finally(() => this.#running.delete(effect.id));
    this.#running.set(effect.id, run);
    return run;
  }

  /** See `Platform.observe`. Waits for one that is under way. */
  async observe(effect: Effect): Promise<EffectState> {
    await this.#running.get(effect.id)?.catch(() => undefined);
    try {
      return await handlerOf(effect).observe(effect, this.#deps);
    } catch (error) {
      // What the API server did not answer is asked again. What can be answered only with a refusal was never done.
      if (error instanceof KubeApiError || !(error instanceof NightshiftError)) throw error;
      return { state: "NotApplied" };
    }
  }

  /** Cuts off what is under way and waits until it has ended. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#running.values());
  }

  /** A handler finds by the effect's id what it has done already, so that a failure to answer need not end the effect. */
  async #run(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const handler = handlerOf(effect);
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      if (signal.aborted) throw new NightshiftError("EFFECT_TIMEOUT", `${effect.type} was not done in the time that it had`);
      // Not to lead any more is no failure of the effect, and must not be tried away.
      this.#deps.epoch();
      try {
        return await handler.apply(effect, this.#deps, signal);
      } catch (error) {
        const passes = error instanceof KubeApiError && (error.isTransient || isConflict(error) || isFenced(error));
        if (!passes || signal.aborted) throw asEffectError(effect, error);
        await sleep(this.#deps.clock, Math.max(error.retryAfterMs ?? 0, pause * (0.8 + 0.4 * this.#random.next())), signal);
      }
    }
  }
}

function handlerOf(effect: Effect): Handler<EffectType> {
  return HANDLERS[effect.type] as unknown as Handler<EffectType>;
}

/** What the API server refused, with what it was for. */
function asEffectError(effect: Effect, error: unknown): unknown {
  if (!(error instanceof KubeApiError)) return error;
  return new NightshiftError(error.mayHaveTakenEffect ? "EFFECT_UNKNOWN" : "EFFECT_FAILED", `${effect.type}: ${messageOf(error)}`, {
    cause: error,
  });
}
