import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import type * as fc from "fast-check";
import { NightshiftError } from "../../src/api/errors.ts";

/** A decoder, and what must hold for whatever it is given. */
export interface FuzzTarget {
  readonly name: string;
  /** Real inputs, which all others are made of. */
  readonly seeds: readonly Uint8Array[];
  readonly inputs: fc.Arbitrary<Uint8Array>;
  /** How many inputs of a decoder of JSON one of this one takes the time of: a short run has so many fewer. Default 1. */
  readonly cost?: number;
  /**
   * Decodes one input. Returns `accepted`, or the code that it was refused with; throws where a property does not hold.
   * It keeps nothing between two calls.
   */
  check(input: Uint8Array): string;
}

export const ACCEPTED = "accepted";

/** Directory of the repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The files of a directory of seeds, by name: below `corpus`, or below the repository where the path begins with `/`. */
export function seedsOf(path: string, ending = ""): Uint8Array[] {
  const directory = path.startsWith("/") ? join(ROOT, path) : join(ROOT, "test/fuzz/corpus", path);
  const files = readdirSync(directory)
    .filter((file) => file.endsWith(ending))
    .toSorted((a, b) => (a < b ? -1 : 1));
  assert.ok(files.length > 0, `${directory} has no seeds`);
  return files.map((file) => new Uint8Array(readFileSync(join(directory, file))));
}

/**
 * Calls `decode` twice, or, where it takes long, once for most inputs (`again`). What it throws must be an error for people with one of `codes`;
 * what it gives must be the same both times, and is then given to `holds`.
 */
export function decoded<T>(codes: ReadonlySet<string>, decode: () => T, holds: (value: T) => void, again = true): string {
  const first = outcomeOf(codes, decode);
  if (again) assert.ok(isDeepStrictEqual(first, outcomeOf(codes, decode)), "the same input was decoded differently the second time");
  if ("code" in first) return first.code;
  holds(first.value);
  return ACCEPTED;
}

function outcomeOf<T>(
  codes: ReadonlySet<string>,
  decode: () => T,
): { readonly value: T } | { readonly code: string; readonly message: string } {
  try {
    return { value: decode() };
  } catch (error) {
    if (!(error instanceof NightshiftError)) throw error;
    assert.ok(codes.has(error.code), `the code ${error.code} is none that it is documented to refuse with: ${error.toString()}`);
    // What is said of an input must not be as large as the input.
    assert.ok(error.message.length < 2_000, `the message has ${error.message.length} characters`);
    return { code: error.code, message: error.message };
  }
}
