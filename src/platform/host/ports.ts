import { readFileSync } from "node:fs";
import { NightshiftError } from "../../api/errors.ts";
import type { Random } from "../../ports/random.ts";
import { firstEphemeralPort } from "../linux/proc.ts";

const LOWEST = 20_000;
const HIGHEST = 65_535;

/** Local ports of every TCP socket of the machine, whatever its state. */
function portsInUse(): Set<number> {
  const used = new Set<number>();
  for (const file of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    let text = "";
    try {
      text = readFileSync(file, "latin1");
    } catch {
      continue;
    }
    for (const match of text.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) /gm)) used.add(Number.parseInt(match[1] ?? "", 16));
  }
  return used;
}

/**
 * A port that nobody uses and that is not in `taken`. Below the range that outgoing connections take theirs from, where
 * that leaves room: one of those could take it before the replica does.
 */
export function freePort(taken: ReadonlySet<number>, random: Random): number {
  const used = portsInUse();
  const ephemeral = firstEphemeralPort();
  const top = ephemeral - LOWEST >= 2_000 ? ephemeral - 1 : HIGHEST;
  const size = top - LOWEST + 1;
  const begin = Math.floor(random.next() * size);
  for (let i = 0; i < size; i++) {
    const port = LOWEST + ((begin + i) % size);
    if (!used.has(port) && !taken.has(port)) return port;
  }
  throw new NightshiftError("NO_FREE_PORT", `every port from ${LOWEST} to ${top} is in use`);
}
