/** Longest time that a test waits for something that must come (ms). Generous: machines are slow and shared. */
const LIMIT_MS = 30_000;

/** Resolves once `check` throws no more; rejects with what it threw last when that takes too long. */
export async function until(check: () => void | Promise<void>, limitMs = LIMIT_MS): Promise<void> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await new Promise((resolve) => void setTimeout(resolve, 5));
  }
}
