import { messageOf, NightshiftError } from "../../api/errors.ts";
import { microTime } from "../../api/time.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import { Backoff } from "./backoff.ts";
import type { KubeClient } from "./client.ts";
import { isAlreadyExists, isConflict, isNotFound } from "./errors.ts";
import { MARKS } from "./marks.ts";

/** How long others leave a lease alone after they last saw it renewed (s). This and the next two: controller-runtime's defaults. */
const LEASE_SECONDS = 15;
/** A leader that could not renew for this long acts no more (ms). */
const RENEW_DEADLINE_MS = 10_000;
/** From one try to the next (ms). */
const RETRY_MS = 2_000;
/** The same after the first try in a row that failed: a connection that has broken is opened again at once. */
const FIRST_RETRY_MS = 100;
/** One request about the lease may take this long (ms), so that several tries fit into the deadline. */
const REQUEST_MS = 4_000;
/** On the leader's pod: the Service that takes signals selects by it. */
export const LEADER_LABEL = "nightshift.dev/leader";

interface Lease {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion: string };
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

/** Options of `LeaderElection`. */
export interface ElectionOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly namespace: string;
  /** Name of the Lease. */
  readonly lease: string;
  /** Unique over all processes that ever take part. */
  readonly identity: string;
  /** The pod that this runs in, which is labelled while it leads. */
  readonly podName?: string;
  /** Epochs up to this one have been used: a Lease that was deleted and made anew must not begin below it. */
  readonly usedEpoch?: () => number;
  /** Told of what failed and is tried again. */
  readonly onError: (message: string) => void;
}

/**
 * Takes part in the election of the one that acts, by a Lease, as client-go does it, with three differences. Every
 * acquisition that is no renewal raises `leaseTransitions`, which is the epoch that writes carry. Who waits watches the
 * Lease, so that a released one is taken at once, and one that is not renewed exactly when it may be. And times written
 * by others are never compared with the own clock: only when a change was seen counts.
 */
export class LeaderElection {
  readonly #o: ElectionOptions;
  readonly #path: string;
  readonly #leading = Promise.withResolvers<number>();
  /** The lease as it was last seen, and when (monotonic ms). */
  #seen: { readonly lease: Lease; readonly at: number } | undefined;
  #epoch: number | undefined;
  /** The highest epoch that was seen in the Lease, whatever has become of the Lease since. */
  #highest = 0;
  /** When the newest renewal that succeeded was begun (monotonic ms). */
  #renewedAt = -Infinity;

