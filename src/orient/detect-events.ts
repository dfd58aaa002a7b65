import type { PolicySignal } from "../api/policy.ts";
import type { Signal } from "../api/signal.ts";
import { durationMs } from "../api/units.ts";
import type { ObservedObject } from "../ports/platform.ts";
import type { Context, signalOf } from "./detect.ts";
import { seconds } from "./trend.ts";

/** What is read of an event, as the platform keeps it. Times are ms since the epoch. */
export interface ObservedEvent {
  readonly reason: string;
  readonly message: string;
  /** How often it has happened since `first`. */
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

const eventOf = (version: ObservedObject["versions"][number]): ObservedEvent | undefined => version.object as ObservedEvent | undefined;

/**
 * How often an event happened from `since` (ms) on, at least: one object stands for all that are alike and counts them, so that
 * what its count was before that time is taken off. Where that was not seen, only the last is known to lie after it.
 */
function happened({ versions }: ObservedObject, since: number): number {
  const seen = versions.flatMap((version) => eventOf(version) ?? []);
  const newest = seen.at(-1);
  if (newest === undefined || newest.last < since) return 0;
  if (newest.first >= since) return newest.count;
  const before = seen.findLast(({ last }) => last < since)?.count ?? (seen[0]?.count ?? 1) - 1;
  return Math.max(1, newest.count - before);
}

/** Events of type `Warning` about the policy's targets. */
export function eventSignals(
  context: Context,
  { reason, count, within }: NonNullable<PolicySignal["event"]>,
  make: typeof signalOf,
): Signal[] {
  const { policy, signal, surroundings, missing, now, workload } = context;
  const events = surroundings?.resources?.({ apiVersion: "v1", kind: "Event" }, policy.metadata.namespace) ?? {
    problem: "none are known of",
  };
  if ("problem" in events) {
    context.unreadable.set(signal.name, events.problem);
    missing.push(`events for signal ${signal.name} are not known: ${events.problem}`);
    return [];
  }
  const since = now - durationMs(within);
  const found: Signal[] = [];
  const own = events.filter(({ versions }) => versions.some((version) => eventOf(version)?.reason === reason));
  for (const target of [...(context.whole ? [workload] : []), ...context.replicas]) {
    const about = own.filter(({ owners }) => owners.includes(target.ref.uid));
    const times = about.reduce((sum, event) => sum + happened(event, since), 0);
    if (times < count) continue;
    const all = about.flatMap(({ versions }) => versions.slice(-1).flatMap((version) => eventOf(version) ?? []));
    const newest = all.toSorted((a, b) => b.last - a.last)[0];
    if (newest === undefined) continue;
    found.push(
      make(context, "event", target.ref, {
        source: "Kubernetes",
        startsAt: Math.max(since, Math.min(...all.map(({ first }) => first))),
        seenAt: now,
        confidence: 1,
        evidence: [
          {
            kind: "Event",
            message: `${times === 1 ? "1 event" : `${times} events`} ${reason} about ${target.ref.name} in ${seconds((now - since) / 1000)}: ${newest.message}`,
            values: { target: target.ref.name, reason, count: times, withinSeconds: (now - since) / 1000, last: newest.last },
          },
        ],
      }),
    );
  }
  return found;
}
