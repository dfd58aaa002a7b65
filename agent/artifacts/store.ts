import type { Artifact } from "../../src/api/remediation.ts";
import { EXTENSION, tagOf } from "../../src/platform/capture/artifact-file.ts";

/** A capture that is whole, in a file of this machine. */
export interface CapturedFile {
  /** Its path, in `ArtifactStore.dir`. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Something that is kept, of whatever age. */
export interface Kept {
  /** As `Artifact.path` has it. */
  readonly path: string;
  readonly bytes: number;
  /** When it was put there (ms since the epoch). */
  readonly at: number;
}

/** Where artifacts are kept. Every method rejects with a `NightshiftError`. */
export interface ArtifactStore {
  /** For people: a directory, or `s3://bucket/prefix`. */
  readonly name: string;
  /** Where files are captured into. */
  readonly dir: string;
  /**
   * Keeps a file for good, verified, and returns where: `Artifact.path`. The file in `dir` is the store's from then on.
   * Doing it again, also after a crash, is harmless.
   */
  keep(file: CapturedFile, signal: AbortSignal): Promise<Artifact["path"]>;
  /** What this node keeps, in any order. */
  list(signal: AbortSignal): Promise<readonly Kept[]>;
  /** Deletes one; nothing happens where it is gone. */
  delete(path: string, signal: AbortSignal): Promise<void>;
}

const NAME = new RegExp(`-[0-9a-f]{16}\\.(?:${Object.values(EXTENSION).join("|")})$`);

/** What an effect's artifact of a pod is called. */
export function artifactName(effectId: string, pod: string, type: Artifact["type"]): string {
  return `${pod}-${tagOf(effectId)}.${EXTENSION[type]}`;
}

/** Whether something is called as `artifactName` says: nothing else is ever deleted. */
export function isArtifactName(path: string): boolean {
  return NAME.test(path);
}
