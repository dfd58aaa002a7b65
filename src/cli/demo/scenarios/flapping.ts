import { isTerminal } from "../../../api/remediation.ts";
import { actionsOf, attemptsOf } from "../evidence.ts";
import { policy, type Scenario } from "../scenario.ts";
import { leakingShop } from "./leak.ts";

const ALERT = "PaymentsMemoryHigh";
/** From one webhook to the next (ms). */
const FLAP_MS = 1_000;

/** An alert that fires, resolves and fires again while its target is being replaced. */
export const flapping: Scenario = {
  name: "flapping",
  title: "an alert about the leaking replica fires, resolves and fires again, second by second",
  shows: "an alert that flaps during the recovery leads to one action",
  pages: false,
  withoutHealing: false,
  shop: leakingShop,
  resources: () => [
    policy("payments-memory-alert", "payments", {
      mode: "Enforce",
      signals: [{ name: "memory-alert", alert: { alertname: ALERT } }],
      ladder: [{ strategy: "RestartPod" }],
      verify: { stableFor: "10s", timeout: "1m" },
    }),
  ],
  async run(demo) {
    await demo.pause(2_000);
    const faulty = await demo.faultyReplica();
    const target = demo.payments().find((replica) => replica.ref.uid === faulty);
    const initial = demo.payments().map((replica) => replica.ref.uid);
    const labels = { alertname: ALERT, severity: "warning", service: "payments", instance: target?.ref.name ?? "" };
    const statuses: number[] = [];
    let sent = 0;
    let nextAt = 0;
    let recovering = 0;
    demo.say("the alert fires, resolves, fires again");
    const over = await demo.waitFor(async () => {
      const done = demo.remediations.some(isTerminal);
      if (performance.now() >= nextAt) {
        nextAt = performance.now() + FLAP_MS;
        const firing = sent % 2 === 0;
        if (firing && demo.remediations.length > 0 && !done) recovering++;
        statuses.push(await demo.alert(firing ? "firing" : "resolved", labels, Date.now()));
        sent++;
      }
      return done;
    }, 90_000);
    // It goes on after the recovery as well.
    for (let i = 0; i < 4; i++, sent++) {
      statuses.push(await demo.alert(sent % 2 === 0 ? "firing" : "resolved", labels, Date.now()));
      await demo.pause(FLAP_MS);
    }
    await demo.pause(1_000);

    const order = actionsOf(demo.remediations).map((action) => action.step);
    const now = demo.payments().map((replica) => replica.ref.uid);
    const [remediation] = demo.remediations;
    return [
      {
        what: "every webhook was taken",
        held: statuses.length > 0 && statuses.every((status) => status >= 200 && status < 300),
        detail: `${sent} webhooks`,
      },
      { what: "the alert fired again during the recovery", held: over && recovering >= 2, detail: `${recovering} times` },
      {
        what: "there was one action",
        held: attemptsOf(demo.remediations).length === 1 && order.join(" ") === "startReplacement removeFromTraffic stop",
        detail: order.join(", "),
      },
      {
        what: "it was on the replica that the alert names",
        held: faulty !== undefined && remediation?.spec.remediationTarget.uid === faulty && !now.includes(faulty),
      },
      { what: "the other replicas were left alone", held: initial.filter((uid) => now.includes(uid)).length === 2 && now.length === 3 },
      {
        what: "the service was verified well",
        held: remediation?.status.outcome === "Remediated",
        detail: remediation?.status.message ?? "",
      },
    ];
  },
};
