import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** A page as it arrived over HTTP. */
export interface ReceivedPage {
  readonly at: number;
  readonly body: unknown;
}

/** Somebody on call: a real HTTP receiver of pages, on 127.0.0.1. */
export class PageReceiver {
  readonly pages: ReceivedPage[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        let body: unknown = text;
        try {
          body = JSON.parse(text);
        } catch {
          // Kept as text: a page is a page.
        }
        this.pages.push({ at: Date.now(), body });
        response.writeHead(202).end();
      });
    });
  }

  /** Starts to listen. */
  static async start(): Promise<PageReceiver> {
    const receiver = new PageReceiver();
    await new Promise<void>((resolve, reject) => {
      receiver.#server.once("error", reject);
      receiver.#server.listen(0, "127.0.0.1", resolve);
    });
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/page`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
