import { constants, openSync } from "node:fs";
import { basename, dirname } from "node:path";

/** Longest path of a unix socket: `sun_path` has 108 bytes on Linux, the last of them NUL; see unix(7). */
const LONGEST_SOCKET_PATH = 107;

/**
 * An address under which the kernel takes a unix socket's path, however long that is: a long one is reached through an
 * open directory. The directory stays open as long as the process lives, so ask once per path.
 */
export function socketAddress(path: string): string {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return path;
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  return `/proc/self/fd/${directory}/${basename(path)}`;
}
