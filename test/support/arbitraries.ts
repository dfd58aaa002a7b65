// Resources as people write them: everything that the schemas allow can come out, and nothing else.
import * as fc from "fast-check";
import type { Kind } from "../../src/api/meta.ts";
import { MODES, STRATEGIES } from "../../src/api/policy.ts";

const name = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?$/);
const words = fc.constantFrom("a", "queue.length", "it helps: more than 1", "Grüße", "payments");
const durationOf = (least: number): fc.Arbitrary<string> =>
  fc
    .tuple(...["d", "h", "m", "s", "ms"].map((unit) => fc.option(fc.integer({ min: least, max: 40 }).map((n) => `${n}${unit}`))))
    .map((parts) => parts.filter((part) => part !== null).join(""))
    .filter((text) => text !== "");
export const positiveDuration = durationOf(1);
export const duration = fc.oneof(positiveDuration, fc.constantFrom("0s", "0ms", "0d0h"));
export const quantity = fc
  .tuple(fc.constantFrom("1", "256", "1.5", "0"), fc.constantFrom("", "Ki", "Mi", "Gi", "k", "M", "G"))
  .map((p) => p.join(""));
export const percent = fc.oneof(
  fc.integer({ min: 0, max: 100 }).map((n) => `${n}%`),
  fc.constantFrom("0.5%", "12.25%", "100.0%", "007%"),
);
const positivePercent = percent.filter((text) => /[1-9]/.test(text));
const schedule = fc.constantFrom("0 22 * * 1-5", "*/5 * * * *", "0 0 9 * * MON", "@daily");
const timeZone = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York");
const labels = fc.dictionary(fc.constantFrom("app", "team", "nightshift.dev/tier"), fc.constantFrom("a", "b", ""), {
  minKeys: 1,
  maxKeys: 3,
});
const timestamp = fc.constantFrom("2026-11-02T03:14:00Z", "2026-11-02T03:14:00.250Z");
const some = { requiredKeys: [] } satisfies fc.RecordConstraints<never>;

const capture = fc.record(
  { type: fc.constantFrom("HeapSnapshot", "CpuProfile"), required: fc.boolean(), raiseLimit: fc.boolean() },
  { requiredKeys: ["type"] },
);
const captures = fc.array(capture, { maxLength: 3 });
const scale = fc
  .record({ by: fc.integer({ min: 1, max: 9 }), max: fc.integer({ min: 2, max: 30 }) }, { requiredKeys: ["max"] })
  .filter(({ by, max }) => (by ?? 1) <= max);
const scaleRung = fc.tuple(scale, fc.record({ for: positiveDuration }, some)).map(([s, time]) => ({ ...s, ...time }));
const resize = fc
  .tuple(
    fc.oneof(
      fc.constantFrom(1.01, 1.5, 10).map((factor) => ({ factor })),
      quantity.map((by) => ({ by })),
    ),
    quantity,
    fc.record({ whenRefused: fc.constantFrom("Fail", "Rollout") }, some),
  )
  .map(([how, max, rest]) => ({ memory: { ...how, max }, ...rest }));
const command = fc.array(words, { minLength: 1, maxLength: 3 });

const which = fc.oneof(
  name.map((n) => ({ name: n })),
  labels.map((matchLabels) => ({ selector: { matchLabels } })),
);
const target = fc
  .tuple(fc.record({ kind: fc.constantFrom("Workload", "Deployment", "StatefulSet", "DaemonSet", "Pod") }, some), which)
  .map(([kind, w]) => ({ ...kind, ...w }));
const nodeTarget = which.map((w) => ({ kind: "Node", ...w }));

