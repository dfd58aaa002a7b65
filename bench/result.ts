/** One measured number. */
export interface BenchRow {
  readonly label: string;
  readonly value: number;
  /** Unit of `value`, such as `series/s`, `ms` or `MB`. */
  readonly unit: string;
  /** `value` over the bound that was measured in the same run, or over what `beside` names. */
  readonly ratio?: number;
  /** What `ratio` is to, such as `the peer's`. Default: the bound. */
  readonly beside?: string;
  /** What the project has set itself: `value`, or `ratio`, is at most this. */
  readonly goal?: { readonly of: "value" | "ratio"; readonly atMost: number };
}

/** What a bench found, and how. */
export interface BenchResult {
  readonly name: string;
  /** How it was measured, in a sentence or two: numbers without their method say nothing. */
  readonly method: string;
  readonly rows: readonly BenchRow[];
}

/** Whether a row is as its goal says; undefined where it has none. */
export function meets(row: BenchRow): boolean | undefined {
  if (row.goal === undefined) return undefined;
  const measured = row.goal.of === "value" ? row.value : row.ratio;
  return measured !== undefined && measured <= row.goal.atMost;
}
