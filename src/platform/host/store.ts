import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { NightshiftError } from "../../api/errors.ts";
import { KINDS, type Kind } from "../../api/meta.ts";
import type { Resource, ResourceOf } from "../../api/resources.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { Store, WatchEvent } from "../../ports/store.ts";
import { admitCreate, admitDelete, admitUpdate, deepFreeze, resourceKey, validated, type Lookup } from "../admission.ts";
import { ResourceCache } from "../resource-cache.ts";
import { systemClock } from "./clock.ts";
import { systemRandom } from "./random.ts";

/** Layout of the tables. Raised when an older Nightshift could not read what a newer one writes. */
const STORE_VERSION = 1;
/** How often the file is asked whether another process has written. */
const POLL_MS = 200;
/** How long a write waits for another process' write. The event loop stands still meanwhile, so: not for long. */
const BUSY_TIMEOUT_MS = 2_000;
/** Deletions that are remembered for other processes; one that lags further behind compares everything. */
const TOMBSTONES_KEPT = 1_000;

/** Primary result codes of SQLite (https://www.sqlite.org/rescode.html). */
const SQLITE = { BUSY: 5, LOCKED: 6, READONLY: 8, CORRUPT: 11, FULL: 13, CANTOPEN: 14, NOTADB: 26 } as const;

const LAYOUT = `
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resources (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, json TEXT NOT NULL,
  PRIMARY KEY (kind, namespace, name)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS resources_version ON resources (version);
CREATE TABLE IF NOT EXISTS tombstones (
  version INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL
) STRICT;
INSERT OR IGNORE INTO meta VALUES ('storeVersion', ${STORE_VERSION}), ('version', 0), ('trimmedTo', 0);
`;

interface ResourceRow {
  readonly version: number;
  readonly json: string;
}

interface TombstoneRow {
  readonly version: number;
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

/** A write that waits for its turn, with what it comes to once the transaction is durable. */
interface QueuedWrite {
  readonly run: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Primary result code of what SQLite threw; undefined for any other error. */
function resultCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

/** What SQLite threw, in words that help. */
function explained(error: unknown, path: string): NightshiftError {
  if (error instanceof NightshiftError) return error;
  const code = resultCode(error);
  const options = { where: path, cause: error };
  const detail = error instanceof Error ? error.message : String(error);
  if (code === SQLITE.CORRUPT || code === SQLITE.NOTADB || error instanceof SyntaxError)
    return new NightshiftError("STORE_CORRUPT", `the store cannot be read (${detail})`, {
      ...options,
      fix: `Stop Nightshift and move the file, its -wal and its -shm away: a new one is made at the next start, without history. \`sqlite3 ${path} .recover\` saves what is left in the old one.`,
    });
  const fixes: Readonly<Record<number, string>> = {
    [SQLITE.FULL]: "Free space on the file system that holds it; nothing was lost that had been confirmed.",
    [SQLITE.BUSY]: "Another process holds a write on it: try again, or end that process.",
    [SQLITE.LOCKED]: "Another process holds a write on it: try again, or end that process.",
    [SQLITE.READONLY]: "Make the file and its directory writable for this user.",
    [SQLITE.CANTOPEN]: "Make its directory writable for this user, or name another state directory.",
  };
  return new NightshiftError("STORE_UNAVAILABLE", `the store cannot be used (${detail})`, {
    ...options,
    fix: (code === undefined ? undefined : fixes[code]) ?? "Look at the file system that holds it; then try again.",
  });
}

/**
 * Resources in one SQLite file, for any number of processes on one machine. Reads come from memory and are as new as the
 * file; a write is one durable transaction, and writes that are asked for together share one.
 */
export class SqliteStore implements Store {
  /** The file. */
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #cache = new ResourceCache();
  readonly #statements: {
    readonly dataVersion: StatementSync;
    readonly meta: StatementSync;
    readonly setMeta: StatementSync;
    readonly changed: StatementSync;
    readonly deleted: StatementSync;
    readonly put: StatementSync;
    readonly remove: StatementSync;
    readonly bury: StatementSync;
    readonly oldestKept: StatementSync;
    readonly trim: StatementSync;
  };
  #queue: QueuedWrite[] = [];
  /** What the running transaction has written, by kind and key; null where it deleted. */
  #staged = new Map<string, Resource | null>();
  /** Writes of the running transaction, in order, for the cache once it is durable. */
  #applied: (() => void)[] = [];
  /** Newest version that the cache holds; in a transaction, that it has given out. */
  #version = 0;
  /** `PRAGMA data_version` at the last look: changes when another connection commits. */
  #dataVersion = -1;
  #cancelPoll: () => void = () => {};
  #closed = false;