const condition = fc.oneof(
  fc
    .record(
      { metric: words, limit: quantity, horizon: positiveDuration, minConfidence: fc.constantFrom(0.5, 0.9, 1), window: positiveDuration },
      some,
    )
    .map((trend) => ({ trend })),
  fc.record({ failingFor: positiveDuration }, some).map((probe) => ({ probe })),
  fc
    .record(
      { above: percent.filter((p) => !p.startsWith("100")), for: duration, minRequests: fc.integer({ min: 1, max: 1e6 }) },
      { requiredKeys: ["above"] },
    )
    .map((errorRate) => ({ errorRate })),
  fc
    .tuple(
      fc.record({ name: words, for: duration }, { requiredKeys: ["name"] }),
      fc.constantFrom({ above: 1 }, { above: -0.5 }, { below: 0 }, { below: 1e9 }),
    )
    .map(([metric, threshold]) => ({ metric: { ...metric, ...threshold } })),
  fc.record({ alertname: words, matchLabels: labels }, { requiredKeys: ["alertname"] }).map((alert) => ({ alert })),
);
const objectCondition = fc.oneof(
  fc
    .record(
      { state: fc.constantFrom("CrashLoopBackOff", "ImagePullBackOff"), for: duration, minRestarts: fc.nat(9), container: name },
      { requiredKeys: ["state"] },
    )
    .map((podState) => ({ podState })),
  fc
    .record({ state: fc.constant("OOMKilled"), within: positiveDuration, minRestarts: fc.nat(9) }, { requiredKeys: ["state"] })
    .map((podState) => ({ podState })),
  fc.record({ state: fc.constant("Pending"), for: duration, reason: words }, { requiredKeys: ["state"] }).map((podState) => ({ podState })),
  fc.record({ stuckFor: positiveDuration }, some).map((rollout) => ({ rollout })),
  fc
    .record({ reason: words, count: fc.integer({ min: 1, max: 9 }), within: positiveDuration }, { requiredKeys: ["reason"] })
    .map((event) => ({ event })),
  fc
    .tuple(
      fc.record({
        apiVersion: fc.constantFrom("v1", "cert-manager.io/v1", "example.org/v2beta1"),
        kind: fc.constantFrom("Certificate", "ConfigMap"),
        when: fc.constantFrom("object.spec.paused == true", "object.status.ready < 3.0"),
      }),
      fc.constantFrom<object>({}, { name: "n" }, { label: "app" }, { owned: true }, { belongs: "object.spec.for == target.name" }),
      fc.record({ for: duration }, some),
    )
    .map((parts) => ({ resource: Object.assign({}, ...parts) as object })),
);
const nodeCondition = fc
  .oneof(
    fc.record(
      { type: fc.constantFrom("DiskPressure", "Ready"), status: fc.constantFrom("True", "False"), for: duration },
      { requiredKeys: ["type"] },
    ),
    fc.record({ type: fc.constant("NotReady"), for: duration }, { requiredKeys: ["type"] }),
  )
  .map((what) => ({ nodeCondition: what }));
const when = fc.constantFrom("target.restarts > 3", 'metrics["queue.length"] > 1.5 || target.ready', "signal.age > duration('5m')");
const signalsOf = (conditions: fc.Arbitrary<object>): fc.Arbitrary<object[]> =>
  fc
    .uniqueArray(name, { minLength: 1, maxLength: 4 })
    .chain((names) =>
      fc.tuple(...names.map((n) => fc.tuple(conditions, fc.record({ when }, some)).map(([c, asked]) => ({ name: n, ...asked, ...c })))),
    );

const timed = <T extends object>(what: fc.Arbitrary<T>): fc.Arbitrary<object> =>
  fc.tuple(fc.record({ timeout: positiveDuration }, some), what).map(([timeout, w]) => ({ ...timeout, ...w }));
const onAnything = fc.oneof(
  name.map((runbook) => ({ runbook })),
  fc.record({ strategy: fc.constant("Notify"), message: words }, { requiredKeys: ["strategy"] }),
);
const rung = timed(
  fc.oneof(
    onAnything,
    fc.record({ strategy: fc.constantFrom("RestartPod", "RollingRestart", "EvictPod"), captures }, { requiredKeys: ["strategy"] }),
    scaleRung.map((s) => ({ strategy: "ScaleUp", scale: s })),
    resize.map((r) => ({ strategy: "ResizeResources", resize: r })),
    command.map((c) => ({ strategy: "RunJob", command: c })),
    fc.record({
      strategy: fc.constantFrom(...STRATEGIES.filter((s) => !["ScaleUp", "ResizeResources", "RunJob", "CordonAndDrainNode"].includes(s))),
    }),
  ),
);
const nodeRung = timed(
  fc.oneof(
    onAnything,
    fc.record(
      { strategy: fc.constant("CordonAndDrainNode"), drain: fc.record({ healWithin: positiveDuration }, some) },
      { requiredKeys: ["strategy"] },
    ),
  ),
);
/** What a policy is about, what it looks at, and what it does to that: nodes are treated otherwise. */
const treatment = fc.oneof(
  fc.record({
    targets: fc.array(target, { minLength: 1, maxLength: 3 }),
    signals: signalsOf(fc.oneof(condition, objectCondition)),
    ladder: fc.array(rung, { minLength: 1, maxLength: 4 }),
  }),
  fc.record({
    targets: fc.array(nodeTarget, { minLength: 1, maxLength: 3 }),
    signals: signalsOf(fc.oneof(condition, nodeCondition)),
    ladder: fc.array(nodeRung, { minLength: 1, maxLength: 4 }),
  }),
);

