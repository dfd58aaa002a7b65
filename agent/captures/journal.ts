import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Artifact } from "../../src/api/remediation.ts";
import { syncDirectory, tagOf } from "../../src/platform/capture/artifact-file.ts";
import { readJson, writeJson } from "./durable.ts";
import type { CaptureRequest } from "./request.ts";

/** What the node remembers of one capture, over the agent's death. */
export type JournalEntry = {
  readonly effectId: string;
  readonly remediation: CaptureRequest["remediation"];
} & (
  | /** It is taken up, or about to be; no process has been touched. */
    { readonly state: "Claimed" }
  /** The process may have been touched. */
  | { readonly state: "Begun"; readonly process: JournalProcess; readonly file: string }
  /** The file is whole, under its final name or as partial. */
  | { readonly state: "Captured"; readonly file: string; readonly artifact: Artifact; readonly message: string }
  /** The store has it. */
  | { readonly state: "Kept"; readonly artifact: Artifact; readonly message: string }
);

/** A process that a capture touches. */
export interface JournalProcess {
  readonly pid: number;
  /** Over pid reuse and reboots. */
  readonly identity: string;
  readonly ownPid: number;
  /** Its inspector was open before: it is not ours to close. */
  readonly wasInspected: boolean;
}

/** One durable file for each capture, found by its effect's id. */
export class Journal {
  readonly #dir: string;

  /** @param stateDir - where it is kept. */
  constructor(stateDir: string) {
    this.#dir = join(stateDir, "captures");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** Stores an entry in the place of what there was for its effect. */
  put(entry: JournalEntry): void {
    writeJson(this.#path(entry.effectId), entry);
  }

  get(effectId: string): JournalEntry | undefined {
    return readJson(this.#path(effectId)) as JournalEntry | undefined;
  }

  all(): JournalEntry[] {
    return readdirSync(this.#dir).flatMap((file) => {
      const entry = file.endsWith(".json") ? (readJson(join(this.#dir, file)) as JournalEntry | undefined) : undefined;
      return entry === undefined ? [] : [entry];
    });
  }

  delete(effectId: string): void {
    rmSync(this.#path(effectId), { force: true });
    syncDirectory(this.#dir);
  }

  #path(effectId: string): string {
    return join(this.#dir, `${tagOf(effectId)}.json`);
  }
}
