import { readFileSync, readdirSync, readlinkSync } from "node:fs";

/** The port that Node.js opens its inspector at unless it is told another. */
const DEFAULT_PORT = 9229;
/** TCP_LISTEN, as /proc/net/tcp has it; see proc_pid_net(5). */
const LISTEN = "0A";

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

interface Listener {
  readonly port: number;
  readonly inode: string;
}

/** What listens with TCP in the network namespace of a process. */
function listeners(pid: number): Listener[] {
  return ["tcp", "tcp6"].flatMap((family) =>
    read(`/proc/${pid}/net/${family}`)
      .split("\n")
      .slice(1)
      .flatMap((line) => {
        const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
        return state === LISTEN ? [{ port: Number.parseInt(local.slice(local.lastIndexOf(":") + 1), 16), inode }] : [];
      }),
  );
}

/** Inodes of the sockets that a process has open. */
function sockets(pid: number): Set<string> {
  const inodes = new Set<string>();
  let descriptors: string[];
  try {
    descriptors = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return inodes;
  }
  for (const descriptor of descriptors)
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${descriptor}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // Closed meanwhile.
    }
  return inodes;
}

/** Ports that a process itself listens at. */
export function listeningPorts(pid: number): number[] {
  const own = sockets(pid);
  return [...new Set(listeners(pid).flatMap(({ port, inode }) => (own.has(inode) ? [port] : [])))];
}

/** The port at which a process would open its inspector, by its arguments and NODE_OPTIONS; 0 for any. */
export function inspectorPort(pid: number): number {
  const args = read(`/proc/${pid}/cmdline`).split("\0");
  const options = /(?:^|\0)NODE_OPTIONS=([^\0]*)/.exec(read(`/proc/${pid}/environ`))?.[1]?.split(/\s+/) ?? [];
  let port = DEFAULT_PORT;
  // The command line comes after, and wins.
  for (const arg of [...options, ...args]) {
    const value = /^--(?:inspect(?:-brk|-wait|-port)?|debug-port)=(?:.*:)?(\d+)$/.exec(arg)?.[1];
    if (value !== undefined) port = Number(value);
  }
  return port;
}

/** Finds the inspector among the ports of a process, without touching those of its program. */
export class InspectorPorts {
  readonly #pid: number;
  readonly #wanted: number;
  readonly #before: ReadonlySet<number>;

  constructor(pid: number) {
    this.#pid = pid;
    this.#wanted = inspectorPort(pid);
    this.#before = new Set(listeningPorts(pid));
  }

  /** Where its inspector may listen now: the port that it would take, and those that were opened since. */
  candidates(): number[] {
    return listeningPorts(this.#pid).filter((port) => port === this.#wanted || !this.#before.has(port));
  }

  /** The port that it would take, where another process of its pod listens there. */
  get takenByAnother(): number | undefined {
    if (this.#before.has(this.#wanted)) return undefined;
    return listeners(this.#pid).some(({ port }) => port === this.#wanted) ? this.#wanted : undefined;
  }
}
