import { NightshiftError } from "../../src/api/errors.ts";
import type { TargetRef } from "../../src/api/meta.ts";
import type { Effect, EffectResult, EffectState, EffectType, Platform, Replica, Workload } from "../../src/ports/platform.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * A world in memory for unit tests of the loop: replicas that start, serve and stop at once, and effects that are
 * counted. It knows nothing of time; the simulator is another thing.
 */
export class FakePlatform implements Platform {
  readonly name = "fake";
  readonly effects: ReadonlySet<EffectType> = new Set([
    "StartReplacement",
    "RemoveReplacement",
    "RemoveFromTraffic",
    "RestoreTraffic",
    "Capture",
    "Stop",
    "Scale",
    "RunJob",
  ] as const);
  /** How often each effect id really took effect. */
  readonly applied = new Map<string, number>();
  /** Types of effects in the order in which they took effect. */
  readonly log: string[] = [];
  /** Set to make effects of a type fail. */
  readonly failing = new Map<EffectType, string>();
  /** Whether a replacement becomes ready. */
  replacementsBecomeReady = true;
  readonly #results = new Map<string, EffectResult>();
  readonly #workloads = new Map<string, Mutable<Omit<Workload, "replicas">> & { replicas: Mutable<Replica>[] }>();
  readonly #listeners = new Set<(workload: TargetRef) => void>();
  #counter = 0;

  addWorkload(name: string, replicas: number, extra: Partial<Workload> = {}): Workload {
    const ref = { kind: "Workload", namespace: "default", name, uid: `uid-${name}` };
    this.#workloads.set(name, { ref, desired: replicas, labels: {}, annotations: {}, enclosing: [], ...extra, replicas: [] });
    for (let i = 0; i < replicas; i++) this.addReplica(name);
    return this.workload(name);
  }

  workload(name: string): Workload {
    const workload = this.#workloads.get(name);
    if (workload === undefined) throw new Error(`no workload ${name}`);
    return workload;
  }

  addReplica(name: string, extra: Partial<Replica> = {}): Replica {
    const workload = this.#workloads.get(name);
    if (workload === undefined) throw new Error(`no workload ${name}`);
    const id = `${name}-${++this.#counter}`;
    const replica: Replica = {
      ref: { kind: "Process", namespace: "default", name: id, uid: `uid-${id}` },
      workload: workload.ref,
      phase: "Running",
      ready: true,
      everReady: true,
      inTraffic: true,
      inFlight: 0,
      startedAt: 0,
      restarts: 0,
      labels: {},
      annotations: {},
      ...extra,
    };
    workload.replicas.push(replica);
    this.changed(name);
    return replica;
  }

  change(name: string, replicaName: string, patch: Partial<Replica>): void {
    const replica = this.#workloads.get(name)?.replicas.find((r) => r.ref.name === replicaName);
    if (replica === undefined) throw new Error(`no replica ${replicaName}`);
    Object.assign(replica, patch);
    this.changed(name);
  }

  /** Changes the workload itself. */
  set(name: string, patch: { readonly [K in keyof Omit<Workload, "replicas" | "ref">]?: Workload[K] | undefined }): void {
    const workload = this.#workloads.get(name);
    if (workload === undefined) throw new Error(`no workload ${name}`);
    Object.assign(workload, patch);
    this.changed(name);
  }

  remove(name: string, uid: string): void {
    const workload = this.#workloads.get(name);
    if (workload === undefined) return;
    workload.replicas = workload.replicas.filter((r) => r.ref.uid !== uid);
    this.changed(name);
  }

  changed(name: string): void {
    for (const listener of this.#listeners) listener(this.workload(name).ref);
  }

  workloads(): readonly Workload[] {
    return [...this.#workloads.values()].map((w) => ({ ...w, replicas: w.replicas.map((r) => ({ ...r })) }));
  }

  onChange(listener: (workload: TargetRef) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async apply(effect: Effect): Promise<EffectResult> {
    const known = this.#results.get(effect.id);
    if (known !== undefined) return known;
    const failure = this.failing.get(effect.type);
    if (failure !== undefined) throw new NightshiftError("EFFECT_FAILED", failure);
    this.applied.set(effect.id, (this.applied.get(effect.id) ?? 0) + 1);
    this.log.push(effect.type);
    const result = this.#do(effect);
    this.#results.set(effect.id, result);
    return result;
  }

  async observe(effect: Effect): Promise<EffectState> {
    const result = this.#results.get(effect.id);
    if (result !== undefined) return { state: "Applied", result };
    if (effect.type === "RunJob" && this.failing.has("RunJob")) return { state: "Unknown", why: "nobody saw how the job ended" };
    return { state: "NotApplied" };
  }

  #do(effect: Effect): EffectResult {
    switch (effect.type) {
      case "StartReplacement": {
        const replica = this.addReplica(effect.workload.name, {
          startedBy: effect.id,
          ...(effect.replaces.uid === undefined ? {} : { replaces: effect.replaces.uid }),
          ready: this.replacementsBecomeReady,
          everReady: this.replacementsBecomeReady,
        });
        return { message: `started ${replica.ref.name}`, replica: replica.ref };
      }
      case "RemoveReplacement":
      case "Stop": {
        if (effect.replica === undefined) return { message: "nothing was started" };
        const found = this.#find(effect.replica);
        this.remove(found.workload.name, found.ref.uid);
        return { message: `stopped ${found.ref.name}`, cut: 0 };
      }
      case "RemoveFromTraffic":
      case "RestoreTraffic": {
        const found = this.#find(effect.replica);
        this.change(found.workload.name, found.ref.name, { inTraffic: effect.type === "RestoreTraffic" });
        return { message: effect.type };
      }
      case "Capture": {
        const found = this.#find(effect.replica);
        return {
          message: "captured",
          artifact: {
            type: effect.capture.type,
            path: `artifacts/${found.ref.name}`,
            bytes: 1,
            sha256: "0".repeat(64),
            replica: found.ref,
            capturedAt: "2026-01-01T00:00:00.000Z",
          },
        };
      }
      case "Scale": {
        const workload = this.#workloads.get(effect.workload.name);
        if (workload === undefined) throw new NightshiftError("NOT_FOUND", "no such workload");
        workload.desired = effect.replicas;
        while (workload.replicas.length < effect.replicas) this.addReplica(effect.workload.name);
        return { message: `scaled to ${effect.replicas}` };
      }
      case "RunJob":
        return { message: "the job exited with 0" };
      default:
        throw new NightshiftError("EFFECT_NOT_SUPPORTED", `the fake platform knows no ${effect.type}`);
    }
  }

  #find(ref: TargetRef): Replica {
    for (const workload of this.#workloads.values()) {
      const replica = workload.replicas.find((r) => r.ref.uid === ref.uid);
      if (replica !== undefined) return replica;
    }
    throw new NightshiftError("NOT_FOUND", `no replica ${ref.name}`);
  }
}
