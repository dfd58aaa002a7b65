import { isTerminal } from "../../../api/remediation.ts";
import { actionsOf, attemptsOf } from "../evidence.ts";
import { policy, type Scenario } from "../scenario.ts";
import { leakingShop } from "./leak.ts";

const ALERT = "PaymentsMemoryHigh";
/** From one webhook to the next (ms). */
const FLAP_MS = 250;
/** It goes on until the recovery is being verified, and this much longer (ms). */
const INTO_VERIFICATION_MS = 4_000;

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
      verify: { stableFor: "6s", timeout: "1m" },
    }),
  ],
  async run(demo) {
    await demo.pause(2_000);
    const faulty = await demo.faultyReplica();
    const target = demo.payments().find((replica) => replica.ref.uid === faulty);
    const initial = demo.payments().map((replica) => replica.ref.uid);
    const labels = { alertname: ALERT, severity: "warning", service: "payments", replica: target?.ref.name ?? "" };
    const statuses: number[] = [];
    let recovering = 0;
    const send = async (status: "firing" | "resolved"): Promise<void> => {
      const [live] = demo.remediations;
      if (status === "firing" && live !== undefined && !isTerminal(live)) recovering++;
      statuses.push(await demo.alert(status, labels, Date.now()));
      await demo.pause(FLAP_MS);
    };
    const verifiedFor = (): number => {
      const since = demo.remediations[0]?.status.verification?.startedAt;
      return since === undefined ? 0 : Date.now() - Date.parse(since);
    };
    demo.say("the alert fires, resolves, fires again");
    const end = performance.now() + 60_000;
    while (verifiedFor() < INTO_VERIFICATION_MS && !demo.remediations.some(isTerminal) && performance.now() < end) {
      await send("firing");
      await send("resolved");
    }
    demo.say("the alert is resolved for good");
    const over = await demo.waitFor(() => demo.remediations.some(isTerminal), 60_000);
    // Firing once more soon after the recovery is no reason to do it again either.
    await send("firing");
    await demo.pause(2_000);

    const order = actionsOf(demo.remediations).map((action) => action.step);
    const now = demo.payments().map((replica) => replica.ref.uid);
    const [remediation] = demo.remediations;
    return [
      {
        what: "every webhook was taken",
        held: statuses.length > 0 && statuses.every((status) => status >= 200 && status < 300),
        detail: `${statuses.length} webhooks`,
      },
      { what: "the alert fired again during the recovery", held: over && recovering >= 3, detail: `${recovering} times` },
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
