import { closeSync, copyFileSync, mkdirSync, openSync, statSync, truncateSync } from "node:fs";
import { dirname } from "node:path";

/** Opens a log file for a process to write to. Appending, so that it can be cut while the process writes. */
export function openLog(path: string): { readonly fd: number; close(): void } {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, "a", 0o600);
  return { fd, close: () => closeSync(fd) };
}

/**
 * Moves a log to `<path>.1` once it is larger than `maxBytes`; true when it did.
 * Copied and cut, because processes hold the file open and outlive Nightshift: what is written between the copy and
 * the cut is lost (logrotate's copytruncate has the same gap).
 */
export function rotateLog(path: string, maxBytes: number): boolean {
  try {
    if (statSync(path).size <= maxBytes) return false;
    copyFileSync(path, `${path}.1`);
    truncateSync(path);
    return true;
  } catch {
    return false;
  }
}
