import type { Rule } from "./rule.ts";

/** What fencing goes by tells leaders apart. */
export const s21OneEpoch: Rule = {
  name: "S21",
  doc: "An epoch is one leader's: no two operators write to the cluster under the same.",
  watch: () => {
    const leaders = new Map<number, number>();
    return {
      mutated({ effect, verb, epoch, operator }) {
        const first = leaders.get(epoch) ?? operator;
        leaders.set(epoch, first);
        return first === operator
          ? undefined
          : `${effect.type} ${effect.id} (${verb}) by operator ${operator} under epoch ${epoch}, which was operator ${first}'s`;
      },
    };
  },
};
