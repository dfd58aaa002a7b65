import { NightshiftError } from "../../src/api/errors.ts";
import { processIdentity, residentBytes } from "../../src/platform/linux/proc.ts";
import { isNode, isOfContainer, ownPid, type PodProcess } from "./pod.ts";

/** A container of a pod, of its status. */
export interface PodContainer {
  readonly name: string;
  /** Such as `containerd://<id>`; undefined before it has started. */
  readonly containerID?: string;
}

/** The process that a capture is taken of. */
export interface FoundProcess extends PodProcess {
  /** Over pid reuse and reboots; see `processIdentity`. */
  readonly identity: string;
  /** In its own PID namespace. */
  readonly ownPid: number;
  readonly residentBytes: number;
  /** Undefined where the pod's status does not tell. */
  readonly container: string | undefined;
}

/**
 * The Node.js process of a container, or of the pod where none is named; of several, the one with the most memory: beside
 * it there are launchers (npm) and helpers. Throws `CAPTURE_UNSUPPORTED` where there is none.
 */
export function findNodeProcess(
  processes: readonly PodProcess[],
  containers: readonly PodContainer[],
  container: string | undefined,
): FoundProcess {
  const wanted = containers.find(({ name }) => name === container);
  if (container !== undefined && wanted === undefined)
    throw new NightshiftError("CAPTURE_UNSUPPORTED", `the pod has no running container ${container}`, {
      fix: `It has: ${containers.map(({ name }) => name).join(", ") || "none"}.`,
    });
  const found = processes.flatMap((process): FoundProcess[] => {
    if (!isNode(process.pid)) return [];
    const of = containers.find(({ containerID }) => containerID !== undefined && isOfContainer(process.cgroup, containerID));
    if (wanted !== undefined && of !== wanted) return [];
    const [identity, own] = [processIdentity(process.pid), ownPid(process.pid)];
    if (identity === undefined || own === undefined) return [];
    return [{ ...process, identity, ownPid: own, residentBytes: residentBytes(process.pid) ?? 0, container: of?.name }];
  });
  const [largest] = found.toSorted((a, b) => b.residentBytes - a.residentBytes);
  if (largest === undefined)
    throw new NightshiftError("CAPTURE_UNSUPPORTED", `no Node.js process runs in ${container ?? "the pod"}`, {
      fix: "Captures work for containers that run Node.js by the name node.",
    });
  return largest;
}
