// Specs that are refused, each for one reason, and some that are next to them and are not.
import type { Kind } from "../../src/api/meta.ts";

const policy = { targets: [{ name: "a" }], signals: [{ name: "s", trend: {} }], ladder: [{ strategy: "RestartPod" }] };
const steps = (...list: object[]): object => ({ steps: list });
const [start, ready, out, flight, stop] = [
  { startReplacement: {} },
  { awaitReady: {} },
  { removeFromTraffic: {} },
  { awaitInFlight: {} },
  { stop: {} },
];
const drop = { stop: { allowCapacityDrop: true } };
const CASES: readonly (readonly [string, Kind, unknown, RegExp])[] = [
  [
    "a target by name and selector",
    "RemediationPolicy",
    { ...policy, targets: [{ name: "a", selector: { matchLabels: { a: "b" } } }] },
    /either name or selector/,
  ],
  ["a target by nothing", "RemediationPolicy", { ...policy, targets: [{}] }, /either name or selector/],
  ["an empty selector", "RemediationPolicy", { ...policy, targets: [{ selector: { matchLabels: {} } }] }, /number of fields/],
  ["a signal without a condition", "RemediationPolicy", { ...policy, signals: [{ name: "s" }] }, /exactly one of trend/],
  ["a signal with two", "RemediationPolicy", { ...policy, signals: [{ name: "s", trend: {}, probe: {} }] }, /exactly one of trend/],
  [
    "a metric without a threshold",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", metric: { name: "m" } }] },
    /either above or below/,
  ],
  ["an error rate above all", "RemediationPolicy", { ...policy, signals: [{ name: "s", errorRate: { above: "100%" } }] }, /no share/],
  [
    "how long for what is a moment",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", podState: { state: "OOMKilled", for: "1m" } }] },
    /OOMKilled (has|is a moment)/,
  ],
  [
    "how long ago for what lasts",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", podState: { state: "Pending", within: "1m" } }] },
    /OOMKilled (has|only)/,
  ],
  [
    "why of a crash",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", podState: { state: "CrashLoopBackOff", reason: "r" } }] },
    /Pending only/,
  ],
  [
    "a container of what is said of the pod",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", podState: { state: "Pending", container: "c" } }] },
    /not of a container/,
  ],
  ["a node's condition of pods", "RemediationPolicy", { ...policy, signals: [{ name: "s", nodeCondition: { type: "A" } }] }, /about nodes/],
  [
    "a pod's state of nodes",
    "RemediationPolicy",
    {
      targets: [{ kind: "Node", name: "n" }],
      signals: [{ name: "s", podState: { state: "Pending" } }],
      ladder: [{ strategy: "CordonAndDrainNode" }],
    },
    /not about nodes/,
  ],
  [
    "NotReady with a status",
    "RemediationPolicy",
    {
      targets: [{ kind: "Node", name: "n" }],
      signals: [{ name: "s", nodeCondition: { type: "NotReady", status: "False" } }],
      ladder: [{ strategy: "CordonAndDrainNode" }],
    },
    /NotReady has no status/,
  ],
  [
    "an object of two ways",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", resource: { apiVersion: "a.b/v1", kind: "C", when: "true", name: "n", owned: true } }] },
    /at most one of name/,
  ],
  [
    "a Secret",
    "RemediationPolicy",
    { ...policy, signals: [{ name: "s", resource: { apiVersion: "v1", kind: "Secret", when: "true" } }] },
    /never read/,
  ],
  [
    "two signals of a name",
    "RemediationPolicy",
    {
      ...policy,
      signals: [
        { name: "s", trend: {} },
        { name: "s", probe: {} },
      ],
    },
    /same key/,
  ],
  ["a strategy that there is none of", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ReclaimDisk" }] }, /none of the values/],
  ["a rung of nothing", "RemediationPolicy", { ...policy, ladder: [{}] }, /either strategy or runbook/],
  ["ScaleUp without scale", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ScaleUp" }] }, /ScaleUp needs scale/],
  ["scale without ScaleUp", "RemediationPolicy", { ...policy, ladder: [{ runbook: "r", scale: { max: 3 } }] }, /scale goes with/],
  ["a scale to one", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ScaleUp", scale: { max: 1 } }] }, /nothing to scale/],
  ["a scale by too many", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ScaleUp", scale: { by: 4, max: 3 } }] }, /more than max/],
  ["RunJob without a command", "RemediationPolicy", { ...policy, ladder: [{ strategy: "RunJob" }] }, /RunJob needs command/],
  ["ResizeResources without resize", "RemediationPolicy", { ...policy, ladder: [{ strategy: "ResizeResources" }] }, /needs resize/],
  [
    "a resize by two measures",
    "RemediationPolicy",
    { ...policy, ladder: [{ strategy: "ResizeResources", resize: { memory: { factor: 2, by: "1Mi", max: "1Gi" } } }] },
    /either factor or by/,
  ],
  ["drain elsewhere", "RemediationPolicy", { ...policy, ladder: [{ runbook: "r", drain: {} }] }, /CordonAndDrainNode only/],
  ["a drain of pods", "RemediationPolicy", { ...policy, ladder: [{ strategy: "CordonAndDrainNode" }] }, /targets of kind Node only/],
  ["a restart of a node", "RemediationPolicy", { ...policy, targets: [{ kind: "Node", name: "n" }] }, /no targets of kind Node/],
  ["a message elsewhere", "RemediationPolicy", { ...policy, ladder: [{ strategy: "RestartPod", message: "m" }] }, /Notify only/],
  [
    "captures elsewhere",
    "RemediationPolicy",
    { ...policy, ladder: [{ runbook: "r", captures: [{ type: "HeapSnapshot" }] }] },
    /captures go with/,
  ],
  ["an unknown strategy", "RemediationPolicy", { ...policy, ladder: [{ strategy: "Pray" }] }, /none of the values/],
  ["a freeze for ever", "RemediationPolicy", { ...policy, budgets: [{ maxUnavailable: "0%" }] }, /forbids every action/],
  ["a schedule without duration", "RemediationPolicy", { ...policy, budgets: [{ maxUnavailable: 1, schedule: "@daily" }] }, /go together/],
  [
    "AllowOne of a number",
    "RemediationPolicy",
    { ...policy, budgets: [{ maxUnavailable: 1, whenRoundsToZero: "AllowOne" }] },
    /AllowOne goes with/,
  ],
  ["no cron", "RemediationPolicy", { ...policy, windows: [{ schedule: "at night", duration: "1h" }] }, /does not match/],
  [
    "a verification that cannot end well",
    "RemediationPolicy",
    { ...policy, verify: { stableFor: "1d", timeout: "23h" } },
    /verification ends/,
  ],
  ["a duration of nothing", "RemediationPolicy", { ...policy, maxSignalAge: "0s" }, /longer than zero/],
  ["an unknown field", "RemediationPolicy", { ...policy, coldown: "1m" }, /unknown field/],
  ["a step of nothing", "Runbook", steps({ name: "n" }), /exactly one of/],
  ["a step of two", "Runbook", steps({ ...start, ...ready }), /exactly one of/],
  ["a stop without a replacement", "Runbook", steps(out, stop), /drops capacity/],
  ["a stop before its replacement is ready", "Runbook", steps(start, out, stop, ready), /before the replacement is ready/],
  ["a stop in traffic", "Runbook", steps(start, ready, stop), /loses requests/],
  ["a capture after the stop", "Runbook", steps(drop, { capture: { type: "HeapSnapshot" } }), /capture comes after/],
  ["a capture after a job", "Runbook", steps({ runJob: { command: ["x"] } }, { capture: { type: "HeapSnapshot" } }), /capture comes after/],
  [
    "a capture after an action",
    "Runbook",
    steps({ invoke: { action: "x" } }, { capture: { type: "HeapSnapshot" } }),
    /capture comes after/,
  ],
  ["an action that is a path", "Runbook", steps({ invoke: { action: "../x" } }), /a to z, 0 to 9|does not match|should match/],
  ["a wait for nothing", "Runbook", steps(ready), /nothing to wait for/],
  ["a wait in traffic", "Runbook", steps(flight), /requests keep coming/],
  ["two stops", "Runbook", steps(drop, drop), /one stop/],
  ["a stop and an eviction", "Runbook", steps(drop, { evict: {} }), /one stop or evict/],
  ["a way back before the way", "Runbook", steps({ scaleBack: {} }, { scale: { max: 3 } }), /put scale before scaleBack/],
  ["a drain of an open node", "Runbook", steps({ drain: {} }), /put cordon before drain/],
  ["an uncordon of nothing", "Runbook", steps({ uncordon: {} }), /put cordon before uncordon/],
  ["two replacements", "Runbook", steps(start, start), /one replacement/],
  ["out of traffic too late", "Runbook", steps(drop, out), /too late/],
  ["out of traffic for good", "Runbook", steps(out), /add a stop/],
  [
    "a dependency on itself",
    "ServiceDependency",
    { from: { name: "a", namespace: "n" }, to: { name: "a", namespace: "n" } },
    /depends on itself/,
  ],
];

/** A spec that is refused, by zod or by `policy check`, and by the API server. */
export interface Refusal {
  readonly what: string;
  readonly kind: Kind;
  readonly spec: unknown;
  /** What is said, where the rule is one of CEL; else what test/support/structural.ts says. */
  readonly message: RegExp;
}

export const REFUSED: readonly Refusal[] = CASES.map(([what, kind, spec, message]) => ({ what, kind, spec, message }));

export const ACCEPTED: readonly { readonly kind: Kind; readonly spec: unknown }[] = [
  { kind: "RemediationPolicy", spec: policy },
  { kind: "Runbook", spec: steps(start, ready, out, flight, { capture: { type: "HeapSnapshot" } }, stop) },
  { kind: "Runbook", spec: steps({ capture: { type: "CpuProfile" } }, drop) },
  { kind: "ServiceDependency", spec: { from: { name: "a" }, to: { name: "a", namespace: "n" } } },
];
