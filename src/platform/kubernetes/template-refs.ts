import type { PodSpec } from "./objects.ts";

interface NamedRef {
  readonly name?: string;
}
interface ContainerSources {
  readonly envFrom?: readonly { readonly configMapRef?: NamedRef }[];
  readonly env?: readonly { readonly valueFrom?: { readonly configMapKeyRef?: NamedRef } }[];
}
interface VolumeSources {
  readonly configMap?: NamedRef;
  readonly projected?: { readonly sources?: readonly { readonly configMap?: NamedRef }[] };
}

/** The ConfigMaps that pods of a template are given, by name, each once: as files, and as variables of their environment. */
export function configMapsOf(spec: PodSpec | undefined): readonly string[] {
  if (spec === undefined) return [];
  const {
    volumes = [],
    containers,
    initContainers = [],
  } = spec as PodSpec & {
    readonly volumes?: readonly VolumeSources[];
    readonly containers: readonly ContainerSources[];
    readonly initContainers?: readonly ContainerSources[];
  };
  const names = [
    ...volumes.flatMap(({ configMap, projected }) => [
      configMap?.name,
      ...(projected?.sources ?? []).map((source) => source.configMap?.name),
    ]),
    ...[...initContainers, ...containers].flatMap(({ envFrom = [], env = [] }) => [
      ...envFrom.map(({ configMapRef }) => configMapRef?.name),
      ...env.map(({ valueFrom }) => valueFrom?.configMapKeyRef?.name),
    ]),
  ];
  return [...new Set(names.flatMap((name) => (name === undefined || name === "" ? [] : [name])))].toSorted();
}
