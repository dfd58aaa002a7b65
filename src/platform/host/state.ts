import type { SQLInputValue } from "node:sqlite";
import type { Artifact } from "../../api/remediation.ts";
import type { EffectResult } from "../../ports/platform.ts";
import type { SqliteStore } from "./store.ts";

const LAYOUT = `
CREATE TABLE IF NOT EXISTS host_workloads (
  namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, desired INTEGER NOT NULL, declared INTEGER NOT NULL,
  PRIMARY KEY (namespace, name)
) STRICT;
CREATE TABLE IF NOT EXISTS host_instances (uid TEXT PRIMARY KEY, ended_at INTEGER, effect_id TEXT, json TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS host_instances_effect ON host_instances (effect_id) WHERE effect_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS host_vacancies (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS host_effects (
  id TEXT PRIMARY KEY, type TEXT NOT NULL, intended_at INTEGER NOT NULL, ended_at INTEGER, json TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS host_artifacts (effect_id TEXT PRIMARY KEY, captured_at INTEGER NOT NULL, json TEXT NOT NULL) STRICT;
`;

/** How a process ended. */
export interface Exit {
  /** Undefined for one that Nightshift adopted: only a parent is told. */
  readonly code?: number;
  readonly signal?: string;
  /** The kernel killed it, or a process of its cgroup, for want of memory. */
  readonly oomKilled: boolean;
}

/** What is stored of one replica: enough to find it again, and to go on with it. Times are milliseconds since the epoch. */
export interface InstanceRow {
  readonly uid: string;
  readonly namespace: string;
  readonly workload: string;
  readonly name: string;
  readonly effectId?: string;
  readonly replaces?: string;
  readonly port: number;
  readonly inspectPort?: number;
  /** Where it serves its actions, where its workload does. */
  readonly actionsPort?: number;
  readonly cgroup?: string;
  /** Changes when the stack file asks for another process. */
  readonly specHash: string;
  readonly startedAt: number;
  /** Undefined from the intent to start until the start. */
  readonly pid?: number;
  /** See `processIdentity`. */
  readonly identity?: string;
  readonly stopping: boolean;
  readonly ready: boolean;
  readonly everReady: boolean;
  readonly unreadySince?: number;
  readonly outOfTraffic: boolean;
  readonly restarts: number;
  /** The wait before this start, in ms. */
  readonly backoffMs: number;
  readonly endedAt?: number;
  readonly exit?: Exit;
}

/** A place that a crashed replica left, to be filled at `notBefore`. */
export interface Vacancy {
  readonly id: string;
  readonly namespace: string;
  readonly workload: string;
  readonly restarts: number;
  readonly backoffMs: number;
  readonly notBefore: number;
}

/** What is stored of a workload. */
export interface WorkloadRow {
  readonly uid: string;
  /** Replicas that it should have. */
  readonly desired: number;
  /** What the stack file said when `desired` was stored: a newer file wins over an older Scale. */
  readonly declared: number;
}

/** How an effect ended. */
export type EffectEnd =
  | { readonly ok: true; readonly result: EffectResult }
  | { readonly ok: false; readonly code: string; readonly message: string };

/** An effect that was begun. */
export interface EffectRow {
  readonly id: string;
  readonly type: string;
  readonly end: EffectEnd | undefined;
}

/** Rows of replicas that are gone and of effects that ended stay this long, to answer what became of them. */
const HISTORY_MS = 7 * 86_400_000;

/** The supervisor's tables in the store's database. Each write is durable when it returns. */
export class HostState {
  readonly #store: SqliteStore;

  constructor(store: SqliteStore, now: number) {
    this.#store = store;
    store.transaction((db) => {
      db.exec(LAYOUT);
      db.prepare("DELETE FROM host_instances WHERE ended_at < ?").run(now - HISTORY_MS);
      db.prepare("DELETE FROM host_effects WHERE ended_at < ?").run(now - HISTORY_MS);
    });
  }

  workload(namespace: string, name: string): WorkloadRow | undefined {
    return this.#get("SELECT uid, desired, declared FROM host_workloads WHERE namespace = ? AND name = ?", namespace, name) as
      | WorkloadRow
      | undefined;
  }

