import { beyondLimits } from "../../src/platform/capture/artifact-file.ts";
import { isArtifactName, type ArtifactStore, type Kept } from "./store.ts";

/** How long and how much is kept. */
export interface ArtifactLimits {
  /** Time from a capture to its deletion (ms). */
  readonly ttlMs: number;
  /** Bytes that one node keeps; the oldest go first, the newest always stays. */
  readonly maxBytes: number;
  /** Artifacts that one node keeps. */
  readonly maxCount: number;
}

/** Why an artifact was deleted. */
export type PruneReason = "Expired" | "Limit";

/**
 * Deletes what has expired or is beyond the limits, and returns what is left. `expiresAt` knows when one was said to
 * expire (ms since the epoch); of one that it does not know, the time in the store counts.
 */
export async function prune(
  store: ArtifactStore,
  limits: ArtifactLimits,
  now: number,
  expiresAt: (path: string) => number | undefined,
  onDelete: (artifact: Kept, why: PruneReason) => void,
  signal: AbortSignal,
): Promise<Kept[]> {
  const kept = (await store.list(signal)).filter(({ path }) => isArtifactName(path));
  const expired = kept.filter(({ path, at }) => (expiresAt(path) ?? at + limits.ttlMs) <= now);
  const alive = kept.filter((artifact) => !expired.includes(artifact)).toSorted((a, b) => b.at - a.at);
  const over = beyondLimits(alive, limits);
  for (const [artifacts, why] of [
    [expired, "Expired"],
    [over, "Limit"],
  ] as const)
    for (const artifact of artifacts) {
      await store.delete(artifact.path, signal);
      onDelete(artifact, why);
    }
  return alive.filter((artifact) => !over.includes(artifact));
}
