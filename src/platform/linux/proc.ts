import { readFileSync, readdirSync } from "node:fs";

/** A file of /proc; undefined when the process is gone or not ours to read. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

/** What `/proc/<pid>/stat` says, see proc_pid_stat(5). */
export interface ProcStat {
  /** `R`, `S`, `D`, `Z` and so on. */
  readonly state: string;
  readonly processGroup: number;
  /** CPU time of all threads, user and system, in milliseconds. */
  readonly cpuMs: number;
  /** Start of the process in clock ticks since boot: with the boot id and the pid, its identity. */
  readonly startTicks: number;
}

/** sysconf(_SC_CLK_TCK): 100 on every Linux that Node.js runs on, see time(7). */
const MS_PER_TICK = 10;

/** The state of a process; undefined when there is none. */
export function procStat(pid: number): ProcStat | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The command's name stands in parentheses and may contain both blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[0] ?? "X",
    processGroup: Number(fields[2]),
    cpuMs: (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK,
    startTicks: Number(fields[19]),
  };
}

let boot: string | undefined;

/** Identity of a process over pid reuse and reboots; undefined when it does not run (a zombie does not). */
export function processIdentity(pid: number): string | undefined {
  const stat = procStat(pid);
  if (stat === undefined || stat.state === "Z" || stat.state === "X") return undefined;
  boot ??= readProc("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
  return `${boot}:${stat.startTicks}`;
}

/** Pids of the processes that were started with `name=value` in their environment, those of other users not counted. */
export function findByEnvironment(name: string, value: string): number[] {
  const wanted = `\0${name}=${value}\0`;
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => `\0${readProc(`/proc/${pid}/environ`) ?? ""}\0`.includes(wanted) && processIdentity(pid) !== undefined);
}

/** Resident memory in bytes; undefined when the process is gone. */
export function residentBytes(pid: number): number | undefined {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/status`) ?? "");
  return match ? Number(match[1]) * 1024 : undefined;
}

/** Whether the process handles a signal (by number) by itself, so that sending it does not kill. */
export function catchesSignal(pid: number, signal: number): boolean {
  const match = /^SigCgt:\s+([0-9a-f]+)$/m.exec(readProc(`/proc/${pid}/status`) ?? "");
  return match?.[1] !== undefined && ((BigInt(`0x${match[1]}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

/** Bytes of memory that the machine can still give without swapping; undefined where the kernel does not say. */
export function availableMemory(): number | undefined {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readProc("/proc/meminfo") ?? "");
  return match ? Number(match[1]) * 1024 : undefined;
}

/** First port of the range that the kernel takes for outgoing connections. */
export function firstEphemeralPort(): number {
  const first = Number(/^\d+/.exec(readProc("/proc/sys/net/ipv4/ip_local_port_range") ?? "")?.[0]);
  return Number.isInteger(first) && first > 0 ? first : 32_768;
}

/** Sends a signal to a process, or with a negative pid to a process group; false when it is gone. */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
