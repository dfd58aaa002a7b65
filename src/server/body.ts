import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { createGunzip, createInflate, type Gunzip, type Inflate } from "node:zlib";
import { NightshiftError } from "../api/errors.ts";

/** How much of request bodies is held in memory at once, over all requests. */
export class BodyBudget {
  readonly #max: number;
  #used = 0;

  constructor(maxBytes: number) {
    this.#max = maxBytes;
  }

  /** Whether there is place for `bytes` more; takes it if so. */
  take(bytes: number): boolean {
    if (this.#used + bytes > this.#max) return false;
    this.#used += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#used -= bytes;
  }
}

/** A request's body as it comes, of HTTP/1.1 or of HTTP/2. */
export interface IncomingBody {
  readonly stream: Readable;
  /** Content-Length, where the sender says so. */
  readonly length: string | undefined;
  /** Content-Encoding. Default: none. */
  readonly encoding: string | undefined;
  /** Whether it has come whole, once its stream has ended or is closed. */
  readonly complete: () => boolean;
}

/** The body of a request of `node:http`. */
export function bodyOf(incoming: IncomingMessage): IncomingBody {
  const { headers } = incoming;
  return {
    stream: incoming,
    length: headers["content-length"],
    encoding: headers["content-encoding"],
    complete: () => incoming.complete,
  };
}

/**
 * Reads a request's body, inflated, into memory and hands it to `use`; the memory counts against `budget` until `use`
 * has returned. Inflating happens while reading and ends at the limit, so a bomb costs no more than a large body.
 * `maxBytes` holds for what is sent and for what it inflates to.
 *
 * @throws NightshiftError `BODY_TOO_LARGE`, `UNSUPPORTED_ENCODING`, `MALFORMED_ENCODING`, `BODY_CUT` or `OVERLOADED`.
 */
export async function withBody<T>(incoming: IncomingBody, maxBytes: number, budget: BodyBudget, use: (body: Uint8Array) => T): Promise<T> {
  let held = 0;
  const hold = (bytes: number): boolean => {
    if (!budget.take(bytes)) return false;
    held += bytes;
    return true;
  };
  try {
    return use(await read(incoming, maxBytes, hold));
  } finally {
    budget.release(held);
  }
}

function read(body: IncomingBody, maxBytes: number, hold: (bytes: number) => boolean): Promise<Uint8Array> {
  const incoming = body.stream;
  const tooLarge = (): NightshiftError =>
    new NightshiftError("BODY_TOO_LARGE", `the body is larger than ${maxBytes} bytes`, { fix: "Send smaller batches." });
  if (Number(body.length ?? 0) > maxBytes) return Promise.reject(tooLarge());
  const encoding = (body.encoding ?? "identity").trim().toLowerCase();
  let inflater: Gunzip | Inflate | undefined;
  if (encoding === "gzip" || encoding === "x-gzip") inflater = createGunzip();
  else if (encoding === "deflate") inflater = createInflate();
  else if (encoding !== "identity" && encoding !== "")
    return Promise.reject(
      new NightshiftError("UNSUPPORTED_ENCODING", "the body's Content-Encoding is not known", { fix: "Send gzip, deflate or identity." }),
    );
  // Who it is was asked first, and the sender may be gone since: then no further event comes.
  if (incoming.destroyed && !body.complete())
    return Promise.reject(new NightshiftError("BODY_CUT", "the connection ended before the body did"));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let sent = 0;
    let size = 0;
    const end = (error?: NightshiftError): void => {
      incoming.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
      inflater?.removeAllListeners("data").destroy();
      if (error === undefined) resolve(chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks, size));
      else {
        // What still comes is thrown away, within the adapter's bounds: a sender that still writes reads no answer.
        incoming.resume();
        reject(error);
      }
    };
    const keep = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > maxBytes) return end(tooLarge());
      if (!hold(chunk.length))
        return end(new NightshiftError("OVERLOADED", "too many request bodies are in memory", { fix: "Try again in a moment." }));
      chunks.push(chunk);
    };
    const onData = (chunk: Buffer): void => {
      sent += chunk.length;
      if (sent > maxBytes) return end(tooLarge());
      if (inflater === undefined) return keep(chunk);
      if (inflater.write(chunk)) return;
      incoming.pause();
      inflater.once("drain", () => incoming.resume());
    };
    const cut = (): void => end(new NightshiftError("BODY_CUT", "the connection ended before the body did"));
    const onEnd = (): void => {
      // A stream of HTTP/2 that was reset ends, too.
      if (!body.complete()) cut();
      else if (inflater === undefined) end();
      else inflater.end();
    };
    const onClose = (): void => {
      if (!body.complete()) cut();
    };
    inflater
      ?.on("data", keep)
      .once("end", () => end())
      // Stays on: what was being inflated when it was destroyed may still fail, and nobody else would hear it.
      .on("error", (cause: Error) =>
        end(new NightshiftError("MALFORMED_ENCODING", `the body is not what its Content-Encoding says: ${cause.message}`, { cause })),
      );
    incoming.on("data", onData).once("end", onEnd).once("close", onClose).once("error", onClose);
  });
}
