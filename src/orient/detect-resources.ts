import type { PolicySignal } from "../api/policy.ts";
import { BELONGS_VARIABLES, OBJECT_VARIABLES } from "../api/signal-expression.ts";
import type { Signal } from "../api/signal.ts";
import { durationMs } from "../api/units.ts";
import type { ObservedObject, Replica, Workload } from "../ports/platform.ts";
import type { Context, signalOf } from "./detect.ts";
import { celMap, celOf, evaluable, type ExpressionValue, type Verdict } from "./expression.ts";
import { seconds } from "./trend.ts";

type Resource = NonNullable<PolicySignal["resource"]>;

/** What a version of an object was found to be by an expression: it does not change, and is asked for in every round. */
const verdicts = new WeakMap<object, Map<string, Verdict>>();

function verdictOf(when: string, version: ObservedObject["versions"][number]): Verdict {
  const { object } = version;
  if (object === undefined) return { state: "Missing", why: "it is too large to be looked at" };
  let known = verdicts.get(object);
  if (known === undefined) verdicts.set(object, (known = new Map()));
  let verdict = known.get(when);
  if (verdict === undefined) known.set(when, (verdict = evaluable(when, OBJECT_VARIABLES).evaluate({ object: celOf(object) })));
  return verdict;
}

/**
 * The conditions of objects that belong to the policy's targets. That it holds without a break is told by the versions that
 * were seen; before the first of them nothing is known. A target that no object belongs to is missing data.
 */
export function resourceSignals(context: Context, resource: Resource, make: typeof signalOf): Signal[] {
  const { policy, signal, surroundings, missing, now, workload } = context;
  const { apiVersion, kind, when } = resource;
  const objects = surroundings?.resources?.({ apiVersion, kind }, policy.metadata.namespace) ?? { problem: "none are known of" };
  if ("problem" in objects) {
    context.unreadable.set(signal.name, objects.problem);
    missing.push(`objects of kind ${kind} (${apiVersion}) for signal ${signal.name} are not known: ${objects.problem}`);
    return [];
  }
  const found: Signal[] = [];
  for (const target of context.whole ? [workload] : context.replicas) {
    const own = objects.filter((object) => belongs(object, target, resource));
    if (own.length === 0) missing.push(`no ${kind} belongs to ${target.ref.name} (signal ${signal.name})`);
    for (const object of own) {
      let since: number | undefined;
      let last: Verdict | undefined;
      for (const version of object.versions.toReversed()) {
        const verdict = verdictOf(when, version);
        last ??= verdict;
        if (verdict.state !== "True") break;
        since = version.seenAt;
      }
      if (last?.state === "Missing")
        missing.push(`the expression of signal ${signal.name} has no value for ${kind} ${object.name}: ${last.why}`);
      if (since === undefined || now - since < durationMs(resource.for)) continue;
      found.push(
        make(context, "resource", target.ref, {
          source: "Kubernetes",
          startsAt: since,
          seenAt: now,
          confidence: 1,
          evidence: [
            {
              kind: "Resource",
              message: `of ${kind} ${object.name}, which belongs to ${target.ref.name}, it is true for ${seconds((now - since) / 1000)} that ${when.trim()}`,
              values: { apiVersion, kind, name: object.name, uid: object.uid, since, expression: when },
            },
          ],
        }),
      );
    }
  }
  // Of several objects of one target the one that has been so the longest.
  return found.toSorted((a, b) => b.startsAt - a.startsAt);
}

/** What `belongs` made of an object, and the object as expressions have it. An object that changes is another, and so is a target. */
const belonging = new WeakMap<
  ObservedObject,
  { readonly value: ExpressionValue; readonly verdicts: Map<string, WeakMap<Workload | Replica, boolean>> }
>();

function belongs(object: ObservedObject, to: Workload | Replica, { name, label, owned, belongs: whose }: Resource): boolean {
  const { ref, labels } = to;
  if (name !== undefined) return object.name === name;
  if (label !== undefined) return Object.hasOwn(object.labels, label) && object.labels[label] === ref.name;
  if (owned === true) return object.owners.includes(ref.uid);
  if (whose === undefined) return object.name === ref.name;
  const newest = object.versions.at(-1)?.object;
  if (newest === undefined) return false;
  let known = belonging.get(object);
  if (known === undefined) belonging.set(object, (known = { value: celOf(newest), verdicts: new Map() }));
  let verdictsOf = known.verdicts.get(whose);
  if (verdictsOf === undefined) known.verdicts.set(whose, (verdictsOf = new WeakMap()));
  let verdict = verdictsOf.get(to);
  if (verdict === undefined) {
    const target = celMap({ kind: ref.kind, name: ref.name, namespace: ref.namespace, uid: ref.uid, labels: celMap(labels) });
    verdict = evaluable(whose, BELONGS_VARIABLES).evaluate({ object: known.value, target }).state === "True";
    verdictsOf.set(to, verdict);
  }
  return verdict;
}
