import { targetKey } from "../../../api/meta.ts";
import type { RemediationPolicy } from "../../../api/policy.ts";
import type { Remediation } from "../../../api/remediation.ts";
import { Moments } from "./facts.ts";
import type { Truth } from "./rule.ts";

/** When what signals are about was last truly so, by the condition and its target. Looked at after every event. */
export class Evidence {
  readonly #truth: Truth;
  readonly #last = new Moments();

  constructor(truth: Truth) {
    this.#truth = truth;
  }

  look(): void {
    const { world, monitoring, traffic, now } = this.#truth;
    for (const fingerprint of monitoring.firing().keys()) {
      const [rule = "", ...names] = fingerprint.split("|");
      const alertname = this.#truth.scenario.monitoring.rules[Number(rule)]?.alertname ?? "";
      for (const name of names) this.#last.seen(`alert/${alertname}/${name}`, now);
    }
    for (const workload of world.workloads) {
      for (const pod of workload.pods) if (pod.everReady && !pod.ready) this.#last.seen(`unready/${pod.uid}`, now);
      if (traffic.errorRate(workload) > 0) this.#last.seen(`errors/${workload.spec.name}`, now);
    }
  }

  /** When the condition of an episode's signal last held (ms since the epoch); -Infinity where it never did, undefined where that is not looked at. */
  lastHeld({ spec }: Remediation, policy: RemediationPolicy): number | undefined {
    const signal = policy.spec.signals.find(({ name }) => name === spec.signal.name);
    const { signalTarget } = spec;
    if (signal?.alert !== undefined) return this.#last.since(`alert/${signal.alert.alertname}/${signalTarget.name}`) ?? -Infinity;
    if (signal?.probe !== undefined) return this.#last.since(`unready/${signalTarget.uid ?? targetKey(signalTarget)}`) ?? -Infinity;
    if (signal?.errorRate !== undefined) return this.#last.since(`errors/${signalTarget.name}`) ?? -Infinity;
    return undefined;
  }
}
