import { systemRandom } from "../../src/platform/host/random.ts";
import { freePort } from "../../src/platform/host/ports.ts";

const taken = new Set<number>();

/**
 * A port on 127.0.0.1 that nothing listens on, another one with each call. Outside of the range from which the kernel gives
 * ports to outgoing connections: one of those could take it before the test does.
 */
export function unusedPort(): number {
  const port = freePort(taken, systemRandom);
  taken.add(port);
  return port;
}
