import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import { MARKS, POD_TEMPLATE_HASH, SERVICE_NAME } from "../marks.ts";
import type { EndpointSlice, Owner, Pod, Service } from "../objects.ts";
import { type OwnerKind, OWNER_KINDS, projectSlice } from "../records.ts";
import { serviceSelects } from "../selector.ts";
import { annotation, type Deps, list, nameOf, read } from "./shared.ts";

/** Services that select the pod, by its labels. */
export async function servicesOf(pod: Pod, deps: Deps, signal: AbortSignal): Promise<readonly Service[]> {
  const services = await list<Service>(deps, "Service", pod.metadata.namespace, {}, signal);
  return services.filter((service) => serviceSelects(service.spec?.selector, pod.metadata.labels ?? {}));
}

/**
 * The labels to take off so that no Service selects the pod any more: as few as possible, as policies and dashboards go by
 * labels too. Labels that its owner knows it by are left: without them the owner would lose it.
 *
 * @throws NightshiftError `NOT_REMOVABLE_FROM_TRAFFIC` where a Service goes by nothing else.
 */
export async function labelsToRemove(
  pod: Pod,
  services: readonly Service[],
  deps: Deps,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const labels = pod.metadata.labels ?? {};
  const { kept, owner } = await ownersLabels(pod, deps, signal);
  const removed: Record<string, string> = {};
  for (const { spec, metadata } of services) {
    const keys = Object.keys(spec?.selector ?? {});
    if (keys.some((key) => Object.hasOwn(removed, key))) continue;
    const key = keys.find((candidate) => !kept.has(candidate));
    if (key === undefined)
      throw new NightshiftError(
        "NOT_REMOVABLE_FROM_TRAFFIC",
        `Service ${metadata.namespace ?? ""}/${metadata.name} selects ${pod.metadata.name} by labels that ${owner} knows it by: without them it would be lost to its owner`,
        { fix: "Evict it instead, or let the Service select by one label more." },
      );
    removed[key] = labels[key] ?? "";
  }
  return removed;
}

/** The labels by which a pod's owner knows it. One that was detached has none to lose. */
async function ownersLabels(pod: Pod, deps: Deps, signal: AbortSignal): Promise<{ kept: ReadonlySet<string>; owner: string }> {
  const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
  const none = { kept: new Set<string>(), owner: "" };
  if (annotation(pod, MARKS.detachedFrom) !== undefined || controller === undefined) return none;
  const owner = `${controller.kind} ${controller.name}`;
  if (!(OWNER_KINDS as readonly string[]).includes(controller.kind))
    return { kept: new Set(Object.keys(pod.metadata.labels ?? {})), owner };
  const ref: TargetRef = { kind: controller.kind, namespace: pod.metadata.namespace ?? "", name: controller.name };
  const object = await read<Owner>(deps, controller.kind as OwnerKind, ref, signal);
  const { matchLabels = {}, matchExpressions = [] } = object?.spec.selector ?? {};
  return { kept: new Set([POD_TEMPLATE_HASH, ...Object.keys(matchLabels), ...matchExpressions.map(({ key }) => key)]), owner };
}

/** Names of the Services whose EndpointSlices have the pod. */
export async function servedBy(pod: Pod, deps: Deps, signal?: AbortSignal): Promise<string[]> {
  const slices = await list<EndpointSlice>(deps, "EndpointSlice", pod.metadata.namespace, { labelSelector: SERVICE_NAME }, signal);
  const names = slices
    .map(projectSlice)
    .filter((slice) => slice.endpoints.some(({ uid, pod: name }) => (uid === "" ? name === pod.metadata.name : uid === pod.metadata.uid)))
    .map((slice) => slice.service);
  return [...new Set(names)].sort();
}

/** The labels that were taken off a pod; undefined where none were. */
export function removedLabels(pod: Pod): Record<string, string> | undefined {
  const text = annotation(pod, MARKS.removedLabels);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Record<string, string>;
  } catch (cause) {
    throw new NightshiftError("INVALID", `${nameOf("Pod", pod)}: the annotation ${MARKS.removedLabels} is not what Nightshift wrote`, {
      fix: "Put the labels back by hand and take the annotation off.",
      cause,
    });
  }
}
