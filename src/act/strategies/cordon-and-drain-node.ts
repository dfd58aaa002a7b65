import type { StrategyDefinition } from "./strategy.ts";

/** How long an emptied node is waited for to heal, where the rung does not say. */
const HEAL_WITHIN = "5m";

/**
 * Moves everything away from an ill node, and uses it again once it is well. One that does not heal stays closed, and a
 * person is told.
 */
export const cordonAndDrainNode: StrategyDefinition = {
  needs: ["Cordon", "Uncordon", "Drain"],
  perReplica: true,
  plan: ({ rung }) => [
    { step: { cordon: {} } },
    { step: { drain: {}, timeout: rung.timeout } },
    { step: { awaitHealed: {}, timeout: rung.drain?.healWithin ?? HEAL_WITHIN } },
    { step: { uncordon: {} } },
  ],
};
