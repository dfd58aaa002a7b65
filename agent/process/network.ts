import { spawn, type ChildProcess } from "node:child_process";
import { Socket } from "node:net";
import { extname, join } from "node:path";
import { NightshiftError } from "../../src/api/errors.ts";

/** This file's sibling, in a checkout and in a build. */
const CONNECTOR = join(import.meta.dirname, `connector${extname(import.meta.filename)}`);

interface Answer {
  /** 0 says that the namespace is entered. */
  readonly id: number;
  readonly error?: string;
}

interface Waiting {
  readonly resolve: (socket: Socket) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The network namespace of a process, for connections to what listens on its loopback.
 *
 * A socket belongs to the namespace that it was made in, whoever holds it. So a small process enters the namespace,
 * connects, and hands the sockets over; the agent itself stays where it is. Needs CAP_SYS_ADMIN and CAP_SYS_PTRACE.
 */
export class PodNetwork {
  readonly #child: ChildProcess;
  readonly #entered = Promise.withResolvers<void>();
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #ended: NightshiftError | undefined;
  #stderr = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr = (this.#stderr + text).slice(-2_000)));
    child.on("message", (answer: Answer, handle: unknown) => {
      if (answer.id === 0) return this.#entered.resolve();
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (handle instanceof Socket) {
        if (waiting === undefined) handle.destroy();
        else waiting.resolve(handle);
      } else waiting?.reject(Object.assign(new Error(answer.error ?? "no socket came"), { code: answer.error }));
    });
    child.on("error", (cause) => this.#end(`nsenter cannot be run: ${cause.message}`));
    child.on("close", (code, signal) => this.#end(`nsenter ended with ${code ?? signal}: ${this.#stderr.trim()}`));
  }

  /** Enters the namespace of a process. Rejects with `CAPTURE_UNSUPPORTED` where that is not possible. */
  static async of(pid: number): Promise<PodNetwork> {
    const network = new PodNetwork(
      spawn("nsenter", [`--net=/proc/${pid}/ns/net`, process.execPath, "--disable-warning=ExperimentalWarning", CONNECTOR], {
        stdio: ["ignore", "ignore", "pipe", "ipc"],
        // Options of the agent's own, an inspector port above all, are not the helper's.
        env: { PATH: process.env["PATH"] },
      }),
    );
    await network.#entered.promise;
    return network;
  }

  /** A connection to a port of 127.0.0.1 there. */
  connect(port: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, port }, (error) => {
        if (error === null) return;
        this.#waiting.delete(id);
        reject(error);
      });
    });
  }

  /** Leaves it. Connections that were handed over stay. */
  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #end(why: string): void {
    this.#ended ??= new NightshiftError("CAPTURE_UNSUPPORTED", `the pod's network cannot be reached: ${why}`, {
      fix: "The agent needs hostPID, CAP_SYS_ADMIN and CAP_SYS_PTRACE, and nsenter in its image.",
    });
    this.#entered.reject(this.#ended);
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }
}