  private constructor(path: string, db: DatabaseSync, clock: Clock, random: Random) {
    this.path = path;
    this.#db = db;
    this.#clock = clock;
    this.#random = random;
    this.#statements = {
      dataVersion: db.prepare("PRAGMA data_version"),
      meta: db.prepare("SELECT value FROM meta WHERE key = ?"),
      setMeta: db.prepare("UPDATE meta SET value = ? WHERE key = ?"),
      changed: db.prepare("SELECT version, json FROM resources WHERE version > ? ORDER BY version"),
      deleted: db.prepare("SELECT version, kind, namespace, name FROM tombstones WHERE version > ? ORDER BY version"),
      put: db.prepare(
        "INSERT INTO resources VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version, json = excluded.json",
      ),
      remove: db.prepare("DELETE FROM resources WHERE kind = ? AND namespace = ? AND name = ?"),
      bury: db.prepare("INSERT INTO tombstones VALUES (?, ?, ?, ?)"),
      oldestKept: db.prepare(`SELECT version FROM tombstones ORDER BY version DESC LIMIT 1 OFFSET ${TOMBSTONES_KEPT}`),
      trim: db.prepare("DELETE FROM tombstones WHERE version <= ?"),
    };
    this.#refreshIfChanged();
    this.#poll();
  }

