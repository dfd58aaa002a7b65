import { actionsOf } from "../evidence.ts";
import { dependency as edge, policy, type Scenario } from "../scenario.ts";

const watched = ["payments", "storefront"];

/** A service that others depend on fails. */
export const dependency: Scenario = {
  name: "dependency",
  title: "the bank answers with errors: payments and storefront show them, and are not their cause",
  shows: "a failing dependency is named, and its callers are not restarted",
  pages: true,
  withoutHealing: false,
  shop: () => ({ paymentsReplicas: 3, env: { bank: { SHOP_FAULT: "errors", SHOP_FAULT_AFTER: "6" } } }),
  resources: () => [
    ...watched.map((workload) =>
      policy(`${workload}-errors`, workload, {
        mode: "Enforce",
        signals: [{ name: "errors", errorRate: { above: "20%", for: "3s" } }],
        ladder: [{ strategy: "RollingRestart" }],
        escalation: { blockedFor: "8s" },
      }),
    ),
    edge("storefront", "payments"),
    edge("payments", "bank"),
  ],
  async run(demo) {
    const uids = (): string =>
      watched
        .flatMap((name) => demo.workload(name)?.replicas.map((r) => `${r.ref.uid}:${r.restarts}`) ?? [])
        .sort()
        .join(" ");
    const initial = uids();
    // Of the two the first has the episode, as they have one root cause; both have a decision on record.
    const decided = (name: string) =>
      demo.records.find((r) => r.type === "Decision" && String(r.data?.["signalTarget"]).endsWith(`/${name}`));
    demo.say("all is well; the bank will soon fail");
    await demo.waitFor(() => watched.every((name) => decided(name) !== undefined), 60_000);
    demo.say("errors in payments and storefront: nothing may be restarted");
    await demo.waitFor(() => demo.pages.length > 0, 40_000);
    await demo.pause(4_000);

    return [
      ...watched.map((name) => ({
        what: `${name}: the decision is not to act, and names bank`,
        held: decided(name)?.data?.["action"] === "Block" && String(decided(name)?.data?.["dependency"]).endsWith("/bank"),
        detail: decided(name)?.message ?? "no such decision",
      })),
      {
        what: "one root cause, one episode, one page",
        held: demo.remediations.length === 1 && demo.pages.length === 1,
        detail: `${demo.remediations.length} episodes, ${demo.pages.length} pages`,
      },
      {
        what: "nothing was done to anything",
        held: actionsOf(demo.remediations).length === 0,
        detail: actionsOf(demo.remediations)
          .map((a) => a.step)
          .join(", "),
      },
      { what: "payments and storefront run as before", held: uids() === initial && initial !== "" },
      {
        what: "a person was told, and bank was named",
        held: demo.pages.some((page) => /\bbank\b/.test(JSON.stringify(page.body))),
        detail: `${demo.pages.length} pages`,
      },
    ];
  },
};
