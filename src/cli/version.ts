import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The version in the package.json above this file: in a checkout and in the installed package. */
export function version(): string {
  for (let dir = import.meta.dirname; dir !== dirname(dir); dir = dirname(dir)) {
    try {
      const found = JSON.parse(readFileSync(join(dir, "package.json"), "utf8")) as { name?: string; version?: string };
      if (found.name === "nightshift") return found.version ?? "unknown";
    } catch {
      // Not here.
    }
  }
  return "unknown";
}
