import { attemptsOf, destructive, actionsOf } from "../evidence.ts";
import { policy, type Scenario } from "../scenario.ts";

/** A fault that is in every process that is started: a restart cures nothing. */
export const strikes: Scenario = {
  name: "strikes",
  title: "every payments process deadlocks a second after its first request: no restart cures that",
  shows: "three attempts that do not help, then it stops and pages once",
  pages: true,
  withoutHealing: false,
  shop: () => ({ paymentsReplicas: 1, env: { payments: { SHOP_FAULT: "deadlock", SHOP_FAULT_AFTER: "1" } } }),
  resources: () => [
    policy("payments-unresponsive", "payments", {
      mode: "Enforce",
      signals: [{ name: "unresponsive", probe: { failingFor: "1s" } }],
      ladder: [{ strategy: "RestartPod" }],
      // A deadlock shows some four seconds after the first request (probes time out after a second, two in a row). To be well
      // for three times as long is to be healed, on a busy machine too.
      verify: { stableFor: "12s", timeout: "13s" },
      cooldown: "1s",
      attempts: { max: 3, window: "1h" },
    }),
  ],
  async run(demo) {
    demo.say("waiting for the first strike");
    const counted = (n: number): boolean => attemptsOf(demo.remediations).length >= n;
    for (const n of [1, 2, 3]) {
      await demo.waitFor(() => counted(n), 90_000);
      demo.say(`strike ${n} of 3`);
    }
    await demo.waitFor(() => demo.pages.length > 0, 90_000);
    demo.say("a person is paged: is it quiet now?");
    // Long enough for a fourth attempt and for a second page, if there were one.
    await demo.pause(8_000);

    const attempts = attemptsOf(demo.remediations);
    const stops = destructive(actionsOf(demo.remediations));
    const replicas = demo.payments();
    const last = demo.remediations.findLast((r) => r.status.attempts.length > 0);
    return [
      {
        what: "there were exactly three attempts",
        held: attempts.length === 3 && stops.length === 3,
        detail: `${attempts.length} attempts, ${stops.length} stops`,
      },
      {
        what: "none of them helped, and that is on record",
        held: attempts.every(({ attempt }) => attempt.outcome === "Ineffective"),
        detail: attempts.map(({ attempt }) => attempt.outcome ?? "open").join(", "),
      },
      {
        what: "the circuit is open and the episode escalated",
        held: last?.status.phase === "Escalated" && last.status.reason === "CircuitOpen",
        detail: last?.status.message ?? "",
      },
      { what: "exactly one page was received", held: demo.pages.length === 1, detail: `${demo.pages.length} pages` },
      {
        what: "the fault is still there: nothing claims that it was healed",
        held: replicas.length === 1 && replicas.every((r) => !r.ready) && demo.remediations.every((r) => r.status.outcome !== "Remediated"),
      },
    ];
  },
};
