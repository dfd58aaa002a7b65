import { targetKey } from "../../../api/meta.ts";
import type { RemediationPolicy } from "../../../api/policy.ts";
import type { Remediation } from "../../../api/remediation.ts";
import { asksForReset, logsErrors } from "../traffic.ts";
import { statesOf } from "../world.ts";
import type { Truth } from "./rule.ts";

/** When what signals are about was last truly so, by the condition and its target. Looked at after every event. */
export class Evidence {
  readonly #truth: Truth;
  /** What holds, and when what has held ceased. */
  #holding: ReadonlySet<string> = new Set();
  readonly #ended = new Map<string, number>();

  constructor(truth: Truth) {
    this.#truth = truth;
  }

  look(): void {
    const { world, monitoring, traffic, now } = this.#truth;
    const holding = new Set<string>();
    for (const fingerprint of monitoring.firing().keys()) {
      const [rule = "", ...names] = fingerprint.split("|");
      const alertname = this.#truth.scenario.monitoring.rules[Number(rule)]?.alertname ?? "";
      for (const name of names) holding.add(`alert/${alertname}/${name}`);
    }
    for (const workload of world.workloads) {
      for (const pod of workload.pods) {
        if (pod.everReady && !pod.ready) holding.add(`unready/${pod.uid}`);
        for (const { state } of statesOf(pod)) holding.add(`${state}/${pod.uid}`);
        if (asksForReset(pod.illness)) holding.add(`hint/${pod.uid}`);
        if (logsErrors(pod.illness)) holding.add(`log/${pod.uid}`);
      }
      if (traffic.errorRate(workload) > 0) holding.add(`errors/${workload.spec.name}`);
    }
    for (const { uid, up, ill, gone } of world.nodes) if (!gone && (!up || ill)) holding.add(`unready/${uid}`);
    for (const key of this.#holding) if (!holding.has(key)) this.#ended.set(key, now);
    this.#holding = holding;
  }

  #last(key: string): number {
    return this.#holding.has(key) ? this.#truth.now : (this.#ended.get(key) ?? -Infinity);
  }

  /** When the condition of an episode's signal last held (ms since the epoch); -Infinity where it never did, undefined where that is not looked at. */
  lastHeld({ spec }: Remediation, policy: RemediationPolicy): number | undefined {
    const signal = policy.spec.signals.find(({ name }) => name === spec.signal.name);
    const { signalTarget } = spec;
    if (signal?.alert !== undefined) return this.#last(`alert/${signal.alert.alertname}/${signalTarget.name}`);
    if (signal?.probe !== undefined) return this.#last(`unready/${signalTarget.uid ?? targetKey(signalTarget)}`);
    if (signal?.podState !== undefined) return this.#last(`${signal.podState.state}/${signalTarget.uid ?? targetKey(signalTarget)}`);
    if (signal?.hint !== undefined || signal?.log !== undefined)
      return this.#last(`${signal.hint === undefined ? "log" : "hint"}/${signalTarget.uid ?? targetKey(signalTarget)}`);
    if (signal?.errorRate !== undefined) return this.#last(`errors/${signalTarget.name}`);
    return undefined;
  }
}