const recurrence = fc.record({ schedule, timeZone, duration: positiveDuration }, { requiredKeys: ["schedule", "duration"] });
const limit = fc.oneof(
  fc.record({ maxUnavailable: fc.oneof(fc.integer({ min: 1, max: 99 }), positivePercent) }),
  fc.record({ maxUnavailable: positivePercent, whenRoundsToZero: fc.constantFrom("Block", "AllowOne") }),
);
const freeze = fc.record({ maxUnavailable: fc.constantFrom<string | number>(0, "0%", "0.0%") });
const reasons = fc.constantFrom({}, { reasons: ["MemoryLeak"] }, { reasons: ["Alert", "Unresponsive"] });
const budget = fc.oneof(
  fc.tuple(limit, reasons).map(([l, r]) => ({ ...l, ...r })),
  fc.tuple(fc.oneof(limit, freeze), recurrence, reasons).map(([l, r, why]) => ({ ...l, ...r, ...why })),
);
const pause = fc.record({ reason: words, until: timestamp }, { requiredKeys: ["reason"] });

/** A RemediationPolicy's `spec`. */
export const policySpec = fc
  .tuple(
    treatment,
    fc.record(
      {
        mode: fc.constantFrom(...MODES),
        paused: pause,
        maxSignalAge: positiveDuration,
        verify: fc.oneof(
          fc.record({ maxErrorRate: percent }, some),
          fc.record({ stableFor: fc.constantFrom("1s", "1m30s", "999ms"), timeout: fc.constantFrom("2m", "1d", "1d2h3m") }),
        ),
        budgets: fc.array(budget, { minLength: 1, maxLength: 3 }),
        windows: fc.array(recurrence, { minLength: 1, maxLength: 2 }),
        cooldown: duration,
        attempts: fc.record({ max: fc.integer({ min: 1, max: 100 }), window: positiveDuration, reset: positiveDuration }, some),
        approval: fc.record({ timeout: positiveDuration }, some),
        escalation: fc.record({ receivers: fc.array(name, { maxLength: 2 }), blockedFor: positiveDuration }, some),
      },
      some,
    ),
  )
  .map(([what, rest]) => ({ ...what, ...rest }));

const harmless = fc.oneof(
  fc.constant({ wait: { for: "1s" } }),
  fc.constant({ notify: { message: "now" } }),
  scale.map((s) => ({ scale: s })),
  fc.constantFrom({ awaitAvailable: {} }, { awaitHealed: {} }),
  resize.map((r) => ({ resize: r })),
);
const inOrder = (...steps: object[]): fc.Arbitrary<object[]> =>
  fc.tuple(...steps.map((step) => fc.array(harmless, { maxLength: 1 }).map((before) => [...before, step]))).map((parts) => parts.flat());

/** Any step at all, so that a list of them is seldom in a good order. */
export const anyStep = fc.oneof(
  fc.constantFrom({ startReplacement: {} }, { awaitReady: {} }, { removeFromTraffic: {} }, { awaitInFlight: {} }),
  fc.constantFrom<object>(
    { stop: {} },
    { stop: { allowCapacityDrop: true } },
    { runJob: { command: ["true"] } },
    { invoke: { action: "a" } },
  ),
  fc.constantFrom<object>({ evict: {} }, { rolloutRestart: {} }, { rollback: {} }, { drain: {} }),
  fc.constantFrom<object>({ cordon: {} }, { uncordon: {} }, { scaleBack: {} }),
  fc.constant({ capture: { type: "HeapSnapshot" } }),
  harmless,
);

