import { messageOf, NightshiftError } from "../api/errors.ts";
import type { Condition, TargetRef } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Detection } from "../orient/detect.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import { objectKey } from "./cache.ts";
import { type Finding, nextConditions } from "./conditions.ts";
import { WorkQueue, type Requeue } from "./queue.ts";
import type { Recorder } from "./recorder.ts";
import type { World } from "./world.ts";

/** What is otherwise known of a policy must hold for this long before its status says so (ms): a restart is no news. */
const SETTLED_MS = 60_000;
/** The same for what was missing and is there now: whoever has just applied a policy looks at it. */
const READY_SETTLED_MS = 10_000;
/** Why a policy that is refused is not ready. */
const NOT_ACCEPTED = "NotAccepted";
/** How many workloads without data are named. */
const NAMED = 3;

/** A signal of a policy that something was looked for on a workload and was not there for. */
export interface Blindness {
  readonly signal: string;
  readonly workload: TargetRef;
  /** Why, where that is known and stays the same. */
  readonly why?: string;
}

/** What a look at a workload was blind for. */
export function blindnessOf({ blind, unreadable }: Detection, workload: TargetRef): Blindness[] {
  return blind.map((signal) => {
    const why = unreadable?.get(signal);
    return { signal, workload, ...(why === undefined ? {} : { why }) };
  });
}

/**
 * Says on each policy's status whether it is accepted here (a policy that cannot be carried out is refused now, not at
 * night), and whether it is ready: whether it covers anything, and sees what it looks at.
 */
export class Policies {
  readonly #store: Store;
  readonly #world: World;
  readonly #recorder: Recorder;
  readonly #queue: WorkQueue;
  /** What readiness was found that the status does not say yet, and since when (monotonic ms). */
  readonly #news = new Map<string, { readonly finding: Finding; readonly since: number; isSettled: boolean }>();

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

  /** How many workloads a policy covers, and where it sees nothing, as it was evaluated just now. */
  evaluated(policy: RemediationPolicy, workloads: number, blind: readonly Blindness[]): void {
    const key = objectKey(policy);
    const known = readyOf(policy);
    // Before the first status there is nothing to compare with; what is out of date says nothing.
    if (known === undefined || this.#world.platform.staleness?.() !== undefined) return;
    const finding = readiness(policy, workloads, blind);
    if (known.reason === NOT_ACCEPTED || isSame(known, finding)) {
      this.#news.delete(key);
      return;
    }
    const now = this.#world.clock.monotonic();
    const news = this.#news.get(key);
    if (news === undefined || !isSame(news.finding, finding)) this.#news.set(key, { finding, since: now, isSettled: false });
    else if (!news.isSettled && now - news.since >= settledAfter(known, finding)) {
      news.isSettled = true;
      this.#queue.add(key);
    }
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
    if (policy === undefined) {
      this.#news.delete(key);
      return {};
    }
    const refusal = this.#world.refusalOf(policy);
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
        accepted ? this.#ready(policy) : { type: "Ready", status: "False", reason: NOT_ACCEPTED, message: "it is not accepted" },
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

  /** What a policy's status says of readiness from now on: what it says already, until something else has held for a while. */
  #ready(policy: RemediationPolicy): Finding {
    const known = readyOf(policy);
    const news = this.#news.get(objectKey(policy));
    const isKnown = known !== undefined && known.reason !== NOT_ACCEPTED && known.observedGeneration === policy.metadata.generation;
    if (isKnown && news?.isSettled === true) {
      this.#news.delete(objectKey(policy));
      return news.finding;
    }
    if (isKnown) return { type: known.type, status: known.status, reason: known.reason, message: known.message };
    const stale = this.#world.platform.staleness?.();
    if (stale !== undefined) return { type: "Ready", status: "Unknown", reason: "NoData", message: "the platform is not up to date" };
    const targets = this.#world.targets(policy);
    const blind = targets.flatMap((workload) => blindnessOf(this.#world.detect(policy, workload), workload.ref));
    return readiness(policy, targets.length, blind);
  }
}

function readyOf(policy: RemediationPolicy): Condition | undefined {
  return policy.status?.conditions.find(({ type }) => type === "Ready");
}

function settledAfter(known: Condition, finding: Finding): number {
  if (known.status === "Unknown") return 0;
  return finding.status === "True" && known.status === "False" ? READY_SETTLED_MS : SETTLED_MS;
}

function isSame(a: Finding, b: Finding): boolean {
  return a.status === b.status && a.reason === b.reason && a.message === b.message;
}

/** Whether a policy that is accepted is ready. Nothing in the text changes while nothing about it does. */
function readiness(policy: RemediationPolicy, workloads: number, blind: readonly Blindness[]): Finding {
  const said = (status: "True" | "False", reason: string, message: string): Finding => ({ type: "Ready", status, reason, message });
  if (workloads === 0)
    return said("False", "NoTargets", `no workload of the namespace ${policy.metadata.namespace} is what its targets name`);
  if (blind.length > 0) return said("False", "NoData", `nothing is known for ${blindText(blind)}`);
  return said("True", "Watching", `watches ${workloads} ${workloads === 1 ? "workload" : "workloads"}`);
}

function blindText(blind: readonly Blindness[]): string {
  const all = blind
    .map(({ signal, workload, why }) => `signal ${signal} of ${workload.kind} ${workload.name}${why === undefined ? "" : ` (${why})`}`)
    .sort();
  const named = all.slice(0, NAMED);
  return `${named.join(", ")}${blind.length > NAMED ? `, and ${blind.length - NAMED} more` : ""}`;
}

/** An error's code as Kubernetes writes reasons: `UNKNOWN_RUNBOOK` becomes `UnknownRunbook`. */
function reasonOf(error: NightshiftError | undefined): string {
  return (error?.code ?? "")
    .split("_")
    .map((word) => `${word.slice(0, 1)}${word.slice(1).toLowerCase()}`)
    .join("");
}
