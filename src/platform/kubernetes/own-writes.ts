/** A state that a watch or a listing brings. */
export interface Seen {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly isDeleted: boolean;
}

/**
 * What an answer of the API server is worth. `News`: it is the newest state, and the caller takes it over. `Known`: the
 * watch has told it already, and perhaps more. `Doubtful`: everything was listed meanwhile, and either may be newer.
 */
export type Verdict = "News" | "Known" | "Doubtful";

/** What was written and has not come back by the watch yet. */
interface Awaited {
  /** The version that the write made; undefined for a deletion. */
  readonly resourceVersion?: string;
  /** The object that was deleted. */
  readonly deleted?: string;
  /** A listing has begun since: what it says is newer. */
  overtaken: boolean;
}

interface Entry {
  /** Requests under way. */
  running: number;
  /** What was seen since the first of them began. */
  readonly seen: Set<string>;
  awaited: Awaited | undefined;
  /** A listing ended while a request was under way: nobody knows which of the two is newer. */
  isBlurred: boolean;
}

const mark = ({ uid, resourceVersion, isDeleted }: Seen): string => (isDeleted ? `-${uid}` : `+${resourceVersion}`);

/**
 * Keeps what a process wrote itself ahead of the watch that lags behind it. An answer of the API server may come before
 * the watch tells of it, or after the watch has told of that and more; resourceVersions do not say which, as they are
 * opaque. So it is remembered what the watch has told while a request was under way, and then what it has yet to tell.
 */
export class OwnWrites {
  readonly #entries = new Map<string, Entry>();
  #isListing = false;

  /**
   * A request about `key` begins; `failed` or `answered` must follow when it has ended.
   * @param known - the version that is known now, which the answer may be about.
   */
  begin(key: string, known: string | undefined): void {
    const entry = this.#entries.get(key) ?? { running: 0, seen: new Set(), awaited: undefined, isBlurred: false };
    entry.running += 1;
    if (known !== undefined) entry.seen.add(`+${known}`);
    this.#entries.set(key, entry);
  }

  /** The request came to nothing. */
  failed(key: string): void {
    this.#end(key);
  }

  /** The API server answered with this state: what to make of it. */
  answered(key: string, state: Seen): Verdict {
    const entry = this.#entries.get(key);
    if (entry === undefined) return "Doubtful";
    const verdict = entry.isBlurred ? "Doubtful" : entry.seen.has(mark(state)) ? "Known" : "News";
    if (verdict === "News") {
      const { uid, resourceVersion, isDeleted } = state;
      // A listing under way may have it or not; who keeps the objects asks again after it.
      entry.awaited = { ...(isDeleted ? { deleted: uid } : { resourceVersion }), overtaken: this.#isListing };
    }
    this.#end(key);
    return verdict;
  }

  /**
   * A watch or a listing brings a state. Whether it may be taken over: false for what is older than what was written. A
   * deletion may be, by whoever has the object of that uid.
   */
  admits(key: string, state: Seen): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return true;
    if (entry.running > 0) entry.seen.add(mark(state));
    const { awaited } = entry;
    if (awaited === undefined) return true;
    const isIt = state.isDeleted ? awaited.deleted === state.uid : awaited.resourceVersion === state.resourceVersion;
    if (isIt || awaited.overtaken) {
      entry.awaited = undefined;
      this.#drop(key, entry);
      return true;
    }
    // An object that is gone never comes back: another of its name is another.
    return state.isDeleted;
  }

  /** A listing begins: it has everything that was written until now. */
  startListing(): void {
    this.#isListing = true;
    for (const { awaited } of this.#entries.values()) if (awaited !== undefined) awaited.overtaken = true;
  }

  /** The listing is whole: what it overtook and did not bring is gone. */
  endListing(): void {
    this.#isListing = false;
    for (const [key, entry] of this.#entries) {
      if (entry.running > 0) entry.isBlurred = true;
      if (entry.awaited?.overtaken) entry.awaited = undefined;
      this.#drop(key, entry);
    }
  }

  #end(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.running -= 1;
    if (entry.running === 0) {
      entry.seen.clear();
      entry.isBlurred = false;
    }
    this.#drop(key, entry);
  }

  #drop(key: string, entry: Entry): void {
    if (entry.running === 0 && entry.awaited === undefined) this.#entries.delete(key);
  }
}
