/**
 * What was stored, once that is known and the trail has confirmed its record; both begin at once. Waits for both also where one
 * fails: as long as it is not known what was stored, nothing else may be decided on, and the trail may be the first to answer.
 * Rejects with what went wrong, that of the store first.
 */
export async function storedAndRecorded<T>(storing: Promise<T>, recording: Promise<unknown>): Promise<T> {
  const [stored, recorded] = await Promise.allSettled([storing, recording]);
  if (stored.status === "rejected") throw stored.reason;
  if (recorded.status === "rejected") throw recorded.reason;
  return stored.value;
}
