import type { Clock } from "../../../ports/clock.ts";
import type { Effect, EffectResult, EffectState, EffectType } from "../../../ports/platform.ts";
import type { ActionCaller } from "../../actions.ts";
import type { KubeClient } from "../client.ts";

/** What the carrying out of an effect needs. */
export interface EffectDeps<View> {
  readonly client: KubeClient;
  /** The cluster as the caches have it; what an effect depends on is read anew from the API server. */
  readonly view: View;
  readonly clock: Clock;
  /**
   * The epoch of the lease that this process leads under. Rejects with `NOT_LEADER` when the lease may be lost. Every
   * write of an effect carries it, as `nightshift.dev/epoch`, and is bound to the resourceVersion that was read.
   */
  readonly epoch: () => number;
  /** Namespaces in which nothing is touched. */
  readonly protectedNamespaces: ReadonlySet<string>;
  /** Asks pods for actions; undefined where there is no key to sign with. */
  readonly actions?: ActionCaller | undefined;
  /** Uids of workloads of which a drain is moving a pod away: of two nodes that are emptied at once, one waits for the other. */
  readonly draining: Set<string>;
}

/** One kind of effect on Kubernetes. One file each. */
export interface EffectHandler<T extends EffectType, View = unknown> {
  readonly type: T;
  /** See `Platform.apply`. Takes effect at most once for an id, whoever calls it how often. */
  apply(effect: Extract<Effect, { type: T }>, deps: EffectDeps<View>, signal: AbortSignal): Promise<EffectResult>;
  /** See `Platform.observe`. Reads the API server, not the cache. */
  observe(effect: Extract<Effect, { type: T }>, deps: EffectDeps<View>): Promise<EffectState>;
}
