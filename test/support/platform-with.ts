import { NightshiftError } from "../../src/api/errors.ts";
import type { Effect, EffectResult, EffectType, Platform } from "../../src/ports/platform.ts";

/** A platform with some of its parts as a test wants them. Parts that a platform need not have are there only where `changes` has them. */
export function platformWith(platform: Platform, changes: Partial<Platform>): Platform {
  return {
    name: platform.name,
    effects: platform.effects,
    workloads: () => platform.workloads(),
    onChange: (listener) => platform.onChange(listener),
    observe: (effect) => platform.observe(effect),
    apply: (effect, signal) => platform.apply(effect, signal),
    ...changes,
  };
}

/** For the start of a harness: a platform that carries out one type of effect as `apply` says, whether it knew that type or not. */
export function applying<T extends EffectType>(
  type: T,
  apply: (effect: Extract<Effect, { type: T }>) => EffectResult,
): { readonly platform: (platform: Platform) => Platform } {
  const isOurs = (effect: Effect): effect is Extract<Effect, { type: T }> => effect.type === type;
  return {
    platform: (platform) =>
      platformWith(platform, {
        effects: new Set([...platform.effects, type]),
        apply: async (effect, signal) => (isOurs(effect) ? apply(effect) : platform.apply(effect, signal)),
      }),
  };
}

/** The same, where an effect is refused after `meanwhile`. */
export function refusing(type: EffectType, meanwhile: () => void): ReturnType<typeof applying> {
  return applying(type, () => {
    meanwhile();
    throw new NightshiftError("EFFECT_FAILED", "it is refused");
  });
}
