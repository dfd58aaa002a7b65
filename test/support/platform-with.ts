import type { Platform } from "../../src/ports/platform.ts";

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