/** A Runbook's `spec`. */
export const runbookSpec = fc.record(
  {
    description: words,
    steps: fc.oneof(
      inOrder(
        { startReplacement: {} },
        { awaitReady: {} },
        { removeFromTraffic: {} },
        { awaitInFlight: {} },
        { capture: { type: "HeapSnapshot" } },
        { stop: {} },
      ),
      inOrder(
        { capture: { type: "CpuProfile", required: false }, timeout: "1m" },
        { stop: { allowCapacityDrop: true, gracePeriod: "5s" } },
      ),
      inOrder({ capture: { type: "HeapSnapshot" } }, { evict: { gracePeriod: "5s" } }, { rolloutRestart: {} }),
      inOrder({ cordon: {} }, { drain: {} }, { uncordon: {} }),
      inOrder({ scale: { max: 3 } }, { scaleBack: {} }, { rollback: {} }),
      inOrder({ name: "clean", runJob: { command: ["/bin/true"] } }),
      inOrder({ invoke: { action: "pool-reset" }, timeout: "5s" }),
      fc.array(harmless, { minLength: 1, maxLength: 4 }),
    ),
  },
  { requiredKeys: ["steps"] },
);

/** A RemediationBudget's `spec`. */
export const remediationBudgetSpec = fc.record(
  {
    paused: pause,
    namespaces: fc.array(name, { minLength: 1, maxLength: 3 }),
    budgets: fc.array(fc.oneof(budget, freeze), { maxLength: 3 }),
    maxConcurrent: fc.nat(9),
  },
  some,
);

const service = fc.record({ name, namespace: name }, { requiredKeys: ["name"] });

/** A ServiceDependency's `spec`. */
export const serviceDependencySpec = fc
  .record({ from: service, to: service, unhealthyAbove: percent, window: positiveDuration }, { requiredKeys: ["from", "to"] })
  .filter(({ from, to }) => from.name !== to.name);

/** A RemediationApproval's `spec`. */
export const approvalSpec = fc.record(
  {
    remediation: name,
    targetUid: words,
    decision: fc.constantFrom("Approved", "Denied"),
    by: words,
    at: fc.oneof(timestamp, fc.constant("2026-11-02T03:14:00+01:00")),
    reason: words,
  },
  { requiredKeys: ["remediation", "decision", "by", "at"] },
);

/** The specs that people write, by kind. */
export const SPECS = {
  RemediationPolicy: policySpec,
  Runbook: runbookSpec,
  RemediationBudget: remediationBudgetSpec,
  RemediationApproval: approvalSpec,
  ServiceDependency: serviceDependencySpec,
} as const satisfies Partial<Record<Kind, fc.Arbitrary<unknown>>>;
export const AUTHORED = Object.keys(SPECS) as (keyof typeof SPECS)[];

/** All places in a value. */
function placesIn(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== "object" || value === null) return [path];
  const entries: [string | number, unknown][] = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...entries.flatMap(([key, inner]) => placesIn(inner, [...path, key]))];
}

const NOTHING = Symbol("nothing");
const JUNK: unknown[] = [NOTHING, "", "x", "0s", "1d", "100%", "0%", "Enforce", 0, 1, -1, 1.5, 1e6, true, {}, { zzz: 1 }, [], [{}], ["x"]];

/** The value with what stands at `path` replaced, or taken away. */
function replaced(value: unknown, [head, ...rest]: readonly (string | number)[], by: unknown): unknown {
  if (head === undefined) return by;
  if (Array.isArray(value))
    return value.flatMap((item, i) => (i === head ? (rest.length === 0 && by === NOTHING ? [] : [replaced(item, rest, by)]) : [item]));
  const { [head]: inner, ...others } = value as Record<string | number, unknown>;
  return rest.length === 0 && by === NOTHING ? others : { ...others, [head]: replaced(inner, rest, by) };
}

/** What only code can judge: the operator says in `Accepted` what is wrong with it. */
const ONLY_BY_CODE: ReadonlySet<unknown> = new Set(["schedule", "timeZone"]);

/** What the API server refuses of what is well-formed to zod, and `policy check` refuses in its place. */
export const ONLY_BY_CHECK =
  /leaves nothing to scale|always more than max|forbids every action|verification ends|is above 100%|depends on itself/;

/** A spec of the kind with one place changed to something that seldom belongs there. */
export function broken(kind: keyof typeof SPECS): fc.Arbitrary<unknown> {
  return fc.tuple(SPECS[kind] as fc.Arbitrary<unknown>, fc.nat(), fc.constantFrom(...JUNK)).map(([spec, where, junk]) => {
    const places = placesIn(spec).filter((path) => path.length > 0 && !ONLY_BY_CODE.has(path.at(-1)));
    const path = places[where % places.length];
    return path === undefined ? spec : replaced(spec, path, junk);
  });
}
