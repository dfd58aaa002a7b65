import type { ServiceDependency } from "../api/dependency.ts";
import type { TargetRef } from "../api/meta.ts";
import { durationMs, percentShare } from "../api/units.ts";
import type { CallKind, ObservedCall, ServiceName } from "../observe/service-graph.ts";
import type { Workload } from "../ports/platform.ts";

/** One service of the graph. */
export interface ServiceNode {
  /** `namespace/name`; `name` alone where no workload of that name is known, or several. */
  readonly key: string;
  /** Of a service that is no workload here the kind is `Workload`, if its namespace is known, and else `Service`, in `external`. */
  readonly ref: TargetRef;
  /** What runs it, where it is a workload here. */
  readonly workload: Workload | undefined;
}

/** One service that calls another. */
export interface ServiceEdge {
  readonly from: ServiceNode;
  readonly to: ServiceNode;
  readonly kind: CallKind;
  /** Error rate above which the callee is taken for the cause, and the span that it is computed over. */
  readonly unhealthyAbove: number;
  readonly windowMs: number;
  /** Whether a ServiceDependency says so: then its limit holds whatever is usual. */
  readonly declared: boolean;
  /** What was seen of it; empty where it is declared alone. */
  readonly observed: readonly ObservedCall[];
}

/** Error rate above which a service that nobody has declared a limit for may be a cause, and the span (ms): as the defaults of ServiceDependency. */
const UNHEALTHY_ABOVE = 0.1;
const WINDOW_MS = 30_000;

/** What stands for the namespace of a service that is known by its name alone. */
const OUTSIDE = "external";

/** The label by which a workload may be called in telemetry, where its name is another. */
const NAME_LABEL = "app.kubernetes.io/name";

/**
 * Who calls whom: what is declared, completed by what was seen. A name without a namespace is that of the one workload that has
 * it; where several have it nobody knows which is meant, and the call is left out. What goes through a queue is an edge, too,
 * but nobody waits for it: blame is not walked along it.
 */
export class CallGraph {
  readonly #edges = new Map<string, ServiceEdge[]>();
  readonly #into = new Map<string, ServiceEdge[]>();
  readonly #nodes = new Map<string, ServiceNode>();
  readonly #byKey: ReadonlyMap<string, Workload>;
  readonly #byName = new Map<string, Workload | "several">();

  constructor(dependencies: readonly ServiceDependency[], calls: readonly ObservedCall[], workloads: readonly Workload[]) {
    this.#byKey = new Map(workloads.map((workload) => [`${workload.ref.namespace}/${workload.ref.name}`, workload]));
    for (const workload of workloads) note(this.#byName, workload.ref.name, workload);
    const labelled = new Map<string, Workload | "several">();
    for (const workload of workloads) {
      const label = workload.labels[NAME_LABEL];
      if (label !== undefined && !this.#byName.has(label)) note(labelled, label, workload);
    }
    for (const [name, workload] of labelled) this.#byName.set(name, workload);
    for (const { metadata, spec } of dependencies) {
      const from = this.#node({ namespace: metadata.namespace, ...spec.from });
      const to = this.#node({ namespace: metadata.namespace, ...spec.to });
      if (from === undefined || to === undefined || from.key === to.key) continue;
      this.#add({
        from,
        to,
        kind: "Request",
        unhealthyAbove: percentShare(spec.unhealthyAbove),
        windowMs: durationMs(spec.window),
        declared: true,
        observed: [],
      });
    }
    for (const call of calls) {
      const from = this.#node(call.client);
      const to = this.#node(call.server);
      if (from === undefined || to === undefined || from.key === to.key) continue;
      this.#add({ from, to, kind: call.kind, unhealthyAbove: UNHEALTHY_ABOVE, windowMs: WINDOW_MS, declared: false, observed: [call] });
    }
  }

  /** How many services and edges there are. */
  get size(): { readonly services: number; readonly edges: number } {
    let edges = 0;
    for (const list of this.#edges.values()) edges += list.length;
    return { services: this.#nodes.size, edges };
  }

  /** A workload's place in it; undefined where no edge touches it. */
  of({ namespace, name }: Pick<TargetRef, "namespace" | "name">): ServiceNode | undefined {
    return this.#nodes.get(`${namespace}/${name}`);
  }

  /** What a service calls and waits for. */
  callees(node: ServiceNode): readonly ServiceEdge[] {
    return (this.#edges.get(node.key) ?? []).filter(({ kind }) => kind !== "Queue");
  }

  /** Every edge that leads to a service, queues among them. */
  callers(node: ServiceNode): readonly ServiceEdge[] {
    return this.#into.get(node.key) ?? [];
  }

  #node({ namespace, name }: ServiceName): ServiceNode | undefined {
    const found =
      namespace === undefined ? this.#byName.get(name) : (this.#byKey.get(`${namespace}/${name}`) ?? this.#labelled(namespace, name));
    if (found === "several") return undefined;
    const key =
      found === undefined ? (namespace === undefined ? name : `${namespace}/${name}`) : `${found.ref.namespace}/${found.ref.name}`;
    let node = this.#nodes.get(key);
    if (node === undefined) {
      const ref = found?.ref ?? { kind: namespace === undefined ? "Service" : "Workload", namespace: namespace ?? OUTSIDE, name };
      node = { key, ref, workload: found };
      this.#nodes.set(key, node);
    }
    return node;
  }

  #labelled(namespace: string, name: string): Workload | undefined {
    const found = this.#byName.get(name);
    return found === undefined || found === "several" || found.ref.namespace !== namespace ? undefined : found;
  }

  #add(edge: ServiceEdge): void {
    const list = this.#edges.get(edge.from.key) ?? [];
    const at = list.findIndex(({ to, kind }) => to === edge.to && (kind === edge.kind || edge.kind === "External" || kind === "External"));
    const known = list[at];
    const into = this.#into.get(edge.to.key) ?? [];
    this.#edges.set(edge.from.key, list);
    this.#into.set(edge.to.key, into);
    if (known === undefined) {
      list.push(edge);
      into.push(edge);
      return;
    }
    // What is declared keeps its limit, and what was seen of it is added.
    const merged: ServiceEdge = {
      ...known,
      kind: known.declared ? known.kind : edge.kind,
      observed: [...known.observed, ...edge.observed],
    };
    list[at] = merged;
    into[into.indexOf(known)] = merged;
  }
}

function note(names: Map<string, Workload | "several">, name: string, workload: Workload): void {
  names.set(name, names.has(name) ? "several" : workload);
}
