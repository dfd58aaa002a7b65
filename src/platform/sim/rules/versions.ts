import type { Resource } from "../../../api/resources.ts";
import type { Change } from "../api-server.ts";
import { EPOCH_MS } from "../simulation.ts";
import type { Truth } from "./rule.ts";

type Edited = Extract<Resource, { kind: "RemediationPolicy" | "RemediationBudget" }>;

/** What policies and budgets said at which time: people edit them in the midst of a run, and news of that take their time. */
export class Versions {
  /** Each version, undefined for none, with when it came (ms since the epoch); oldest first. */
  readonly #of = new Map<string, { readonly at: number; readonly object: Edited | undefined }[]>();
  readonly #truth: Pick<Truth, "now" | "scenario">;

  constructor(truth: Pick<Truth, "now" | "scenario">) {
    this.#truth = truth;
  }

  /** To be told of every change of a resource. */
  changed({ type, object }: Change): void {
    if (object.kind !== "RemediationPolicy" && object.kind !== "RemediationBudget") return;
    const key = `${object.kind}/${object.metadata.namespace}/${object.metadata.name}`;
    const all = this.#of.get(key) ?? [];
    this.#of.set(key, all);
    const { now, scenario } = this.#truth;
    // What is there from the beginning has always been.
    const at = now <= (scenario.startsAt ?? EPOCH_MS) ? -Infinity : now;
    all.push({ at, object: type === "Deleted" ? undefined : object });
  }

  /** Every version of a policy that was in force at some time since then: nobody acts by one that is not there. */
  policiesSince(namespace: string, name: string, since: number): readonly Extract<Edited, { kind: "RemediationPolicy" }>[] {
    return this.#since(`RemediationPolicy/${namespace}/${name}`, since).filter((version) => version !== undefined) as never;
  }

  /** The same of every budget that there was; undefined among them where there was none. */
  budgetsSince(since: number): readonly (readonly (Extract<Edited, { kind: "RemediationBudget" }> | undefined)[])[] {
    return [...this.#of.keys()].filter((key) => key.startsWith("RemediationBudget/")).map((key) => this.#since(key, since) as never);
  }

  #since(key: string, since: number): readonly (Edited | undefined)[] {
    const all = this.#of.get(key) ?? [];
    const first = all.findLastIndex(({ at }) => at <= since);
    const versions = all.slice(Math.max(0, first)).map(({ object }) => object);
    return first < 0 ? [undefined, ...versions] : versions;
  }
}
