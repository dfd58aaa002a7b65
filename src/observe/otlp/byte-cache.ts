/** How many places are made at once, when the first of them is taken. */
const PAGE = 16;

interface Page<T> {
  readonly bytes: DataView;
  readonly lengths: Uint16Array;
  readonly values: T[];
}

/**
 * What was made of bytes before, found again by the same bytes: an SDK sends the attributes of a stream, byte for byte, with each
 * export. Of a fixed size: each value has one place by the hash of its bytes, and the next one of that place takes it.
 * Whoever sends bytes that meet there on purpose makes the cache useless, never wrong and never slow.
 */
export class ByteCache<T> {
  readonly #places: number;
  readonly #width: number;
  readonly #pages: (Page<T> | undefined)[] = [];

  /**
   * @param places - how many values it holds; a power of two, at least 16.
   * @param width - most bytes of one, at most 65,535: longer ones are not kept. It takes up to `places * width` bytes of memory.
   */
  constructor(places: number, width: number) {
    this.#places = places;
    this.#width = width;
    for (let i = 0; i < places / PAGE; i++) this.#pages.push(undefined);
  }

  /** The place of the bytes of `view` in [`from`, `to`); -1 where they are too many, or none. */
  placeOf(view: DataView, from: number, to: number): number {
    const length = to - from;
    if (length > this.#width || length === 0) return -1;
    // Multiplicative hashing by words, with the constant of Knuth (TAOCP, volume 3, 6.4).
    let hash = length;
    let at = from;
    for (; at + 4 <= to; at += 4) {
      hash = Math.imul(hash ^ view.getInt32(at, true), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    for (; at < to; at++) hash = Math.imul(hash ^ view.getUint8(at), 0x9e3779b1);
    return (hash ^ (hash >>> 16)) & (this.#places - 1);
  }

  /** The value that stands at `place`, if it was made of the bytes of `view` in [`from`, `to`). */
  at(place: number, view: DataView, from: number, to: number): T | undefined {
    const page = this.#pages[Math.floor(place / PAGE)];
    const inPage = place % PAGE;
    if (page === undefined || page.lengths[inPage] !== to - from) return undefined;
    const { bytes } = page;
    let own = inPage * this.#width;
    let at = from;
    for (; at + 4 <= to; at += 4, own += 4) if (bytes.getInt32(own, true) !== view.getInt32(at, true)) return undefined;
    for (; at < to; at++, own++) if (bytes.getUint8(own) !== view.getUint8(at)) return undefined;
    return page.values[inPage];
  }

  /** Puts the value that was made of the bytes of `view` in [`from`, `to`) at their place. */
  put(place: number, view: DataView, from: number, to: number, value: T): void {
    const number = Math.floor(place / PAGE);
    const page = (this.#pages[number] ??= {
      bytes: new DataView(new ArrayBuffer(PAGE * this.#width)),
      lengths: new Uint16Array(PAGE),
      values: [],
    });
    const inPage = place % PAGE;
    const start = inPage * this.#width;
    for (let at = from; at < to; at++) page.bytes.setUint8(start + at - from, view.getUint8(at));
    page.lengths[inPage] = to - from;
    page.values[inPage] = value;
  }
}
