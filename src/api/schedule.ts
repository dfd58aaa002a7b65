import { Cron } from "croner";
import { dateAt } from "./time.ts";
import { durationMs } from "./units.ts";

/** A span that recurs: what `windows` and scheduled budgets have in common. */
export interface Recurrence {
  /** Cron expression of its openings. */
  readonly schedule: string;
  /** IANA time zone that the expression is read in. */
  readonly timeZone: string;
  /** How long each opening lasts, as `units.ts` reads it. */
  readonly duration: string;
}

// Parsing an expression costs more than asking it. Bounded, because policies come and go.
const CACHE_SIZE = 1_000;
const cache = new Map<string, Cron>();

function remember<V>(map: Map<string, V>, key: string, value: V): V {
  if (map.size >= CACHE_SIZE) map.clear();
  map.set(key, value);
  return value;
}

function cron(schedule: string, timeZone: string): Cron {
  const key = `${timeZone} ${schedule}`;
  return cache.get(key) ?? remember(cache, key, new Cron(schedule, { paused: true, timezone: timeZone }));
}

// Every decision asks again, and the answer changes a few times a day: the newest one of each, and from when to when it holds.
interface Held<V> {
  readonly from: number;
  readonly to: number;
  readonly answer: V;
}
const openings = new Map<string, Held<number | undefined>>();
const closings = new Map<string, Held<number | undefined>>();

/** The held answer where it holds at `at`, else a new one. */
function held<V>(map: Map<string, Held<V>>, key: string, at: number, ask: () => Omit<Held<V>, "from">): V {
  const known = map.get(key);
  return known !== undefined && known.from <= at && at < known.to ? known.answer : remember(map, key, { from: at, ...ask() }).answer;
}

/**
 * The first opening after `after` (ms), or undefined when there is none. Daylight saving: an opening in the hour that is
 * skipped happens at the end of the gap, and one in the hour that is repeated happens once (croner's rule for fixed times).
 */
export function nextOpening(recurrence: Pick<Recurrence, "schedule" | "timeZone">, after: number): number | undefined {
  const { schedule, timeZone } = recurrence;
  return held(openings, `${timeZone} ${schedule}`, after, () => {
    const answer = cron(schedule, timeZone).nextRun(dateAt(after))?.getTime();
    return { answer, to: answer ?? Infinity };
  });
}

/** How many openings a chain of windows without a gap is followed before it counts as endless. */
const CHAIN = 100;

/**
 * When the window that is open at `now` closes (ms): `Infinity` when a hundred openings follow each other without a gap, undefined
 * when none is open. A window is open from its opening on, and no longer at opening + duration. The duration is
 * elapsed time: a window of 8 h lasts 8 h, also in a night that has 23 or 25.
 */
export function openUntil(recurrence: Recurrence, now: number): number | undefined {
  const { schedule, timeZone, duration } = recurrence;
  return held(closings, `${timeZone} ${duration} ${schedule}`, now, () => {
    const lasts = durationMs(duration);
    const answer = closesAt(recurrence, lasts, now);
    // Open it stays so until it closes, closed until the next opening.
    return { answer, to: answer === Infinity ? now + lasts : (answer ?? nextOpening(recurrence, now) ?? Infinity) };
  });
}

function closesAt(recurrence: Recurrence, lasts: number, now: number): number | undefined {
  // Open if and only if an opening lies in (now - lasts, now].
  let opening = nextOpening(recurrence, now - lasts);
  if (opening === undefined || opening > now) return undefined;
  for (let i = 0; i < CHAIN; i += 1) {
    const next = nextOpening(recurrence, opening);
    if (next === undefined || next > opening + lasts) return opening + lasts;
    opening = next;
  }
  return Infinity;
}