  /**
   * Opens the store, and makes it where there is none, readable for this user only.
   * @throws NightshiftError `STORE_CORRUPT`, `STORE_VERSION` (a newer Nightshift wrote it) or `STORE_UNAVAILABLE`.
   */
  static open(path: string, clock: Clock = systemClock, random: Random = systemRandom): SqliteStore {
    let db: DatabaseSync | undefined;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const isNew = !existsSync(path);
      db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
      if (isNew) chmodSync(path, 0o600);
      prepare(db, path);
      return new SqliteStore(path, db, clock, random);
    } catch (error) {
      db?.close();
      throw explained(error, path);
    }
  }

  /** The database, for tables of its owner's own. Writes belong into `transaction`. */
  get database(): DatabaseSync {
    return this.#db;
  }

  /**
   * Runs `fn` in a write transaction, durable when this returns; rolled back when `fn` throws. Not for the tables of the
   * store itself. `fn` is synchronous, and no call of this method may be inside it.
   * @throws what `fn` throws; NightshiftError `STORE_UNAVAILABLE` or `STORE_CORRUPT`.
   */
  transaction<T>(fn: (database: DatabaseSync) => T): T {
    this.#assertOpen();
    try {
      this.#db.exec("BEGIN IMMEDIATE");
      const result = fn(this.#db);
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some errors.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw resultCode(error) === undefined ? error : explained(error, this.path);
    }
  }

  async get<K extends Kind>(kind: K, namespace: string, name: string): Promise<ResourceOf[K] | undefined> {
    this.#freshen();
    return this.#cache.get(kind, resourceKey(kind, namespace, name));
  }

  async list<K extends Kind>(kind: K, namespace?: string): Promise<readonly ResourceOf[K][]> {
    this.#freshen();
    return this.#cache.list(kind, namespace);
  }

  async create<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    return await this.#write(() =>
      this.#stage(
        admitCreate(this.#lookup, copy, () => ({
          uid: this.#random.uuid(),
          resourceVersion: this.#nextVersion(),
          now: this.#clock.now(),
        })),
      ),
    );
  }

  async update<K extends Kind>(object: ResourceOf[K] & { readonly kind: K }): Promise<ResourceOf[K]> {
    const copy: ResourceOf[K] = validated<ResourceOf[K]>(object);
    return await this.#write(() => {
      const before = this.#version;
      const stored = admitUpdate(this.#lookup, copy, () => this.#nextVersion());
      return this.#version === before ? stored : this.#stage(stored);
    });
  }

  async delete(kind: Kind, namespace: string, name: string, resourceVersion?: string): Promise<void> {
    await this.#write(() => {
      const { metadata } = admitDelete(this.#lookup, kind, namespace, name, resourceVersion);
      const key = resourceKey(kind, namespace, name);
      const version = this.#nextVersion();
      this.#statements.remove.run(kind, metadata.namespace, metadata.name);
      this.#statements.bury.run(Number(version), kind, metadata.namespace, metadata.name);
      const oldest = this.#statements.oldestKept.get() as { version: number } | undefined;
      if (oldest !== undefined) {
        this.#statements.trim.run(oldest.version);
        this.#statements.setMeta.run(oldest.version, "trimmedTo");
      }
      this.#staged.set(stagedKey(kind, key), null);
      this.#applied.push(() => this.#cache.delete(kind, key, version));
    });
  }

  watch<K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<WatchEvent<K>> {
    this.#freshen();
    return this.#cache.watch(kind, signal);
  }

  /** Finishes the writes that were asked for, ends every watch and closes the file. Later calls reject. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#cancelPoll();
    this.#cache.close();
    this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  readonly #lookup: Lookup = (kind, key) => {
    const staged = this.#staged.get(stagedKey(kind, key));
    return staged === undefined ? this.#cache.get(kind, key) : (staged ?? undefined);
  };

  #assertOpen(): void {
    if (this.#closed) throw new NightshiftError("STORE_UNAVAILABLE", "the store is closed", { where: this.path });
  }

  #nextVersion(): string {
    this.#version += 1;
    return String(this.#version);
  }

  #stage<R extends Resource>(object: R): R {
    const { namespace, name, resourceVersion } = object.metadata;
    this.#statements.put.run(object.kind, namespace, name, Number(resourceVersion), JSON.stringify(object));
    this.#staged.set(stagedKey(object.kind, resourceKey(object.kind, namespace, name)), object);
    this.#applied.push(() => this.#cache.put(object));
    return object;
  }

  /** Queues a write. What is queued in one turn is one transaction, so that many writes cost one fsync. */
  #write<T>(run: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run, resolve: resolve as (value: unknown) => void, reject });
      if (this.#queue.length === 1) queueMicrotask(() => this.#flush());
    });
  }

  #flush(): void {
    const batch = this.#queue;
    this.#queue = [];
    if (batch.length === 0) return;
    const settle: (() => void)[] = [];
    let known = this.#version;
    try {
      this.transaction(() => {
        this.#refreshIfChanged();
        known = this.#version;
        for (const { run, resolve, reject } of batch) {
          try {
            const value = run();
            settle.push(() => resolve(value));
          } catch (error) {
            // A write that the rules refuse has written nothing, and the others go on.
            if (!(error instanceof NightshiftError)) throw error;
            settle.push(() => reject(error));
          }
        }
        if (this.#applied.length > 0) this.#statements.setMeta.run(this.#version, "version");
      });
      for (const apply of this.#applied) apply();
      for (const done of settle) done();
    } catch (error) {
      // Whether it took effect is for the file to say: look at it before anything else.
      this.#version = known;
      this.#dataVersion = -1;
      for (const { reject } of batch) reject(explained(error, this.path));
    } finally {
      this.#staged.clear();
      this.#applied = [];
    }
  }

  /** Takes over what other processes have written. */
  #freshen(): void {
    this.#assertOpen();
    try {
      this.#refreshIfChanged();
    } catch (error) {
      throw explained(error, this.path);
    }
  }

  #refreshIfChanged(): void {
    const { data_version: dataVersion } = this.#statements.dataVersion.get() as { data_version: number };
    if (dataVersion === this.#dataVersion) return;
    if (this.#db.isTransaction) this.#refresh();
    else {
      // One read transaction, so that objects and deletions are of the same moment.
      this.#db.exec("BEGIN");
      try {
        this.#refresh();
      } finally {
        this.#db.exec("COMMIT");
      }
    }
    this.#dataVersion = dataVersion;
  }

  #refresh(): void {
    const version = this.#meta("version");
    if (version === this.#version) return;
    if (this.#meta("trimmedTo") > this.#version) this.#forgetMissing(version);
    const deleted = this.#statements.deleted.all(this.#version) as unknown as TombstoneRow[];
    const changed = this.#statements.changed.all(this.#version) as unknown as ResourceRow[];
    const bury = (until: number): void => {
      for (let first = deleted[0]; first !== undefined && first.version < until; first = deleted[0]) {
        deleted.shift();
        this.#cache.delete(first.kind, resourceKey(first.kind, first.namespace, first.name), String(first.version));
      }
    };
    for (const row of changed) {
      bury(row.version);
      this.#cache.put(deepFreeze(JSON.parse(row.json) as Resource));
    }
    bury(Number.POSITIVE_INFINITY);
    this.#version = version;
  }

  /** Deletes from the cache what the file no longer has, or has again as another object: for deletions already forgotten. */
  #forgetMissing(version: number): void {
    const uids = new Map<string, string | undefined>();
    for (const { json } of this.#statements.changed.all(-1) as unknown as ResourceRow[]) {
      const { kind, metadata } = JSON.parse(json) as Resource;
      uids.set(stagedKey(kind, resourceKey(kind, metadata.namespace, metadata.name)), metadata.uid);
    }
    for (const kind of KINDS)
      for (const { metadata } of this.#cache.list(kind)) {
        const key = resourceKey(kind, metadata.namespace, metadata.name);
        if (uids.get(stagedKey(kind, key)) !== metadata.uid) this.#cache.delete(kind, key, String(version));
      }
  }

  #meta(key: string): number {
    return (this.#statements.meta.get(key) as { value: number }).value;
  }

  #poll(): void {
    this.#cancelPoll = this.#clock.after(
      POLL_MS,
      () => {
        try {
          this.#refreshIfChanged();
        } catch {
          // The next call that needs the file reports it; until then watchers hear nothing new, which is true.
        }
        this.#poll();
      },
      { background: true },
    );
  }
}

