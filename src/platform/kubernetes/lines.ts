import { KubeApiError } from "./errors.ts";

const LINE_FEED = 0x0a;

/** Cuts a stream of bytes into lines, wherever its chunks begin and end. */
export class Lines {
  readonly #maxBytes: number;
  /** Parts of a line whose end has not come yet. */
  #parts: Buffer[] = [];
  #bytes = 0;

  /** @param maxBytes - longest line. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether nothing is left of a line that has not ended. */
  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /**
   * The lines that end in this chunk, without their line feeds; empty ones are left out.
   * @throws KubeApiError `KUBE_RESPONSE_TOO_LARGE`.
   */
  *push(chunk: Buffer): Generator<string> {
    let from = 0;
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, from)) {
      this.#keep(chunk.subarray(from, end));
      from = end + 1;
      const line = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts, this.#bytes);
      this.#parts = [];
      this.#bytes = 0;
      if (line !== undefined && line.length > 0) yield line.toString("utf8");
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#maxBytes) throw new KubeApiError("KUBE_RESPONSE_TOO_LARGE", `a line is longer than ${this.#maxBytes} bytes`);
    this.#parts.push(part);
  }
}
