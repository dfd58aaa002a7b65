import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";

// A user's PATH often lacks the directories of the system's tools, and of Go where its own archive was unpacked.
const DIRECTORIES = [
  ...new Set([...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/go/bin"]),
];

/** The PATH for the cluster's own processes: the caller's, and where system tools are. */
export const SYSTEM_PATH = DIRECTORIES.join(delimiter);

/** Whether there is such a command on `SYSTEM_PATH`, or such a file. */
export function commandExists(command: string): boolean {
  if (command.startsWith("/")) return existsSync(command);
  return DIRECTORIES.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
