import { NightshiftError, messageOf } from "../../api/errors.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import { catchesSignal, sendSignal } from "./proc.ts";

/** Number of SIGUSR1 on Linux on every architecture that Node.js has builds for, see signal(7). */
const SIGUSR1 = 10;
/** How long a process may take to open its inspector, and to answer a question that needs no work. */
const OPEN_TIMEOUT_MS = 10_000;
const OPEN_POLL_MS = 50;

/** How a call is made. */
export interface CallOptions {
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** Every event of the protocol that arrives during the call; each one puts the timeout off. */
  readonly onEvent?: (method: string, params: Record<string, unknown>) => void;
}

interface Pending {
  readonly resolve: (result: Record<string, unknown>) => void;
  readonly reject: (error: unknown) => void;
  readonly onEvent: CallOptions["onEvent"];
  readonly putOff: () => void;
}

function timedOut(what: string): NightshiftError {
  return new NightshiftError("CAPTURE_TIMEOUT", `the process did not answer ${what}`, {
    fix: "Its event loop may be blocked in native code: nothing can be captured from it, a stop still works.",
  });
}

/** A connection to the inspector of one Node.js process, by the Chrome DevTools Protocol. */
export class Inspector {
  readonly #socket: WebSocket;
  readonly #openedByUs: boolean;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #failed: unknown;

  private constructor(socket: WebSocket, openedByUs: boolean) {
    this.#socket = socket;
    this.#openedByUs = openedByUs;
    const fail = (error: unknown): void => {
      this.#failed ??= error;
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    };
    socket.addEventListener("message", (event) => {
      try {
        this.#onMessage(String(event.data));
      } catch (error) {
        // A failure of what handles the data, such as a full disk, ends the whole: the rest would be a torn file.
        fail(error);
        socket.close();
      }
    });
    socket.addEventListener("close", () => fail(new NightshiftError("CAPTURE_FAILED", "the process closed its inspector, or ended")));
    socket.addEventListener("error", () => fail(new NightshiftError("CAPTURE_FAILED", "the connection to the process' inspector broke")));
  }

  /**
   * Opens the inspector of a process that was started with `--inspect-port=127.0.0.1:<port>`, by SIGUSR1, and connects.
   * Rejects with `CAPTURE_UNSUPPORTED` where there is none, or it is another process', and `CAPTURE_TIMEOUT`.
   */
  static async open(pid: number, port: number, clock: Clock, signal: AbortSignal): Promise<Inspector> {
    let address = await webSocketAddress(port, signal);
    const openedByUs = address === undefined;
    if (address === undefined) {
      // Without a handler SIGUSR1 kills: Node.js installs its own early in its start, and a program may take it away.
      if (!catchesSignal(pid, SIGUSR1) || !sendSignal(pid, "SIGUSR1"))
        throw new NightshiftError("CAPTURE_UNSUPPORTED", "the process does not open an inspector on SIGUSR1", {
          fix: "Captures need Node.js as the workload's command, without --disable-sigusr1.",
        });
      const deadline = clock.monotonic() + OPEN_TIMEOUT_MS;
      while (address === undefined) {
        if (signal.aborted || clock.monotonic() > deadline) throw timedOut("SIGUSR1 by opening its inspector");
        await sleep(clock, OPEN_POLL_MS, signal);
        address = await webSocketAddress(port, signal);
      }
    }
    const inspector = new Inspector(await connect(address, signal), openedByUs);
    try {
      const answer = await inspector.call("Runtime.evaluate", { expression: "process.pid", returnByValue: true }, clock, signal);
      const theirs = (answer["result"] as { value?: unknown } | undefined)?.value;
      if (theirs !== pid)
        throw new NightshiftError("CAPTURE_UNSUPPORTED", `the inspector on port ${port} belongs to process ${String(theirs)}, not ${pid}`);
      return inspector;
    } catch (error) {
      inspector.#socket.close();
      throw error;
    }
  }

  /** Calls a method of the protocol. Rejects with `CAPTURE_TIMEOUT` when nothing has been heard for the timeout. */
  call(
    method: string,
    params: Record<string, unknown>,
    clock: Clock,
    signal: AbortSignal,
    options: CallOptions = {},
  ): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      if (this.#failed !== undefined) return reject(this.#failed);
      if (signal.aborted) return reject(timedOut(`${method} in the time that the step has`));
      const id = this.#next++;
      let cancel: () => void = () => undefined;
      const end = (then: () => void): void => {
        cancel();
        signal.removeEventListener("abort", abort);
        this.#pending.delete(id);
        then();
      };
      const timeoutMs = options.timeoutMs ?? OPEN_TIMEOUT_MS;
      const putOff = (): void => {
        cancel();
        cancel = clock.after(timeoutMs, () => end(() => reject(timedOut(`${method} within ${timeoutMs / 1000} s`))));
      };
      const abort = (): void => end(() => reject(timedOut(`${method} in the time that the step has`)));
      signal.addEventListener("abort", abort, { once: true });
      putOff();
      this.#pending.set(id, {
        resolve: (result) => end(() => resolve(result)),
        reject: (error) => end(() => reject(error)),
        onEvent: options.onEvent,
        putOff,
      });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  /** Disconnects; closes the process' inspector too when `open` had opened it, as far as the process still answers. */
  async close(clock: Clock): Promise<void> {
    if (this.#openedByUs && this.#failed === undefined) {
      // Deferred, because closing waits until the last session, which is this one, has ended.
      const expression =
        "{ const i = process.getBuiltinModule?.('node:inspector') ?? process.mainModule?.require('node:inspector'); setTimeout(() => i?.close(), 50); 0 }";
      await this.call("Runtime.evaluate", { expression }, clock, AbortSignal.timeout(2_000)).catch(() => undefined);
    }
    this.#socket.close();
  }

  #onMessage(text: string): void {
    const message = JSON.parse(text) as {
      id?: number;
      method?: string;
      params?: Record<string, unknown>;
      result?: Record<string, unknown>;
      error?: { message?: string };
    };
    if (message.id === undefined) {
      for (const { onEvent, putOff } of this.#pending.values()) {
        putOff();
        onEvent?.(message.method ?? "", message.params ?? {});
      }
      return;
    }
    const pending = this.#pending.get(message.id);
    if (message.error === undefined) pending?.resolve(message.result ?? {});
    else pending?.reject(new NightshiftError("CAPTURE_FAILED", `the process refused: ${message.error.message ?? "no reason given"}`));
  }
}

/** Address of the inspector that listens on a port; undefined where none does. */
async function webSocketAddress(port: number, signal: AbortSignal): Promise<string | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/json/list`, { signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]) });
    const [target] = (await response.json()) as { webSocketDebuggerUrl?: string }[];
    return target?.webSocketDebuggerUrl;
  } catch {
    return undefined;
  }
}

function connect(address: string, signal: AbortSignal): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
    const abort = (): void => {
      socket.close();
      reject(timedOut("the connection to its inspector"));
    };
    if (limit.aborted) return abort();
    limit.addEventListener("abort", abort, { once: true });
    socket.addEventListener("open", () => {
      limit.removeEventListener("abort", abort);
      resolve(socket);
    });
    socket.addEventListener("error", (event) => {
      limit.removeEventListener("abort", abort);
      reject(
        new NightshiftError(
          "CAPTURE_UNSUPPORTED",
          `the process' inspector refused the connection: ${messageOf((event as { error?: unknown }).error ?? "no reason given")}`,
        ),
      );
    });
  });
}
