import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { Option } from "commander";
import { NightshiftError } from "../api/errors.ts";
import type { SqliteStore } from "../platform/host/store.ts";

/** Where a Nightshift on this machine keeps what it writes, where nothing else is said. */
export const DEFAULT_STATE = ".nightshift";

/** `--state`, the same for every command that reads what Nightshift wrote. */
export function stateOption(): Option {
  return new Option("--state <dir>", "state directory of Nightshift").env("NIGHTSHIFT_STATE").default(DEFAULT_STATE);
}

/** Runs `fn` with the store of a state directory, beside a Nightshift that may be running. Throws `NO_STATE` where there is none. */
export async function withStore<T>(stateDir: string, fn: (store: SqliteStore) => Promise<T>): Promise<T> {
  const path = join(resolve(stateDir), "nightshift.db");
  if (!existsSync(path))
    throw new NightshiftError("NO_STATE", "no Nightshift has run with this state directory", {
      where: resolve(stateDir),
      fix: "Name the one beside your stack file: --state DIR, or NIGHTSHIFT_STATE.",
    });
  const { SqliteStore } = await import("../platform/host/store.ts");
  const store = SqliteStore.open(path);
  try {
    return await fn(store);
  } finally {
    store.close();
  }
}

/** Namespace and name of what a person called `name`: either `namespace/name` or, with the namespace apart, the name. */
export function splitName(name: string, namespace: string): { namespace: string; name: string } {
  const slash = name.indexOf("/");
  return slash === -1 ? { namespace, name } : { namespace: name.slice(0, slash), name: name.slice(slash + 1) };
}
