import { MIN_STALE_MS } from "../../../orient/samples.ts";
import { actionsOf, blockedBy } from "../evidence.ts";
import { policy, type Scenario } from "../scenario.ts";
import { leakingShop } from "./leak.ts";

/** Readings are missing once none came for 30 s, and a little. */
const STALE_MS = MIN_STALE_MS + 1_000;
const ALERT = "PaymentsMemoryHigh";

/** Metrics that vanish while memory grows. */
export const noData: Scenario = {
  name: "no-data",
  title: "the metrics of a leaking replica vanish, and an alert about it arrives",
  shows: "without data there is no action, whatever an alert says",
  pages: false,
  withoutHealing: false,
  shop: (context) => {
    const shop = leakingShop(context);
    return { ...shop, env: { payments: { ...shop.env.payments, SHOP_FAULT: "leak,mute", SHOP_FAULT_AFTER: "6" } } };
  },
  resources: () => [
    policy("payments-memory", "payments", {
      mode: "Enforce",
      signals: [
        { name: "memory-leak", trend: { metric: "process.memory.usage", limit: "512Mi", horizon: "5m", window: "5m" } },
        { name: "memory-alert", alert: { alertname: ALERT } },
      ],
      ladder: [{ strategy: "RestartPod" }],
    }),
  ],
  async run(demo) {
    const uids = (): string =>
      demo
        .payments()
        .map((r) => `${r.ref.uid}:${r.restarts}`)
        .sort()
        .join(" ");
    const initial = uids();
    const faulty = await demo.faultyReplica();
    const target = demo.payments().find((replica) => replica.ref.uid === faulty);
    const age = (): number => {
      const newest = demo.running.telemetry.replicaSeries(faulty ?? "", "process.memory.usage", 0).at(-1);
      return newest === undefined ? 0 : Date.now() - newest.t;
    };
    demo.say("memory grows, and the metrics of that replica vanish: 30 s of silence are no data");
    const vanished = await demo.waitFor(() => age() > STALE_MS, 90_000);
    const actedBefore = actionsOf(demo.remediations).length;
    demo.say("the metrics are gone; an alert says that memory is high");
    const labels = { alertname: ALERT, severity: "critical", service: "payments", instance: target?.ref.name ?? "" };
    const startsAt = Date.now();
    const blocked = (): boolean => blockedBy(demo.records, "NoData").length > 0;
    let status = 0;
    // Alertmanager repeats itself as well.
    for (let i = 0; i < 20 && !blocked(); i++) {
      status = await demo.alert("firing", labels, startsAt);
      await demo.waitFor(blocked, 2_000);
    }
    demo.say("no action: is it still so after a while?");
    await demo.pause(6_000);
    const [decision] = blockedBy(demo.records, "NoData");
    return [
      { what: "the metrics vanished before a trend was found", held: vanished && actedBefore === 0 && faulty !== undefined },
      { what: "the alert was taken", held: status >= 200 && status < 300, detail: `status ${status}` },
      { what: "the decision is not to act: NoData", held: decision !== undefined, detail: decision?.message ?? "no such decision" },
      {
        what: "nothing was done",
        held: actionsOf(demo.remediations).length === 0,
        detail: actionsOf(demo.remediations)
          .map((a) => a.step)
          .join(", "),
      },
      { what: "payments runs as before", held: uids() === initial && initial !== "" },
    ];
  },
};
