import { unsupported } from "../act/plan.ts";
import { messageOf, NightshiftError } from "../api/errors.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import { objectKey } from "./cache.ts";
import { nextConditions } from "./conditions.ts";
import { WorkQueue, type Requeue } from "./queue.ts";
import type { Recorder } from "./recorder.ts";
import type { World } from "./world.ts";

/** Says on each policy's status whether it is accepted here: a policy that cannot be carried out is refused now, not at night. */
export class Policies {
  readonly #store: Store;
  readonly #world: World;
  readonly #recorder: Recorder;
  readonly #queue: WorkQueue;

  constructor(options: {
    readonly store: Store;
    readonly world: World;
    readonly recorder: Recorder;
    readonly clock: Clock;
    readonly random: Random;
    readonly onError: (message: string) => void;
  }) {
    this.#store = options.store;
    this.#world = options.world;
    this.#recorder = options.recorder;
    this.#queue = new WorkQueue({
      work: (key) => this.#reconcile(key),
      clock: options.clock,
      random: options.random,
      onError: (key, error) => options.onError(`policy ${key}: ${messageOf(error)}`),
      concurrency: 4,
    });
  }

  /** Something that policies are made of has changed: one of them, or a runbook. */
  changed(kind: string, key: string): void {
    if (kind === "RemediationPolicy") this.#queue.add(key);
    if (kind === "Runbook") this.all();
  }

  /** Looks at every policy. */
  all(): void {
    for (const policy of this.#world.policies.list()) this.#queue.add(objectKey(policy));
  }

  /** See `WorkQueue.stop`. */
  stop(): Promise<void> {
    return this.#queue.stop();
  }

  async #reconcile(key: string): Promise<Requeue> {
    const policy = this.#world.policies.get(key);
    if (policy === undefined) return {};
    const refusal = refusalOf(policy, this.#world);
    const generation = policy.metadata.generation;
    const before = policy.status?.conditions ?? [];
    const accepted = refusal.length === 0;
    const conditions = nextConditions(
      before,
      [
        {
          type: "Accepted",
          status: accepted ? "True" : "False",
          reason: accepted ? "Accepted" : reasonOf(refusal[0]),
          message: accepted ? `in mode ${policy.spec.mode}` : refusal.map((error) => error.toString()).join("\n"),
        },
      ],
      generation,
      this.#world.clock.now(),
    );
    const status = { ...(generation === undefined ? {} : { observedGeneration: generation }), conditions };
    if (JSON.stringify(policy.status) === JSON.stringify(status)) return {};
    try {
      this.#world.policies.put(await this.#store.update({ ...policy, status }));
    } catch (error) {
      // Somebody was faster: their change is looked at when the watch brings it.
      if (error instanceof NightshiftError && (error.code === "CONFLICT" || error.code === "NOT_FOUND")) return {};
      throw error;
    }
    if (!accepted && before.find((c) => c.type === "Accepted")?.status !== "False")
      await this.#recorder.write([
        {
          type: "Policy",
          at: this.#world.clock.now(),
          policy: key,
          message: `refused: ${refusal.map((error) => error.message).join("; ")}`,
          data: { errors: refusal.map((error) => error.toJSON()) },
        },
      ]);
    return {};
  }
}

/** Why a policy cannot be carried out here; empty when it can. Such a policy begins nothing. */
export function refusalOf(policy: RemediationPolicy, world: Pick<World, "platform" | "runbook">): readonly NightshiftError[] {
  return unsupported(policy, world.runbook, world.platform);
}

/** An error's code as Kubernetes writes reasons: `UNKNOWN_RUNBOOK` becomes `UnknownRunbook`. */
function reasonOf(error: NightshiftError | undefined): string {
  return (error?.code ?? "")
    .split("_")
    .map((word) => `${word.slice(0, 1)}${word.slice(1).toLowerCase()}`)
    .join("");
}
