import { actionsOf } from "../evidence.ts";
import type { Scenario } from "../scenario.ts";
import { leakingShop, leakPolicy } from "./leak.ts";

/** The leak again, under a policy that may only look. */
export const observe: Scenario = {
  name: "observe",
  title: "one payments replica leaks, and the policy's mode is Observe: look, and touch nothing",
  shows: "a policy in Observe says what it would have done, and touches nothing",
  pages: false,
  withoutHealing: false,
  shop: leakingShop,
  resources: () => [leakPolicy("Observe")],
  async run(demo) {
    const uids = (): string =>
      demo
        .payments()
        .map((r) => `${r.ref.uid}:${r.restarts}:${r.inTraffic}`)
        .sort()
        .join(" ");
    const initial = uids();
    demo.say("watching; the policy may only observe");
    await demo.waitFor(() => demo.remediations.length > 0, 60_000);
    demo.say("I would have fixed this now");
    await demo.pause(6_000);

    const faulty = await demo.faultyReplica();
    const [remediation] = demo.remediations;
    const decision = demo.records.find((record) => record.type === "Decision" && record.data?.["action"] === "Observe");
    return [
      {
        what: "the replica that leaks was named",
        held: faulty !== undefined && remediation?.spec.remediationTarget.uid === faulty,
        detail: remediation?.spec.diagnosis.summary ?? "no episode",
      },
      {
        what: "it is on record what would have been done now",
        held: decision !== undefined && remediation?.status.outcome === "Observed",
        detail: remediation?.status.message ?? "",
      },
      {
        what: "every gate's verdict is on record as well",
        held: (remediation?.status.gates.length ?? 0) >= 11,
        detail: `${remediation?.status.gates.length ?? 0} verdicts`,
      },
      {
        what: "nothing was done",
        held: actionsOf(demo.remediations).length === 0 && demo.records.every((record) => record.type !== "Intent"),
      },
      { what: "the same processes serve as before", held: uids() === initial && initial !== "" },
    ];
  },
};
