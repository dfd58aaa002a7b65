/** Whether two effects are of one attempt: their ids are `namespace/name/attempt/step`, and more for what takes one back. */
export function isOfSameAttempt(one: string, other: string): boolean {
  const attemptOf = (id: string): string => id.split("/").slice(0, 3).join("/");
  return attemptOf(one) === attemptOf(other);
}