  putWorkload(namespace: string, name: string, row: WorkloadRow): void {
    this.#run(
      "INSERT INTO host_workloads VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET uid = excluded.uid, desired = excluded.desired, declared = excluded.declared",
      namespace,
      name,
      row.uid,
      row.desired,
      row.declared,
    );
  }

  /** Replicas that have not ended, as far as is known. */
  liveInstances(): InstanceRow[] {
    return this.#all("SELECT json FROM host_instances WHERE ended_at IS NULL ORDER BY rowid");
  }

  instance(uid: string): InstanceRow | undefined {
    return this.#one("SELECT json FROM host_instances WHERE uid = ?", uid) as InstanceRow | undefined;
  }

  /** The replica that an effect started, gone or not. */
  instanceOfEffect(effectId: string): InstanceRow | undefined {
    return this.#one("SELECT json FROM host_instances WHERE effect_id = ?", effectId) as InstanceRow | undefined;
  }

  /** Stores a replica; with `fills`, the vacancy that it fills is gone in the same transaction. */
  putInstance(row: InstanceRow, fills?: string): void {
    this.#store.transaction((db) => {
      db.prepare(
        "INSERT INTO host_instances VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at, effect_id = excluded.effect_id, json = excluded.json",
      ).run(row.uid, row.endedAt ?? null, row.effectId ?? null, JSON.stringify(row));
      if (fills !== undefined) db.prepare("DELETE FROM host_vacancies WHERE id = ?").run(fills);
    });
  }

  /** Forgets a replica that was never started. */
  deleteInstance(uid: string): void {
    this.#run("DELETE FROM host_instances WHERE uid = ?", uid);
  }

  /** Stores that a replica has ended, with the place that it leaves. */
  endInstance(row: InstanceRow, vacancy: Vacancy | undefined): void {
    this.#store.transaction((db) => {
      db.prepare("UPDATE host_instances SET ended_at = ?, json = ? WHERE uid = ?").run(row.endedAt ?? 0, JSON.stringify(row), row.uid);
      if (vacancy !== undefined) db.prepare("INSERT INTO host_vacancies VALUES (?, ?)").run(vacancy.id, JSON.stringify(vacancy));
    });
  }

  vacancies(): Vacancy[] {
    return this.#all("SELECT json FROM host_vacancies ORDER BY rowid");
  }

  deleteVacancy(id: string): void {
    this.#run("DELETE FROM host_vacancies WHERE id = ?", id);
  }

  effect(id: string): EffectRow | undefined {
    const row = this.#get("SELECT id, type, json FROM host_effects WHERE id = ?", id) as
      | { id: string; type: string; json: string | null }
      | undefined;
    return row && { id: row.id, type: row.type, end: row.json === null ? undefined : (JSON.parse(row.json) as EffectEnd) };
  }

  intendEffect(id: string, type: string, now: number): void {
    this.#run(
      "INSERT INTO host_effects VALUES (?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE SET intended_at = excluded.intended_at, ended_at = NULL, json = NULL",
      id,
      type,
      now,
    );
  }

  endEffect(id: string, end: EffectEnd, now: number): void {
    this.#run("UPDATE host_effects SET ended_at = ?, json = ? WHERE id = ?", now, JSON.stringify(end), id);
  }

  /** What a capture is, stored before its file gets its final name. */
  artifact(effectId: string): Artifact | undefined {
    return this.#one("SELECT json FROM host_artifacts WHERE effect_id = ?", effectId) as Artifact | undefined;
  }

  putArtifact(effectId: string, artifact: Artifact): void {
    this.#run(
      "INSERT OR REPLACE INTO host_artifacts VALUES (?, ?, ?)",
      effectId,
      Date.parse(artifact.capturedAt),
      JSON.stringify(artifact),
    );
  }

  deleteArtifact(effectId: string): void {
    this.#run("DELETE FROM host_artifacts WHERE effect_id = ?", effectId);
  }

  /** All captures, the newest first. */
  artifacts(): { readonly effectId: string; readonly artifact: Artifact }[] {
    const rows = this.#store.database.prepare("SELECT effect_id, json FROM host_artifacts ORDER BY captured_at DESC, rowid DESC").all();
    return rows.map((row) => ({ effectId: row["effect_id"] as string, artifact: JSON.parse(row["json"] as string) as Artifact }));
  }

  #get(sql: string, ...values: SQLInputValue[]): unknown {
    return this.#store.database.prepare(sql).get(...values);
  }

  #one(sql: string, ...values: SQLInputValue[]): unknown {
    const row = this.#get(sql, ...values) as { json: string } | undefined;
    return row === undefined ? undefined : JSON.parse(row.json);
  }

  #all<T>(sql: string): T[] {
    return this.#store.database
      .prepare(sql)
      .all()
      .map((row) => JSON.parse(row["json"] as string) as T);
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#store.transaction((db) => db.prepare(sql).run(...values));
  }
}
