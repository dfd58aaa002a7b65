import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { ObjectCondition } from "../../api/policy.ts";
import type { Effect, EffectResult, EffectState, EffectType, Platform, Workload } from "../../ports/platform.ts";
import type { EffectDeps } from "./effect.ts";
import { SIM_EFFECTS, SimEffects } from "./effects.ts";
import type { OperatorView } from "./view.ts";

/** The conditions of objects that it reports. */
export const SIM_REPORTS: ReadonlySet<ObjectCondition> = new Set(["podState", "rollout", "nodeCondition"]);

/** The simulated cluster as one operator sees it and acts on it. */
export class SimPlatform implements Platform {
  readonly name = "sim";
  readonly effects: ReadonlySet<EffectType> = SIM_EFFECTS;
  readonly reports = SIM_REPORTS;
  readonly #view: OperatorView;
  readonly #effects: SimEffects;

  constructor(deps: Omit<EffectDeps, "draining">) {
    this.#view = deps.view;
    this.#effects = new SimEffects(deps);
  }

  workloads(): readonly Workload[] {
    return this.#view.workloads();
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    return this.#view.onChange(listener);
  }

  async apply(effect: Effect, signal: AbortSignal): Promise<EffectResult> {
    const staleness = this.staleness();
    if (staleness !== undefined) throw new NightshiftError("STALE_VIEW", staleness);
    return this.#effects.apply(effect, signal);
  }

  observe(effect: Effect): Promise<EffectState> {
    return this.#effects.observe(effect);
  }

  staleness(): string | undefined {
    return this.#view.staleness();
  }
}
