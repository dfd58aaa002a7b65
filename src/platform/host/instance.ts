import type { ChildProcess } from "node:child_process";
import type { Clock } from "../../ports/clock.ts";
import type { Replica } from "../../ports/platform.ts";
import { processIdentity, sendSignal } from "../linux/proc.ts";
import type { Exit, InstanceRow } from "./state.ts";

/** A replica as it is in memory, beside what is stored of it. */
export class Instance {
  row: InstanceRow;
  /** Set for one that this Nightshift started. */
  child: ChildProcess | undefined;
  /** It was started by an earlier Nightshift: its end is found by looking. */
  adopted = false;
  /** Its process is gone and it is being cleaned up. */
  ending = false;
  /** Requests that it has not answered; undefined while the router has not said. */
  inFlight: number | undefined;
  memory: Replica["memory"];
  /** CPU time at the last look, in ms, and when that was. */
  cpu: { readonly ms: number; readonly at: number } | undefined;
  /** Aborts when the replica is not to be probed any more. */
  readonly probing = new AbortController();
  /** Resolves when nothing of the replica is left. */
  readonly gone: Promise<Exit>;
  resolveGone: (exit: Exit) => void = () => undefined;
  #cancelKill: (() => void) | undefined;

  constructor(row: InstanceRow) {
    this.row = row;
    this.gone = new Promise((resolve) => {
      this.resolveGone = (exit) => {
        this.#cancelKill?.();
        resolve(exit);
      };
    });
  }

  /** Whether the router sends it new requests. */
  get inTraffic(): boolean {
    return this.row.ready && !this.row.outOfTraffic && !this.row.stopping && !this.ending;
  }

  get ref(): Replica["ref"] {
    return { kind: "Process", namespace: this.row.namespace, name: this.row.name, uid: this.row.uid };
  }

  /** Whether its process is there and is the one that was started, not another with its pid. */
  get running(): boolean {
    const { pid, identity } = this.row;
    return !this.ending && pid !== undefined && processIdentity(pid) === identity;
  }

  /** SIGTERM to its process group, and SIGKILL when it is not gone after the grace period. A second call may only shorten it. */
  terminate(graceMs: number, clock: Clock): void {
    const { pid } = this.row;
    if (pid === undefined || !this.running) return;
    sendSignal(-pid, "SIGTERM");
    this.#cancelKill?.();
    this.#cancelKill = clock.after(graceMs, () => this.kill());
  }

  /** SIGKILL to its process group, if that is still its own. */
  kill(): void {
    const { pid } = this.row;
    if (pid !== undefined && this.running) sendSignal(-pid, "SIGKILL");
  }

  /** Lets it run on without Nightshift. */
  detach(): void {
    this.probing.abort();
    this.#cancelKill?.();
    this.child?.removeAllListeners();
    this.child?.unref();
  }
}
