import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { NightshiftError } from "../../src/api/errors.ts";
import type { ArtifactStore, CapturedFile, Kept } from "./store.ts";

/** Keeps artifacts in a directory: of the node, or of a volume that several nodes share. */
export class DirectoryStore implements ArtifactStore {
  readonly name: string;
  readonly dir: string;

  /** @param dir - the artifacts directory; each node has one of its own in it. */
  constructor(dir: string, node: string) {
    this.name = dir;
    this.dir = join(dir, node);
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
  }

  /** It is captured where it stays: durable, and with the digest of exactly what was written. */
  async keep({ path, bytes }: CapturedFile): Promise<string> {
    if (statSync(path, { throwIfNoEntry: false })?.size !== bytes)
      throw new NightshiftError("ARTIFACT_LOST", "the file is no longer there, or not whole", { where: path });
    return path;
  }

  async list(): Promise<Kept[]> {
    return readdirSync(this.dir).flatMap((file): Kept[] => {
      const path = join(this.dir, file);
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat?.isFile() === true && !file.endsWith(".partial") ? [{ path, bytes: stat.size, at: stat.mtimeMs }] : [];
    });
  }

  async delete(path: string): Promise<void> {
    rmSync(path, { force: true });
  }
}
