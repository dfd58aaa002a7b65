/** A mutex for asynchronous code: one holder at a time, the others wait their turn. */
export class Mutex {
  #tail: Promise<void> = Promise.resolve();

  /** Runs `work` while holding the lock. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#tail = promise;
    await before;
    try {
      return await work();
    } finally {
      resolve();
    }
  }
}
