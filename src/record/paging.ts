/** What a person on call gets. */
export interface Page {
  /** The same for every delivery of the same incident, so that a receiver that got it twice shows it once. */
  readonly dedupKey: string;
  readonly severity: "Page" | "Info";
  /** One line. */
  readonly summary: string;
  /** `namespace/name` of the Remediation. */
  readonly remediation: string;
  readonly policy: string;
  readonly target: string;
  /** Why Nightshift gave up, with the evidence, one thing a line. */
  readonly details: readonly string[];
  /** Where it asks for a yes or no: about which Remediation (by its uid), and which target. */
  readonly question?: { readonly namespace: string; readonly name: string; readonly uid: string; readonly targetUid?: string | undefined };
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** Somewhere that pages go. */
export interface Receiver {
  readonly name: string;
  /** Resolves once the receiver has confirmed it; rejects with a `NightshiftError` otherwise. */
  send(page: Page, signal: AbortSignal): Promise<void>;
  /** Tells it that the incident of the page is over; resolves and rejects as `send`. A receiver without it keeps no incidents. */
  resolve?(page: Page, signal: AbortSignal): Promise<void>;
}

/**
 * Receivers that are told of something by whoever leads: `epoch` throws where the lease may be lost. A process that was frozen would
 * else tell, once it is thawed, of an incident that another leader has seen to meanwhile, and nobody would tell of its end.
 */
export function byLeader(receivers: readonly Receiver[], epoch: () => number): readonly Receiver[] {
  return receivers.map((receiver) => ({
    name: receiver.name,
    send: async (page, signal) => {
      epoch();
      await receiver.send(page, signal);
    },
    ...(receiver.resolve === undefined
      ? {}
      : {
          resolve: async (page, signal) => {
            epoch();
            await receiver.resolve?.(page, signal);
          },
        }),
  }));
}