function stagedKey(kind: Kind, key: string): string {
  return `${kind}\0${key}`;
}

/** Makes the tables, or checks that they are ours. */
function prepare(db: DatabaseSync, path: string): void {
  retryWhileBusy(() => {
    const { journal_mode: mode } = db.prepare("PRAGMA journal_mode = WAL").get() as { journal_mode: string };
    if (mode !== "wal")
      throw new NightshiftError("STORE_UNAVAILABLE", `the file system does not support a write-ahead log (${mode})`, {
        where: path,
        fix: "Put the state directory on a local file system.",
      });
  });
  // FULL: a commit returns after the log is on disk, so that it survives a loss of power.
  db.exec("PRAGMA synchronous = FULL");
  const check = db.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
  if (check.quick_check !== "ok") throw Object.assign(new Error(check.quick_check), { errcode: SQLITE.CORRUPT });
  retryWhileBusy(() => {
    db.exec("BEGIN IMMEDIATE");
    try {
      const exists = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get() !== undefined;
      const row = exists ? db.prepare("SELECT value FROM meta WHERE key = 'storeVersion'").get() : undefined;
      const version = (row as { value: number } | undefined)?.value ?? STORE_VERSION;
      if (version > STORE_VERSION)
        throw new NightshiftError(
          "STORE_VERSION",
          `the store has layout ${version}; this Nightshift knows layouts up to ${STORE_VERSION}`,
          {
            where: path,
            fix: "Use the newer Nightshift that wrote it, or another state directory.",
          },
        );
      if (row === undefined) db.exec(LAYOUT);
      db.exec("COMMIT");
    } finally {
      if (db.isTransaction) db.exec("ROLLBACK");
    }
  });
}

/** For the moments in which SQLite does not wait by itself: two processes that open a new file at once. */
function retryWhileBusy(fn: () => void): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 1; ; tries += 1) {
    try {
      return fn();
    } catch (error) {
      if (resultCode(error) !== SQLITE.BUSY || tries * 20 > BUSY_TIMEOUT_MS) throw error;
      Atomics.wait(pause, 0, 0, 20);
    }
  }
}
