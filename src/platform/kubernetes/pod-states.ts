import type { PodState } from "../../api/policy.ts";
import { timeMs } from "../../api/time.ts";
import type { ReplicaState } from "../../ports/platform.ts";
import type { ContainerEnd, ContainerStatus, Pod } from "./objects.ts";

/** A state that is kept of a pod. */
export interface PodStateRecord extends ReplicaState {
  /** A crash loop whose container is ready at the moment: it holds no more, and began when it began if the container ends soon. */
  readonly paused?: true;
}

/** The kubelet takes a container that has run for this long for recovered, and begins its back-off anew (ms). */
const CRASH_RESET_MS = 600_000;

/** Why a container waits, as the kubelet words it, by the state that it is an instance of. */
const WAITING: ReadonlyMap<string, PodState> = new Map([
  ["CrashLoopBackOff", "CrashLoopBackOff"],
  ["ImagePullBackOff", "ImagePullBackOff"],
  ["ErrImagePull", "ImagePullBackOff"],
  ["ErrImageNeverPull", "ImagePullBackOff"],
  ["InvalidImageName", "ImagePullBackOff"],
  ["ImageInspectError", "ImagePullBackOff"],
  ["CreateContainerConfigError", "CreateContainerConfigError"],
]);

/** The API server says null of a time that nobody knows, as of a run that the kubelet lost track of. */
const time = (text: string | null | undefined): number | undefined => (text === undefined || text === null ? undefined : timeMs(text));

/**
 * What is wrong with a pod by its own status; empty for most. `before` is what was kept of the same pod: the kubelet says how
 * a container is, and not since when it waits.
 */
export function podStates(pod: Pod, before: readonly PodStateRecord[] = []): PodStateRecord[] {
  const { metadata, status } = pod;
  const createdAt = time(metadata.creationTimestamp) ?? 0;
  const states: PodStateRecord[] = [];
  const init = status?.initContainerStatuses ?? [];
  const statuses = [...init, ...(status?.containerStatuses ?? [])];
  for (const container of statuses) {
    const known = (state: PodState): PodStateRecord | undefined => before.find((s) => s.state === state && s.container === container.name);
    const waiting = container.state?.waiting;
    const state = WAITING.get(waiting?.reason ?? "");
    const ended = container.lastState?.terminated;
    if (state !== undefined && state !== "CrashLoopBackOff")
      states.push({
        state,
        since: known(state)?.since ?? time(ended?.finishedAt) ?? time(status?.startTime) ?? createdAt,
        container: container.name,
        reason: waiting?.reason ?? "",
        message: waiting?.message ?? "",
      });
    const ends = init.includes(container) || (pod.spec.restartPolicy ?? "Always") !== "Always";
    const crash = crashLoop(container, known("CrashLoopBackOff"), ends);
    if (crash !== undefined) states.push(crash);
    const killed = container.state?.terminated?.reason === "OOMKilled" ? container.state.terminated : ended;
    const at = time(killed?.finishedAt);
    if (killed?.reason === "OOMKilled" && at !== undefined)
      states.push({ state: "OOMKilled", since: at, container: container.name, reason: "OOMKilled", message: exitOf(killed) });
  }
  // The time of the deletion is the end of the grace period (`ObjectMeta.deletionTimestamp`).
  const deletedAt = time(metadata.deletionTimestamp);
  if (deletedAt !== undefined) {
    const held = metadata.finalizers ?? [];
    states.push({
      state: "Terminating",
      since: deletedAt,
      message: held.length === 0 ? "" : `its finalizers are ${held.join(", ")}`,
    });
  } else if (status === undefined || (status.phase ?? "Pending") === "Pending") {
    const scheduled = status?.conditions?.find(({ type }) => type === "PodScheduled");
    const waits = statuses.find(({ state }) => state?.waiting?.reason !== undefined)?.state?.waiting;
    const why = scheduled?.status === "False" ? scheduled : waits;
    states.push({
      state: "Pending",
      since: createdAt,
      ...(why?.reason === undefined ? {} : { reason: why.reason }),
      message: why?.message ?? "",
    });
  }
  return states;
}

/**
 * Begins when the kubelet says that it waits before it starts the container again, and lasts through the tries between: a
 * container that runs and is not ready has not recovered. `ends`: one that ends without an error is not started again.
 */
function crashLoop(container: ContainerStatus, known: PodStateRecord | undefined, ends: boolean): PodStateRecord | undefined {
  const { name, state, lastState, ready } = container;
  const last = state?.terminated ?? lastState?.terminated;
  const [began, ended] = [time(last?.startedAt), time(last?.finishedAt)];
  const recovered = began !== undefined && ended !== undefined && ended - began >= CRASH_RESET_MS;
  const since = (recovered ? undefined : known?.since) ?? ended;
  const loop = (at: number): PodStateRecord => ({
    state: "CrashLoopBackOff",
    since: at,
    container: name,
    reason: "CrashLoopBackOff",
    message: last === undefined ? (state?.waiting?.message ?? "") : exitOf(last),
  });
  // Without a word of the run that ended it is not known since when.
  if (state?.waiting?.reason === "CrashLoopBackOff") return since === undefined ? undefined : loop(since);
  if (known === undefined || recovered || since === undefined) return undefined;
  if (state?.terminated !== undefined) return ends && state.terminated.exitCode === 0 ? undefined : loop(since);
  const running = time(state?.running?.startedAt);
  const until = running === undefined ? {} : { until: running + CRASH_RESET_MS };
  return { ...loop(since), ...until, ...(ready === true ? { paused: true as const } : {}) };
}

function exitOf({ reason, exitCode }: ContainerEnd): string {
  return `it ended with exit code ${exitCode ?? "unknown"}${reason === undefined ? "" : ` (${reason})`}`;
}
