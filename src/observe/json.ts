import { NightshiftError } from "../api/errors.ts";

/** How deep arrays and objects may lie in each other in a body from outside. No format that is read here needs half of it. */
export const MAX_JSON_DEPTH = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Parses a JSON body from outside. Its depth is counted first, over the bytes and without recursion, so that 100,000
 * brackets cost one scan and no stack.
 *
 * @throws NightshiftError `TOO_DEEP` or `MALFORMED_JSON`.
 */
export function parseJson(body: Uint8Array, maxDepth: number = MAX_JSON_DEPTH): unknown {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > maxDepth)
        throw new NightshiftError("TOO_DEEP", `the JSON is nested more than ${maxDepth} deep`, {
          where: `byte ${i}`,
          fix: "Send it flatter.",
        });
    } else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new NightshiftError("MALFORMED_JSON", `the body is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, {
      fix: "Send one JSON document in UTF-8.",
      cause,
    });
  }
}
