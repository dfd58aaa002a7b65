import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { messageOf, NightshiftError } from "../../api/errors.ts";

/** Holds a state directory until `release`, or until this process dies. */
export interface StateLock {
  release(): void;
}

/**
 * Takes the state directory, so that two Nightshifts never supervise the same processes.
 *
 * The lock is SQLite's own on a file beside the database: the kernel drops it when its holder dies in whatever way, so a
 * dead holder's lock is free at once and there is no take-over that two could win. Rejects with `STATE_IN_USE`.
 */
export function lockState(stateDir: string): StateLock {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, "nightshift.lock");
  const db = openLock(path);
  try {
    // A rollback journal lets the holder's pid be read while it holds the lock.
    db.exec("CREATE TABLE IF NOT EXISTS holder (pid INTEGER NOT NULL)");
    db.exec("BEGIN IMMEDIATE; DELETE FROM holder");
    db.prepare("INSERT INTO holder (pid) VALUES (?)").run(process.pid);
    db.exec("COMMIT; BEGIN IMMEDIATE");
  } catch (cause) {
    const holder = holderOf(db);
    db.close();
    if (!isBusy(cause)) throw unusable(path, cause);
    throw new NightshiftError(
      "STATE_IN_USE",
      `another Nightshift${holder === undefined ? "" : ` (pid ${holder})`} uses this state directory`,
      {
        where: stateDir,
        fix: "Stop it, or give this one another directory with --state.",
      },
    );
  }
  return { release: () => db.close() };
}

function openLock(path: string): DatabaseSync {
  try {
    // For its owner only: whoever could read it could hold it, too.
    closeSync(openSync(path, "a", 0o600));
    return new DatabaseSync(path, { timeout: 0 });
  } catch (cause) {
    throw unusable(path, cause);
  }
}

function unusable(path: string, cause: unknown): NightshiftError {
  return new NightshiftError("STATE_UNUSABLE", `the state directory cannot be locked: ${messageOf(cause)}`, {
    where: path,
    fix: "Make the directory writable for this user, or name another with --state.",
    cause,
  });
}

function holderOf(db: DatabaseSync): number | undefined {
  try {
    const row = db.prepare("SELECT pid FROM holder").get();
    return typeof row?.["pid"] === "number" ? row["pid"] : undefined;
  } catch {
    return undefined;
  }
}

/** SQLITE_BUSY, extended codes included. */
function isBusy(error: unknown): boolean {
  return ((error as { errcode?: number }).errcode ?? 0) % 256 === 5;
}
