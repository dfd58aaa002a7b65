import type { PodState, PolicySignal, RemediationPolicy } from "../../../api/policy.ts";
import type { AlertRule, FaultKind, Symptom, SymptomMetric, SYMPTOMS } from "../scenario.ts";

/** A symptom that is known, and not named by a fault. */
type KnownSymptom = (typeof SYMPTOMS)[number];

/** What monitoring is known to call a symptom: alerts of kube-prometheus and metrics of OpenTelemetry's semantic conventions, and the symptom's own name. */
const KNOWN: Readonly<Record<KnownSymptom, { readonly alerts: readonly string[]; readonly metrics: readonly string[] }>> = {
  NotReady: { alerts: ["KubePodNotReady", "PodNotReady", "KubeDeploymentReplicasMismatch", "TargetDown"], metrics: [] },
  CrashLooping: { alerts: ["KubePodCrashLooping", "PodCrashLooping", "KubeContainerWaiting"], metrics: [] },
  Memory: {
    alerts: ["ContainerMemoryNearLimit", "HighMemoryUsage", "PodMemory"],
    metrics: [
      "memory",
      "process.memory.usage",
      "container.memory.usage",
      "container.memory.working_set",
      "jvm.memory.used",
      "v8js.memory.heap.used",
    ],
  },
  Errors: { alerts: ["HighErrorRate", "ErrorBudgetBurn", "HTTPErrorRateHigh"], metrics: [] },
  RolloutStuck: {
    alerts: ["KubeDeploymentRolloutStuck", "KubeStatefulSetUpdateNotRolledOut", "KubeDeploymentGenerationMismatch"],
    metrics: [],
  },
  DiskFull: {
    alerts: ["KubePersistentVolumeFillingUp", "NodeFilesystemAlmostOutOfSpace", "DiskFull", "VolumeFull"],
    metrics: ["system.filesystem.utilization", "container.filesystem.usage", "k8s.volume.available"],
  },
  PoolExhausted: {
    alerts: ["ConnectionPoolExhausted", "PoolExhausted", "DatabaseConnectionsExhausted"],
    metrics: [
      "db.client.connection.count",
      "db.client.connection.pending_requests",
      "db.client.connections.usage",
      "hikaricp.connections.pending",
    ],
  },
};

/** What is seen of each kind of fault, by those that it befalls. A kind that is not here befalls nobody by itself. */
export const SYMPTOMS_OF: Readonly<Partial<Record<FaultKind, readonly KnownSymptom[]>>> = {
  PodHang: ["NotReady"],
  PodErrors: ["Errors"],
  PodLeak: ["Memory"],
  PodCrash: ["NotReady"],
  CrashLoop: ["CrashLooping", "NotReady"],
  BadRollout: ["RolloutStuck"],
  NodeDown: ["NotReady"],
  NodeIll: ["NotReady"],
  NodeGone: ["NotReady"],
  ZoneDown: ["NotReady"],
  ServiceErrors: ["Errors"],
  DiskFull: ["DiskFull", "Errors"],
  PoolExhausted: ["PoolExhausted", "Errors"],
  Overload: ["Errors"],
};

/** A fault as far as what is seen of it goes. */
export interface SeenFault {
  readonly kind: FaultKind;
  readonly what?: string | undefined;
  readonly share?: number | undefined;
}

const isCondition = (kind: FaultKind): kind is "PodCondition" | "WorkloadCondition" =>
  kind === "PodCondition" || kind === "WorkloadCondition";

/** What a state of a pod is a symptom of, of those that simulated pods can be in. */
const SYMPTOM_OF_STATE: Readonly<Partial<Record<PodState, Symptom>>> = { CrashLoopBackOff: "CrashLooping", OOMKilled: "Memory" };

/** Whether a kind of fault is something to be healed, and not a circumstance of others. */
export function befallsSomebody(kind: FaultKind): boolean {
  return kind in SYMPTOMS_OF || kind === "AlertFlapping" || isCondition(kind);
}

/** What is seen of a fault: of a condition what it names, and errors where it says how many. */
export function shownBy({ kind, what = "", share = 0 }: SeenFault): readonly Symptom[] {
  if (isCondition(kind)) return [`${kind}/${what}`, ...(share > 0 ? (["Errors"] as const) : [])];
  if (kind === "BadRollout" && what === "Errors") return ["Errors"];
  return SYMPTOMS_OF[kind] ?? [];
}

/** What names stand for in a scenario: as it says, as its conditions are named, and as somebody says besides. */
export function namingsOf(
  { names, faults }: { readonly names: readonly Naming[]; readonly faults: readonly SeenFault[] },
  besides: readonly Naming[],
): Naming[] {
  const conditions = faults.flatMap(({ kind, what = "" }): Naming[] =>
    isCondition(kind) ? [{ symptom: `${kind}/${what}`, name: what }] : [],
  );
  return [...names, ...conditions, ...besides];
}

/** Which symptom a user's alert or metric is the name of. */
export interface Naming {
  readonly symptom: Symptom;
  readonly name: string;
}

