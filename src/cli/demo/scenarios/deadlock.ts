import { isTerminal } from "../../../api/remediation.ts";
import { actionsOf, attemptsOf } from "../evidence.ts";
import { policy, type Scenario } from "../scenario.ts";

/** A process that takes connections and never answers. */
export const deadlock: Scenario = {
  name: "deadlock",
  title: "one payments replica takes two locks in the wrong order: it accepts and never answers",
  shows: "a replica that accepts and never answers is replaced",
  pages: false,
  withoutHealing: false,
  shop: ({ canary }) => ({
    paymentsReplicas: 3,
    env: { payments: { SHOP_FAULT: "deadlock", SHOP_FAULT_AFTER: "5", SHOP_CANARY: canary } },
  }),
  resources: () => [
    policy("payments-unresponsive", "payments", {
      mode: "Enforce",
      signals: [{ name: "unresponsive", probe: { failingFor: "2s" } }],
      ladder: [{ strategy: "RestartPod" }],
      verify: { stableFor: "8s", timeout: "1m" },
    }),
  ],
  async run(demo) {
    const initial = demo.payments().map((replica) => replica.ref.uid);
    demo.say("watching the readiness of three replicas");
    await demo.waitFor(() => demo.remediations.length > 0, 60_000);
    demo.say("a replica does not answer: healing");
    await demo.waitFor(() => demo.remediations.some(isTerminal), 90_000);
    const healedAt = Date.now();
    demo.say("healed: a few seconds more of traffic");
    await demo.pause(3_000);

    const faulty = await demo.faultyReplica();
    const [remediation] = demo.remediations;
    const order = actionsOf(demo.remediations).map((action) => action.step);
    const now = demo.payments();
    const survivors = initial.filter((uid) => uid !== faulty);
    const after = demo.load?.stats(healedAt, Date.now());
    return [
      {
        what: "the replica that hangs was named, and no other",
        held: faulty !== undefined && demo.remediations.length === 1 && remediation?.spec.remediationTarget.uid === faulty,
        detail: remediation?.spec.diagnosis.summary ?? "no episode",
      },
      { what: "the cause is on record as Unresponsive", held: remediation?.spec.diagnosis.cause === "Unresponsive" },
      {
        what: "it was replaced, once",
        held: order.join(" ") === "startReplacement removeFromTraffic stop" && attemptsOf(demo.remediations).length === 1,
        detail: order.join(", "),
      },
      {
        what: "three replicas serve, the healthy ones untouched",
        held:
          now.filter((r) => r.ready && r.inTraffic).length === 3 &&
          survivors.length === 2 &&
          survivors.every((uid) => now.some((r) => r.ref.uid === uid)) &&
          now.every((r) => r.ref.uid !== faulty),
      },
      {
        what: "the service was verified well",
        held: remediation?.status.outcome === "Remediated",
        detail: remediation?.status.message ?? "",
      },
      {
        what: "no request fails any more",
        held: after !== undefined && after.requests > 0 && after.errors === 0,
        detail: `${after?.errors ?? 0} of ${after?.requests ?? 0}`,
      },
    ];
  },
};
