import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

/** What a mutant is a fault of. */
export const FAMILIES = [
  "Gates",
  "Evidence",
  "Step machine",
  "Store",
  "Leader election and fencing",
  "Paging",
  "Memory of the past",
] as const;
export type Family = (typeof FAMILIES)[number];

/** One piece of one module's source, and what stands there instead. */
export interface Edit {
  /** The module, from the repository's root. */
  readonly file: string;
  /** Exact source text. It must occur exactly once: a mutant of text that is gone proves nothing. */
  readonly find: string;
  readonly replace: string;
}

/** A deliberate fault. */
export interface Mutant {
  readonly name: string;
  readonly family: Family;
  /** What it breaks, for people. */
  readonly breaks: string;
  /** More than one only where the code has several locks against the same, each of which would hold alone. */
  readonly edits: readonly Edit[];
}

const urlOf = (file: string): string => new URL(`../../${file}`, import.meta.url).href;

/** The source with the edit made. Throws where `find` does not occur exactly once. */
export function mutate(source: string, { file, find, replace }: Edit, name: string): string {
  const parts = source.split(find);
  if (parts.length !== 2)
    throw new Error(`mutant ${name}: its text occurs ${parts.length - 1} times in ${file}, not once: bring the mutant up to date`);
  return parts.join(replace);
}

/** A module with all of a mutant's edits of it made. Throws where one is of text that is not there, or not once. */
function mutated(source: string, { name, edits }: Mutant, file: string): string {
  return edits.filter((edit) => edit.file === file).reduce((text, edit) => mutate(text, edit, name), source);
}

/** Throws where a mutant is out of date, or changes nothing. */
export function check(mutant: Mutant): void {
  for (const { file } of mutant.edits) {
    const source = readFileSync(fileURLToPath(urlOf(file)), "utf8");
    if (mutated(source, mutant, file) === source) throw new Error(`mutant ${mutant.name} changes nothing in ${file}`);
  }
}

/** Has this process load the mutant's modules with the fault in them. Call before anything imports them. */
export function install(mutant: Mutant): void {
  const files = new Map(mutant.edits.map(({ file }) => [urlOf(file), file]));
  registerHooks({
    load(asked, context, nextLoad) {
      const loaded = nextLoad(asked, context);
      const file = files.get(asked);
      if (file === undefined) return loaded;
      if (loaded.source === undefined || loaded.source === null) throw new Error(`mutant ${mutant.name}: ${file} has no source`);
      const source = typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source);
      return { ...loaded, source: mutated(source, mutant, file) };
    },
  });
}