  constructor(options: ElectionOptions) {
    this.#o = options;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  }

  /** Resolves with the epoch once this process leads. */
  get leading(): Promise<number> {
    return this.#leading.promise;
  }

  /** Whether it leads, as far as `epoch` knows. */
  get leads(): boolean {
    return this.#epoch !== undefined && this.#o.clock.monotonic() - this.#renewedAt < RENEW_DEADLINE_MS;
  }

  /**
   * The epoch that this process leads under.
   * @throws NightshiftError `NOT_LEADER` when it does not lead, or may not any more: after a pause of the process, too.
   */
  epoch(): number {
    if (this.#epoch === undefined || !this.leads)
      throw new NightshiftError("NOT_LEADER", "this process does not lead, or has not been able to renew its lease in time");
    return this.#epoch;
  }

  /**
   * Takes part until `signal` aborts; then the lease, where it is held, is released. Resolves with `LeaseLost` when it was
   * held and is no longer: whoever runs this should end the process.
   */
  async run(signal: AbortSignal): Promise<"Stopped" | "LeaseLost"> {
    if (!(await this.#acquire(signal))) return "Stopped";
    const epoch = this.#epoch;
    // A slow API server, or a freeze, may have left no time to lead in: another may have the lease by now.
    if (epoch === undefined || !this.leads) {
      this.#epoch = undefined;
      return "LeaseLost";
    }
    this.#leading.resolve(epoch);
    const over = new AbortController();
    const labelled = this.#label(epoch, AbortSignal.any([signal, over.signal]));
    const kept = await this.#renew(signal);
    over.abort();
    await labelled;
    if (!kept) {
      this.#epoch = undefined;
      return "LeaseLost";
    }
    await this.#release(epoch);
    return "Stopped";
  }

  // ---- becoming leader -------------------------------------------------------------------------------------------

  /** Tries until it holds the lease; false when `signal` aborted first. */
  async #acquire(signal: AbortSignal): Promise<boolean> {
    const over = new AbortController();
    const ends = AbortSignal.any([signal, over.signal]);
    // A change of the lease is news for whoever waits below.
    let wake = (): void => {};
    const watching = this.#watch(ends, () => wake());
    // A lease that has expired may be taken at once, again and again: what fails must be kept from being tried so.
    const backoff = new Backoff(this.#o.random, { baseMs: FIRST_RETRY_MS, maxMs: RETRY_MS, jitter: 0.2 });
    try {
      while (!signal.aborted) {
        const tried = await this.#tried();
        if (tried === "Acquired") return true;
        if (tried === "Held") backoff.reset();
        const pauseMs = tried === "Held" ? this.#untilNextTry() : backoff.next();
        await new Promise<void>((resolve) => {
          const pause = new AbortController();
          wake = () => pause.abort();
          void sleep(this.#o.clock, pauseMs, AbortSignal.any([ends, pause.signal])).then(resolve);
        });
      }
      return false;
    } finally {
      over.abort();
      await watching;
    }
  }

  async #tried(): Promise<"Acquired" | "Held" | "Failed"> {
    try {
      return (await this.#tryToAcquire()) ? "Acquired" : "Held";
    } catch (error) {
      if (!isConflict(error) && !isAlreadyExists(error)) this.#o.onError(`the lease ${this.#o.lease}: ${messageOf(error)}`);
      return "Failed";
    }
  }

  /** Until the lease may be taken, where somebody holds it and does not renew it, or until it is looked at again (ms). */
  #untilNextTry(): number {
    const { clock, random } = this.#o;
    const poll = RETRY_MS * (1 + 0.2 * random.next());
    const seen = this.#seen;
    if (seen === undefined) return poll;
    // A little after, and not all at the same moment.
    const expires = seen.at + leaseMs(seen.lease) - clock.monotonic() + 20 + 100 * random.next();
    return Math.max(10, Math.min(poll, expires));
  }

  async #tryToAcquire(): Promise<boolean> {
    const { client, clock } = this.#o;
    const begun = clock.monotonic();
    let lease: Lease;
    try {
      lease = await client.request<Lease>({ method: "GET", path: `${this.#path}/${this.#o.lease}`, timeoutMs: REQUEST_MS });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const epoch = this.#nextEpoch();
      const now = microTime(clock.now());
      const created = await client.request<Lease>({
        method: "POST",
        path: this.#path,
        timeoutMs: REQUEST_MS,
        body: {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name: this.#o.lease, namespace: this.#o.namespace },
          spec: this.#spec(epoch, now, now),
        },
      });
      return this.#acquired(created, epoch, begun);
    }
    this.#see(lease);
    const held = lease.spec?.holderIdentity ?? "";
    if (held !== "" && clock.monotonic() < (this.#seen?.at ?? 0) + leaseMs(lease)) return false;
    const epoch = this.#nextEpoch();
    const now = microTime(clock.now());
    const taken = await this.#put(lease, this.#spec(epoch, now, now));
    return this.#acquired(taken, epoch, begun);
  }

  /** Never one that was used: a Lease can have been deleted, made anew or edited since. */
  #nextEpoch(): number {
    return Math.max(this.#highest, this.#o.usedEpoch?.() ?? 0) + 1;
  }

  #acquired(lease: Lease, epoch: number, begun: number): true {
    this.#see(lease);
    this.#epoch = epoch;
    this.#renewedAt = begun;
    return true;
  }

  /** Remembers when the lease last changed, by the own clock. */
  #see(lease: Lease): void {
    this.#highest = Math.max(this.#highest, lease.spec?.leaseTransitions ?? 0);
    if (this.#seen?.lease.metadata.resourceVersion !== lease.metadata.resourceVersion)
      this.#seen = { lease, at: this.#o.clock.monotonic() };
  }

  async #watch(signal: AbortSignal, changed: () => void): Promise<void> {
    const { client, clock, lease } = this.#o;
    while (!signal.aborted) {
      try {
        for await (const event of client.watch<Lease>(this.#path, { fieldSelector: `metadata.name=${lease}` }, signal)) {
          if (event.type === "ADDED" || event.type === "MODIFIED") this.#see(event.object);
          changed();
        }
      } catch {
        // The lease is looked at every two seconds all the same.
      }
      await sleep(clock, RETRY_MS, signal);
    }
  }

  // ---- staying leader --------------------------------------------------------------------------------------------

  /** Renews until `signal` aborts (true) or the lease is lost (false). */
  async #renew(signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#o;
    for (;;) {
      await sleep(clock, RETRY_MS, signal);
      if (signal.aborted) return true;
      const begun = clock.monotonic();
      try {
        if (!(await this.#renewOnce(begun))) return false;
      } catch (error) {
        this.#o.onError(`the lease ${this.#o.lease} cannot be renewed: ${messageOf(error)}`);
      }
      if (clock.monotonic() - this.#renewedAt >= RENEW_DEADLINE_MS) return false;
    }
  }

  /** Writes the lease anew; false when somebody else has it. */
  async #renewOnce(begun: number): Promise<boolean> {
    const { client, clock, identity, lease: name } = this.#o;
    const epoch = this.#epoch ?? 0;
    let lease = this.#seen?.lease;
    for (let tries = 0; tries < 3; tries++) {
      const spec = lease?.spec;
      if (lease === undefined || spec?.holderIdentity !== identity || spec.leaseTransitions !== epoch) return false;
      try {
        const now = microTime(clock.now());
        this.#see(await this.#put(lease, this.#spec(epoch, spec.acquireTime ?? now, now)));
        this.#renewedAt = begun;
        return true;
      } catch (error) {
        if (isNotFound(error)) return false;
        if (!isConflict(error)) throw error;
        // Somebody has put a label on it, or taken it: what is there now tells.
        lease = await client.request<Lease>({ method: "GET", path: `${this.#path}/${name}`, timeoutMs: REQUEST_MS });
      }
    }
    throw new NightshiftError("CONFLICT", "somebody else writes the lease all the time");
  }

  /** Lets others have it at once: what client-go's `ReleaseOnCancel` does. */
  async #release(epoch: number): Promise<void> {
    // First of all nothing may be done any more.
    this.#epoch = undefined;
    const { client, clock, identity, lease: name, onError } = this.#o;
    await this.#setLabel(this.#o.podName, null, epoch).catch((error: unknown) =>
      onError(`the leader's label could not be taken off: ${messageOf(error)}`),
    );
    try {
      const lease = await client.request<Lease>({ method: "GET", path: `${this.#path}/${name}`, timeoutMs: REQUEST_MS });
      if (lease.spec?.holderIdentity !== identity || lease.spec.leaseTransitions !== epoch) return;
      const now = microTime(clock.now());
      await this.#put(lease, { ...this.#spec(epoch, now, now), holderIdentity: "", leaseDurationSeconds: 1 });
    } catch (error) {
      onError(`the lease ${name} could not be released: ${messageOf(error)}`);
    }
  }

  #spec(epoch: number, acquireTime: string, renewTime: string): NonNullable<Lease["spec"]> {
    return {
      holderIdentity: this.#o.identity,
      leaseDurationSeconds: LEASE_SECONDS,
      acquireTime,
      renewTime,
      leaseTransitions: epoch,
    };
  }

  #put(lease: Lease, spec: NonNullable<Lease["spec"]>): Promise<Lease> {
    return this.#o.client.request<Lease>({
      method: "PUT",
      path: `${this.#path}/${lease.metadata.name}`,
      body: { ...lease, spec: { ...lease.spec, ...spec } },
      timeoutMs: REQUEST_MS,
    });
  }

  // ---- the leader's label ----------------------------------------------------------------------------------------

  /** Labels the own pod, and takes the label off every other, until that has succeeded. */
  async #label(epoch: number, signal: AbortSignal): Promise<void> {
    const { client, clock, namespace, podName, onError } = this.#o;
    if (podName === undefined) return;
    while (!signal.aborted) {
      try {
        await this.#setLabel(podName, "true", epoch);
        const { items = [] } = await client.request<{ items?: readonly { readonly metadata: { readonly name: string } }[] }>({
          method: "GET",
          path: `/api/v1/namespaces/${namespace}/pods`,
          query: { labelSelector: `${LEADER_LABEL}=true` },
        });
        for (const { metadata } of items) if (metadata.name !== podName) await this.#setLabel(metadata.name, null, epoch);
        return;
      } catch (error) {
        onError(`the leader's pod could not be labelled: ${messageOf(error)}`);
      }
      await sleep(clock, RETRY_MS, signal);
    }
  }

  async #setLabel(podName: string | undefined, value: "true" | null, epoch: number): Promise<void> {
    if (podName === undefined) return;
    try {
      await this.#o.client.request({
        method: "PATCH",
        path: `/api/v1/namespaces/${this.#o.namespace}/pods/${podName}`,
        contentType: "application/merge-patch+json",
        body: { metadata: { labels: { [LEADER_LABEL]: value }, annotations: { [MARKS.epoch]: String(epoch) } } },
        timeoutMs: REQUEST_MS,
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function leaseMs(lease: Lease): number {
  return (lease.spec?.leaseDurationSeconds ?? LEASE_SECONDS) * 1000;
}
