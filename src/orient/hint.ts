import { BARE_ACTIONS, HINT_ACTION, type Hint } from "../observe/hints.ts";
import { seconds } from "./trend.ts";

/** What a policy wants of a hint, with times in ms. */
export interface HintWish {
  readonly action: string;
  readonly saturationType: string | undefined;
  readonly activeForMs: number;
  readonly bareValue: "Inconclusive" | "SingleAddition";
  readonly maxAgeMs: number;
}

/**
 * What a hint says to a policy: that its action is asked for (`Asks`), that it may be and nobody can tell (`Unclear`, with what
 * is missing and how the sender helps), or nothing (`Silent`).
 */
export type HintVerdict = { readonly state: "Asks" | "Silent" } | { readonly state: "Unclear"; readonly why: string };

const SILENT: HintVerdict = { state: "Silent" };
const NAME_IT = `the sender should give the attribute ${HINT_ACTION}`;

/** Judges one hint at `now` (ms). */
export function judgeHint(hint: Hint, wish: HintWish, now: number): HintVerdict {
  const { action, saturationType } = hint;
  if (now - hint.t > Math.min(wish.activeForMs, wish.maxAgeMs)) return SILENT;
  if (action !== undefined && action !== wish.action) return SILENT;
  if (wish.saturationType !== undefined && saturationType !== wish.saturationType) return SILENT;
  if (action === undefined) {
    const bare = judgeBare(hint, wish);
    if (bare.state !== "Asks") return bare;
  }
  // What was understood when it came has become too old meanwhile.
  if (now - hint.since > wish.maxAgeMs && hint.receivedAt - hint.since <= wish.maxAgeMs) return SILENT;
  if (now - hint.since > wish.maxAgeMs)
    return {
      state: "Unclear",
      why: `it was added at some time in the ${seconds((hint.t - hint.since) / 1000)} before its export, which may be too long ago to act on; the sender should export more often`,
    };
  return { state: "Asks" };
}

/**
 * A hint without an action, whose number stands for one. An increase of 1 of differences can have been one addition of 1 only.
 * Any other can be a sum, 1 + 1 as well as 2, unless an exemplar shows one addition of just that, or the policy knows that
 * its sender adds once an export. What a cumulative counter grew by between two exports that arrived says nothing of single
 * additions: an export between them may be lost.
 */
function judgeBare({ added, delta, single }: Hint, { action, bareValue }: HintWish): HintVerdict {
  if (![...BARE_ACTIONS.values()].includes(action)) return SILENT;
  const unclear = (why: string): HintVerdict => ({ state: "Unclear", why: `${why}; ${NAME_IT}` });
  if (!delta)
    return unclear(`it names no action and its counter, of cumulative temporality, grew by ${added}, which may be several additions`);
  if (added === 1 || single || bareValue === "SingleAddition") {
    const meant = BARE_ACTIONS.get(added);
    if (meant === undefined) return unclear(`it names no action, and ${added} stands for none`);
    return meant === action ? { state: "Asks" } : SILENT;
  }
  return unclear(`it names no action, and ${added} may be a sum of several additions`);
}
