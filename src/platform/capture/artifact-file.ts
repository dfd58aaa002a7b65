import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statfsSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { NightshiftError } from "../../api/errors.ts";
import type { Artifact } from "../../api/remediation.ts";

/** Extensions by which Chrome DevTools knows the files. */
export const EXTENSION: Readonly<Record<Artifact["type"], string>> = {
  HeapSnapshot: "heapsnapshot",
  CpuProfile: "cpuprofile",
  HeapProfile: "heapprofile",
};

/** Size and digest of what was written. */
export type Written = Pick<Artifact, "bytes" | "sha256">;

/** A file that is being captured into, with its digest. It is called `<path>.partial` until `commit`. */
export class ArtifactFile {
  readonly #path: string;
  readonly #hash = createHash("sha256");
  #fd: number | undefined;
  bytes = 0;

  /** @param path - its final name. */
  constructor(path: string) {
    this.#path = partialOf(path);
    this.#fd = openSync(this.#path, "w", 0o600);
  }

  /** Appends. Synchronous: what is not yet read stays with the process that sends it. */
  write(text: string): void {
    if (this.#fd === undefined) throw new NightshiftError("CAPTURE_FAILED", "the capture was abandoned");
    const data = Buffer.from(text);
    for (let at = 0; at < data.length;) at += writeSync(this.#fd, data, at);
    this.#hash.update(data);
    this.bytes += data.length;
  }

  /** Makes what was written durable. */
  async finish(): Promise<Written> {
    this.#close();
    const file = await open(this.#path, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    return { bytes: this.bytes, sha256: this.#hash.digest("hex") };
  }

  /** Removes it. */
  discard(): void {
    this.#close();
    rmSync(this.#path, { force: true });
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** What a file is called until it is whole and its digest is on record. */
export function partialOf(path: string): string {
  return `${path}.partial`;
}

/** Gives a durable file its final name, durably. */
export function commit(path: string): void {
  renameSync(partialOf(path), path);
  syncDirectory(dirname(path));
}

/** Makes the names in a directory durable. */
export function syncDirectory(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** What of a file's name belongs to one effect. */
export function tagOf(effectId: string): string {
  return createHash("sha256").update(effectId).digest("hex").slice(0, 16);
}

/** Throws `CAPTURE_NO_SPACE` where a directory's file system has less than `need` bytes free for us. */
export function assertDisk(dir: string, need: number): void {
  const { bavail, bsize } = statfsSync(dir);
  if (bavail * bsize < need)
    throw new NightshiftError("CAPTURE_NO_SPACE", `the capture may need ${mebibytes(need)}, and ${mebibytes(bavail * bsize)} are free`, {
      where: dir,
      fix: "Free space there, or put the directory on a larger file system.",
    });
}

/** Of artifacts, newest first, those beyond the limits: never the newest. */
export function beyondLimits<T extends { readonly bytes: number }>(
  newestFirst: readonly T[],
  limits: { readonly maxBytes: number; readonly maxCount: number },
): T[] {
  let bytes = 0;
  return newestFirst.filter((artifact, index) => {
    bytes += artifact.bytes;
    return index > 0 && (bytes > limits.maxBytes || index >= limits.maxCount);
  });
}

/** The error of a failure to write into `dir`. */
export function explained(error: unknown, dir: string): unknown {
  if (error instanceof NightshiftError) return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG")
    return new NightshiftError("CAPTURE_NO_SPACE", "the disk was full before the capture was whole; what there was of it is removed", {
      where: dir,
      cause: error,
    });
  const message = error instanceof Error ? error.message : String(error);
  return new NightshiftError("CAPTURE_FAILED", `the capture could not be written: ${message}`, { where: dir, cause: error });
}

/** A number of bytes for people. */
export function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
