import { isTerminal } from "../../../api/remediation.ts";
import type { Demo, ReplicaExit } from "../demo.ts";
import { PAYMENTS_LIMIT } from "../shop.ts";
import { actionsOf, attemptsOf, faultOf, firstSignal, secondsToLimit } from "../evidence.ts";
import { mebibytes, span } from "../format.ts";
import { policy, type Promised, type Scenario } from "../scenario.ts";

/** Size of a receipt in KiB at speed 1: at 33 requests/s a replica it fills 256 MiB in somewhat more than a minute. */
const RECEIPT_KB = 64;
/** What customers must not notice: no request of the whole recovery may be slower, at the 99th percentile (ms). */
const P99_LIMIT_MS = 1_000;

/** The shop with one payments replica that keeps every receipt. */
export function leakingShop({ canary, speed }: { readonly canary: string; readonly speed: number }): ReturnType<Scenario["shop"]> {
  const env = { SHOP_FAULT: "leak", SHOP_CANARY: canary, SHOP_RECEIPT_KB: String(Math.round(RECEIPT_KB * speed)) };
  return { paymentsReplicas: 3, env: { payments: env } };
}

/** The policy against leaks, in the mode given. */
export function leakPolicy(mode: "Observe" | "Enforce"): object {
  return policy("payments-leak", "payments", {
    mode,
    signals: [{ name: "memory-leak", trend: { horizon: "100s", window: "5m" } }],
    ladder: [{ strategy: "RestartPod", captures: [{ type: "HeapSnapshot" }] }],
    verify: { stableFor: "10s", timeout: "1m" },
  });
}

/** A memory leak, found by its trend. */
export const leak: Scenario = {
  name: "leak",
  title: "one of three payments replicas keeps every receipt for ever: it leaks memory",
  shows: "a leak is found by its trend and healed before anyone notices",
  pages: false,
  withoutHealing: true,
  shop: leakingShop,
  resources: (healing) => [leakPolicy(healing ? "Enforce" : "Observe")],
  run: (demo) => (demo.options.healing ? heal(demo) : letDie(demo)),
};

async function heal(demo: Demo): Promise<readonly Promised[]> {
  const initial = demo.payments().map((replica) => replica.ref.uid);
  demo.say("watching the memory of three replicas");
  await demo.waitFor(() => demo.remediations.length > 0, 60_000);
  demo.say("the leak is found: healing");
  await demo.waitFor(() => demo.remediations.some(isTerminal), 120_000);
  demo.say("healed: a few seconds more of traffic");
  await demo.pause(4_000);

  const faulty = await demo.faultyReplica();
  const [remediation] = demo.remediations;
  const stopped = attemptsOf(demo.remediations).flatMap(({ attempt }) =>
    attempt.steps.filter((step) => step.type === "stop" && step.state === "Done"),
  );
  const order = actionsOf(demo.remediations).map((action) => action.step);
  const left = secondsToLimit(remediation);
  const artifact = remediation?.status.artifacts[0];
  const wrong = artifact === undefined ? "there is none" : await faultOf(artifact);
  const now = demo.payments();
  const since = Date.parse(remediation?.status.decidedAt ?? "") || Date.now();
  const seen = demo.load?.stats(since, Date.now());
  const survivors = initial.filter((uid) => uid !== faulty);
  return [
    {
      what: "the replica that leaks was named, and no other",
      held: faulty !== undefined && demo.remediations.length === 1 && remediation?.spec.remediationTarget.uid === faulty,
      detail: remediation?.spec.diagnosis.summary ?? "no episode",
    },
    {
      what: "it was found before its memory was full",
      held: left !== undefined && left > 0,
      ...(left === undefined ? {} : { detail: `${span(left * 1_000)} before the limit` }),
    },
    {
      what: "replacement first, then out of traffic, heap snapshot, stop",
      held: order.join(" ") === "startReplacement removeFromTraffic capture stop",
      detail: order.join(", "),
    },
    {
      what: "the heap snapshot is whole and has the digest on record",
      held: wrong === undefined,
      detail: wrong ?? mebibytes(artifact?.bytes ?? 0),
    },
    {
      what: "the leaking process is gone, once, and three replicas serve",
      held: stopped.length === 1 && now.filter((r) => r.ready && r.inTraffic).length === 3 && now.every((r) => r.ref.uid !== faulty),
      detail: `${stopped.length} stopped, ${now.length} live`,
    },
    {
      what: "the healthy replicas were left alone",
      held: survivors.length === 2 && survivors.every((uid) => now.some((r) => r.ref.uid === uid && r.restarts === 0)),
    },
    {
      what: "the service was verified well",
      held: remediation?.status.outcome === "Remediated",
      detail: remediation?.status.message ?? "",
    },
    {
      what: "no request failed from the finding on",
      held: seen?.errors === 0 && seen.requests > 0,
      detail: `${seen?.errors ?? 0} of ${seen?.requests ?? 0}`,
    },
    { what: `p99 stayed below ${span(P99_LIMIT_MS)}`, held: (seen?.p99Ms ?? Infinity) < P99_LIMIT_MS, detail: span(seen?.p99Ms ?? 0) },
  ];
}

async function letDie(demo: Demo): Promise<readonly Promised[]> {
  demo.say("watching; nothing will be healed");
  await demo.waitFor(() => demo.remediations.length > 0, 60_000);
  const [remediation] = demo.remediations;
  const faulty = await demo.faultyReplica();
  const life = faulty === undefined ? undefined : demo.lives.get(faulty);
  demo.say("the leak is found, and nothing is done about it");
  const exit = (): ReplicaExit | undefined => demo.options.exits.find(({ replica }) => replica === life?.name);
  await demo.waitFor(() => exit() !== undefined, 150_000);
  const end = exit();
  demo.diedAt = end?.at;
  demo.say(end === undefined ? "it has not died" : "the process is dead: out of memory");
  await demo.pause(5_000);
  return [
    {
      what: "the leak was found",
      held: firstSignal(demo.records) !== undefined && faulty !== undefined && remediation?.spec.remediationTarget.uid === faulty,
      detail: remediation?.spec.diagnosis.summary ?? "no episode",
    },
    { what: "nothing was done about it", held: actionsOf(demo.remediations).length === 0 },
    { what: "the process died of out-of-memory", held: end !== undefined && diedOfMemory(end), detail: describeEnd(end, life?.lastBytes) },
  ];
}

/** By the kernel at the limit of its cgroup, or, where there is none, by V8 at the limit of its heap: it aborts. */
function diedOfMemory(exit: ReplicaExit): boolean {
  return exit.oomKilled || exit.signal === "SIGABRT" || exit.code === 134;
}

function describeEnd(exit: ReplicaExit | undefined, bytes: number | undefined): string {
  if (exit === undefined) return "it still lives";
  const how = exit.oomKilled ? "killed by the kernel" : `ended by ${exit.signal ?? `status ${exit.code ?? "?"}`}`;
  return `${how}, last seen with ${mebibytes(bytes ?? 0)} of ${PAYMENTS_LIMIT.replace("Mi", " MiB")}`;
}
