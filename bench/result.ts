/** One measured number. */
export interface BenchRow {
  readonly label: string;
  readonly value: number;
  /** Unit of `value`, such as `series/s`, `ms` or `MB`. */
  readonly unit: string;
  /** `value` over the bound that was measured in the same run. */
  readonly ratio?: number;
}

/** What a bench found, and how. */
export interface BenchResult {
  readonly name: string;
  /** How it was measured, in a sentence or two: numbers without their method say nothing. */
  readonly method: string;
  readonly rows: readonly BenchRow[];
}
