import { unsupported } from "../act/plan.ts";
import { NightshiftError } from "../api/errors.ts";
import { AUTHORED_KINDS, type AuthoredKind, parseResources, type ParsedResource, type Problem, problemText } from "../api/parse.ts";
import type { Resource, ResourceOf } from "../api/resources.ts";
import type { Platform } from "../ports/platform.ts";
import type { Store } from "../ports/store.ts";
import { resourceFiles } from "./files.ts";

/** On resources that come from files: they are deleted when the file no longer has them. Others are never touched. */
const FROM_FILE = "nightshift.dev/from-file";

type Authored = ResourceOf[AuthoredKind];

/** Everything that files and directories hold, and all that is wrong in them. */
export async function readResources(paths: readonly string[]): Promise<{ resources: ParsedResource[]; errors: Problem[] }> {
  const resources: ParsedResource[] = [];
  const errors: Problem[] = [];
  for (const { path, text } of (await resourceFiles(paths)).files) {
    const parsed = parseResources(text, path);
    resources.push(...parsed.resources);
    errors.push(...parsed.errors);
  }
  return { resources, errors };
}

/** One error that carries many problems, one a line. */
export function problemsError(
  problems: readonly Problem[],
  what: string,
  fix = "Mend the lines above; nightshift policy check shows them again.",
): NightshiftError {
  return new NightshiftError("INVALID_RESOURCES", `${what} cannot be used:\n${problems.map(problemText).join("\n")}`, { fix });
}

/** Refuses policies that the platform cannot carry out: now, not at night. Throws the first error, which names the others. */
export function refuseUnsupported(resources: readonly ParsedResource[], platform: Pick<Platform, "name" | "effects" | "reports">): void {
  const all = resources.map(({ resource }) => resource);
  const runbook = (namespace: string, name: string): ResourceOf["Runbook"] | undefined =>
    all.find((r): r is ResourceOf["Runbook"] => r.kind === "Runbook" && r.metadata.namespace === namespace && r.metadata.name === name);
  const errors = all.flatMap((r) => (r.kind === "RemediationPolicy" ? unsupported(r, runbook, platform) : []));
  const [first, ...rest] = errors;
  if (first === undefined) return;
  if (rest.length === 0) throw first;
  throw new NightshiftError(
    first.code,
    `${errors.length} rungs cannot be carried out:\n${errors.map((error) => error.toString()).join("\n")}`,
  );
}

/** Makes the store have what the files have, and no longer have what they no longer have. Returns what was changed, one thing a line. */
export async function applyResources(store: Store, resources: readonly ParsedResource[]): Promise<string[]> {
  const changes: string[] = [];
  const wanted = new Set<string>();
  for (const { resource } of resources) {
    wanted.add(keyOf(resource));
    const change = await applyOne(store, withMark(resource));
    if (change !== undefined) changes.push(`${resource.kind} ${resource.metadata.namespace}/${resource.metadata.name} ${change}`);
  }
  for (const kind of AUTHORED_KINDS)
    for (const known of await store.list(kind)) {
      if (wanted.has(keyOf(known)) || known.metadata.annotations?.[FROM_FILE] === undefined) continue;
      await store.delete(kind, known.metadata.namespace, known.metadata.name);
      changes.push(`${kind} ${known.metadata.namespace}/${known.metadata.name} deleted`);
    }
  return changes;
}

async function applyOne(store: Store, resource: Authored): Promise<"created" | "configured" | undefined> {
  const { name, namespace, labels, annotations } = resource.metadata;
  const known = await store.get(resource.kind, namespace, name);
  if (known === undefined) {
    await store.create<AuthoredKind>(resource);
    return "created";
  }
  const content = (r: Authored): string => JSON.stringify([r.spec, r.metadata.labels ?? {}, r.metadata.annotations ?? {}]);
  if (content(known) === content(resource)) return undefined;
  await store.update<AuthoredKind>({ ...resource, metadata: { ...known.metadata, labels, annotations } });
  return "configured";
}

function withMark(resource: Authored): Authored {
  return { ...resource, metadata: { ...resource.metadata, annotations: { ...resource.metadata.annotations, [FROM_FILE]: "true" } } };
}

function keyOf(resource: Resource): string {
  return `${resource.kind}/${resource.metadata.namespace}/${resource.metadata.name}`;
}