/** The symptom that a name stands for: as somebody said, else as it is known. */
function symptomOf(name: string, sort: "alerts" | "metrics", namings: readonly Naming[]): Symptom | undefined {
  const said = namings.find((naming) => naming.name === name);
  if (said !== undefined) return said.symptom;
  return (Object.keys(KNOWN) as KnownSymptom[]).find((symptom) => symptom === name || KNOWN[symptom][sort].includes(name));
}

/** The symptom that a signal hears; undefined where its name stands for none that is known. */
export function heardBy(signal: PolicySignal, namings: readonly Naming[]): Symptom | undefined {
  if (signal.probe !== undefined) return "NotReady";
  if (signal.errorRate !== undefined) return "Errors";
  if (signal.rollout !== undefined) return "RolloutStuck";
  if (signal.nodeCondition?.type === "NotReady") return "NotReady";
  if (signal.podState !== undefined) return SYMPTOM_OF_STATE[signal.podState.state];
  if (signal.trend !== undefined) return symptomOf(signal.trend.metric, "metrics", namings);
  if (signal.metric !== undefined) return symptomOf(signal.metric.name, "metrics", namings);
  // A query says nothing that could be known: its signal's name stands for it.
  if (signal.promql !== undefined) return symptomOf(signal.name, "metrics", namings);
  return signal.alert === undefined ? undefined : symptomOf(signal.alert.alertname, "alerts", namings);
}

/** What a signal listens to, in a few words. */
export function listensTo(signal: PolicySignal): string {
  if (signal.probe !== undefined) return "the readiness probe";
  if (signal.errorRate !== undefined) return "the error rate";
  if (signal.rollout !== undefined) return "rollouts without progress";
  if (signal.podState !== undefined) return `pods that are ${signal.podState.state}`;
  if (signal.nodeCondition !== undefined) return `the node condition ${signal.nodeCondition.type}`;
  if (signal.trend !== undefined) return `the trend of ${signal.trend.metric}`;
  if (signal.metric !== undefined) return `the metric ${signal.metric.name}`;
  if (signal.promql !== undefined) return `the query of ${signal.name}`;
  return `the alert ${signal.alert?.alertname ?? ""}`;
}

const isKnown = (symptom: Symptom): symptom is KnownSymptom => symptom in KNOWN;

/** What could hear a symptom, in a few words: for whoever has nothing that does. */
export function couldHear(symptom: Symptom): string {
  if (!isKnown(symptom)) return `${symptom.slice(symptom.indexOf("/") + 1)} (an alert, a metric or the signal of a query of this name)`;
  const own: Partial<Record<Symptom, string>> = {
    NotReady: "a probe",
    Errors: "an errorRate",
    Memory: "a trend",
    CrashLooping: "a podState",
    RolloutStuck: "a rollout",
  };
  const alert = `an alert such as ${KNOWN[symptom].alerts[0] ?? symptom}`;
  return `${symptom} (${[own[symptom], alert].filter((part) => part !== undefined).join(", or ")})`;
}

/** Values that are beyond, and within, the thresholds of two signals at once, where these lie on one side. */
function furthest(known: SymptomMetric["values"], more: NonNullable<SymptomMetric["values"]>): NonNullable<SymptomMetric["values"]> {
  if (known === undefined || known.ill > known.well !== more.ill > more.well) return known ?? more;
  const [beyond, within] = more.ill > more.well ? [Math.max, Math.min] : [Math.min, Math.max];
  return { ill: beyond(known.ill, more.ill), well: within(known.well, more.well) };
}

/** How users' monitoring is played: the alerts and metrics that their policies listen to, each bound to the symptom that it stands for. */
export function monitoringOf(
  policies: readonly RemediationPolicy[],
  namings: readonly Naming[],
  forMs: number,
): { readonly rules: AlertRule[]; readonly metrics: SymptomMetric[] } {
  const rules = new Map<string, AlertRule>();
  const metrics = new Map<string, SymptomMetric>();
  for (const signal of policies.flatMap(({ spec }) => spec.signals)) {
    const symptom = heardBy(signal, namings);
    if (symptom === undefined) continue;
    if (signal.alert !== undefined) {
      const { alertname, matchLabels } = signal.alert;
      const key = JSON.stringify([alertname, Object.entries(matchLabels).toSorted(([a], [b]) => (a < b ? -1 : 1))]);
      rules.set(key, { alertname, condition: symptom, for: forMs, labels: matchLabels });
    }
    if (signal.trend !== undefined && signal.trend.metric !== "memory")
      metrics.set(signal.trend.metric, { symptom, name: signal.trend.metric });
    const asked = signal.promql === undefined ? undefined : { ...signal.promql, name: signal.promql.query };
    const measured = signal.metric === undefined || signal.metric.name === "memory" ? undefined : signal.metric;
    const crossed = asked ?? measured;
    if (crossed !== undefined) {
      const { name, above, below } = crossed;
      // Clearly beyond the threshold, and clearly within it.
      const threshold = above ?? below ?? 0;
      const margin = Math.max(1, Math.abs(threshold) / 2);
      const [over, under] = [threshold + margin, threshold - margin];
      metrics.set(name, {
        symptom,
        name,
        ...(asked === undefined ? {} : { isQuery: true }),
        values: furthest(metrics.get(name)?.values, above === undefined ? { ill: under, well: over } : { ill: over, well: under }),
      });
    }
  }
  return { rules: [...rules.values()], metrics: [...metrics.values()] };
}
