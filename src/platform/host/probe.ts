import { request } from "node:http";
import { connect } from "node:net";

/** Where a readiness probe looks. */
export interface ProbeTarget {
  readonly port: number;
  /** HTTP GET of this path; a TCP connection where it is undefined. */
  readonly path: string | undefined;
  readonly timeoutMs: number;
}

/** Probes once. Never rejects: no answer in time is an answer. HTTP 200 to 399 is ready, as in the kubelet. */
export function probe(target: ProbeTarget, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const timeout = setTimeout(() => end(false), target.timeoutMs);
    const end = (ready: boolean): void => {
      clearTimeout(timeout);
      signal.removeEventListener("abort", abort);
      handle.destroy();
      resolve(ready);
    };
    const abort = (): void => end(false);
    signal.addEventListener("abort", abort, { once: true });
    const { port, path } = target;
    const handle =
      path === undefined
        ? connect({ host: "127.0.0.1", port }, () => end(true))
        : request({ host: "127.0.0.1", port, path, agent: false, headers: { "user-agent": "nightshift-probe" } }, (response) =>
            end(response.statusCode !== undefined && response.statusCode >= 200 && response.statusCode < 400),
          ).end();
    handle.on("error", () => end(false));
  });
}
