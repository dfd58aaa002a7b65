import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import { NightshiftError } from "../src/api/errors.ts";

/** What the listener tells. */
export interface ListenerOptions {
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  /** Whether the agent does its work; why it does not. */
  readonly ready: () => { readonly ok: boolean; readonly message: string };
  readonly registry: Registry;
}

/** A listener that runs. */
export interface Listener {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Health and metrics: `/healthz`, `/readyz` and `/metrics`, by GET alone. It tells nothing about any program, and takes
 * nothing in. Rejects with `LISTEN_FAILED`.
 */
export async function listen({ host, port, ready, registry }: ListenerOptions): Promise<Listener> {
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8_192, keepAliveTimeout: 5_000 },
    (req, res) => {
      const send = (status: number, text: string, type = "text/plain; charset=utf-8"): void => {
        res.writeHead(status, { "content-type": type, "x-content-type-options": "nosniff" }).end(req.method === "HEAD" ? undefined : text);
      };
      // A body that is not read would be kept by the socket.
      req.resume();
      if (req.method !== "GET" && req.method !== "HEAD") return send(405, "method not allowed\n");
      switch (req.url?.split("?")[0]) {
        case "/healthz":
          return send(200, "ok\n");
        case "/readyz": {
          const { ok, message } = ready();
          return send(ok ? 200 : 503, `${message}\n`);
        }
        case "/metrics":
          registry.metrics().then(
            (text) => send(200, text, registry.contentType),
            () => send(500, "the metrics could not be read\n"),
          );
          return;
        default:
          return send(404, "not found\n");
      }
    },
  );
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(new NightshiftError("LISTEN_FAILED", cause.message, { where: `${host}:${port}`, cause })));
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    url: `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
