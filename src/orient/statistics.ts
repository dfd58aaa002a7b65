/**
 * The robust statistics that orient stands on. All of them are plain functions of numbers.
 *
 * Sources: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau" (1968); H. Theil (1950);
 * H. B. Mann, "Nonparametric tests against trend" (1945); M. G. Kendall, "Rank Correlation Methods" (1975);
 * K. H. Hamed and A. R. Rao, "A modified Mann-Kendall trend test for autocorrelated data" (1998).
 */

/** A reading: time in milliseconds or seconds (the caller's choice), and value. */
export interface Point {
  readonly t: number;
  readonly v: number;
}

/** A quantile (0 to 1) of values that are sorted already, interpolated linearly; NaN of nothing. */
export function quantileOfSorted(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return NaN;
  const position = (sorted.length - 1) * q;
  const low = Math.floor(position);
  const a = sorted[low] ?? NaN;
  const b = sorted[Math.min(low + 1, sorted.length - 1)] ?? NaN;
  return a + (b - a) * (position - low);
}

/** The median; NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantileOfSorted(Float64Array.from(values).sort(), 0.5);
}

/** The distribution function of the standard normal (Abramowitz and Stegun 26.2.17, error below 7.5e-8). */
export function normalCdf(z: number): number {
  const x = Math.abs(z);
  const k = 1 / (1 + 0.2316419 * x);
  const poly = k * (0.31938153 + k * (-0.356563782 + k * (1.781477937 + k * (-1.821255978 + k * 1.330274429))));
  const upper = Math.exp((-x * x) / 2) * 0.3989422804014327 * poly;
  return z >= 0 ? 1 - upper : upper;
}

/**
 * The standard deviation of the noise on a smooth curve, from its second differences: a trend does not count. `q` is the
 * quantile of them that is used: the median, or a lower one where many of them lie on the edges of teeth.
 */
export function noiseOf(values: readonly number[], q: 0.25 | 0.5 = 0.5): number {
  if (values.length < 4) return 0;
  const bends = new Float64Array(values.length - 2);
  for (let i = 1; i + 1 < values.length; i++) bends[i - 1] = Math.abs((values[i - 1] ?? 0) - 2 * (values[i] ?? 0) + (values[i + 1] ?? 0));
  // That quantile of a standard normal's absolute value; and a second difference has six times the variance.
  return quantileOfSorted(bends.sort(), q) / (q === 0.5 ? 0.67449 : 0.31864) / Math.sqrt(6);
}

/** What a Theil-Sen fit and a Mann-Kendall test found. */
export interface MonotoneTrend {
  /** Median of all pairwise slopes, value per unit of time. */
  readonly slope: number;
  /** Value of the line at the first point's time. */
  readonly intercept: number;
  /** Kendall's tau-b like share of agreeing pairs, -1 to 1. */
  readonly tau: number;
  /** Standard score of Mann-Kendall's S, corrected for ties and for autocorrelation; positive for growth. */
  readonly z: number;
  /** First autocorrelation of the residuals. */
  readonly autocorrelation: number;
  /** Standard deviation of the residuals about the line (by their median absolute deviation and their variance: the larger). */
  readonly residual: number;
}

/**
 * Theil-Sen slope and Mann-Kendall test over every pair: quadratic, so give it at most some sixty points.
 * Autocorrelation only ever widens the test's variance here: Hamed and Rao's factor may also fall below one, which would
 * make a trend surer than independent data could.
 */
export function monotoneTrend(points: readonly Point[]): MonotoneTrend {
  const n = points.length;
  const slopes = new Float64Array((n * (n - 1)) / 2);
  let count = 0;
  let s = 0;
  for (let i = 0; i < n; i++) {
    const a = points[i] as Point;
    for (let j = i + 1; j < n; j++) {
      const b = points[j] as Point;
      const rise = b.v - a.v;
      s += Math.sign(rise);
      slopes[count++] = rise / (b.t - a.t);
    }
  }
  const slope = quantileOfSorted(slopes.sort(), 0.5);
  const t0 = points[0]?.t ?? 0;
  const intercept = median(points.map((p) => p.v - slope * (p.t - t0)));
  const residuals = points.map((p) => p.v - intercept - slope * (p.t - t0));

  let variance = n * (n - 1) * (2 * n + 5);
  const ties = new Map<number, number>();
  for (const p of points) ties.set(p.v, (ties.get(p.v) ?? 0) + 1);
  for (const tie of ties.values()) if (tie > 1) variance -= tie * (tie - 1) * (2 * tie + 5);
  variance /= 18;

  const mean = residuals.reduce((sum, r) => sum + r, 0) / n;
  const square = residuals.reduce((sum, r) => sum + (r - mean) ** 2, 0);
  const mad = 1.4826 * median(residuals.map((r) => Math.abs(r)));
  const residual = Math.max(mad, Math.sqrt(square / Math.max(1, n - 2)));

  const lags = Math.min(Math.floor(n / 4), 10);
  let inflation = 0;
  let first = 0;
  if (square > 0) {
    for (let lag = 1; lag <= lags; lag++) {
      let sum = 0;
      for (let i = 0; i + lag < n; i++) sum += ((residuals[i] ?? 0) - mean) * ((residuals[i + lag] ?? 0) - mean);
      const rho = sum / square;
      if (lag === 1) first = rho;
      // Only what a white series would not show, as Hamed and Rao advise; the first that is not significant ends it.
      if (rho < 1.645 / Math.sqrt(n)) break;
      inflation += (n - lag) * (n - lag - 1) * (n - lag - 2) * rho;
    }
  }
  const factor = 1 + (n > 2 ? (2 * inflation) / (n * (n - 1) * (n - 2)) : 0);
  const sd = Math.sqrt(Math.max(variance, 0) * factor);
  const z = sd > 0 && s !== 0 ? (s - Math.sign(s)) / sd : 0;
  const pairs = (n * (n - 1)) / 2;
  return { slope, intercept, tau: pairs > 0 ? s / pairs : 0, z, autocorrelation: first, residual };
}

/** A least-squares fit: coefficients, sum of squared errors, and the standard error of each coefficient. */
export interface Fit {
  readonly coefficients: readonly number[];
  readonly sse: number;
  readonly errors: readonly number[];
}

/** Ordinary least squares over a few columns by Gauss-Jordan elimination; undefined where they are not independent. */
export function leastSquares(columns: readonly (readonly number[])[], y: readonly number[]): Fit | undefined {
  const m = columns.length;
  const n = y.length;
  if (n <= m) return undefined;
  const rows: number[][] = [];
  for (let i = 0; i < m; i++) {
    const row: number[] = [];
    for (let j = 0; j < m; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += (columns[i]?.[k] ?? 0) * (columns[j]?.[k] ?? 0);
      row.push(sum);
    }
    for (let j = 0; j < m; j++) row.push(i === j ? 1 : 0);
    rows.push(row);
  }
  for (let i = 0; i < m; i++) {
    let best = i;
    for (let r = i + 1; r < m; r++) if (Math.abs(rows[r]?.[i] ?? 0) > Math.abs(rows[best]?.[i] ?? 0)) best = r;
    const pivotRow = rows[best] as number[];
    rows[best] = rows[i] as number[];
    rows[i] = pivotRow;
    const pivot = pivotRow[i] ?? 0;
    if (Math.abs(pivot) < 1e-12) return undefined;
    for (let c = 0; c < 2 * m; c++) pivotRow[c] = (pivotRow[c] ?? 0) / pivot;
    for (let r = 0; r < m; r++) {
      if (r === i) continue;
      const row = rows[r] as number[];
      const factor = row[i] ?? 0;
      if (factor !== 0) for (let c = 0; c < 2 * m; c++) row[c] = (row[c] ?? 0) - factor * (pivotRow[c] ?? 0);
    }
  }
  const xty = columns.map((column) => column.reduce((sum, x, k) => sum + x * (y[k] ?? 0), 0));
  const coefficients = rows.map((row) => xty.reduce((sum, value, j) => sum + (row[m + j] ?? 0) * value, 0));
  let sse = 0;
  for (let k = 0; k < n; k++) {
    let fitted = 0;
    for (let i = 0; i < m; i++) fitted += (coefficients[i] ?? 0) * (columns[i]?.[k] ?? 0);
    sse += ((y[k] ?? 0) - fitted) ** 2;
  }
  const variance = sse / (n - m);
  return { coefficients, sse, errors: rows.map((row, i) => Math.sqrt(Math.max(0, variance * (row[m + i] ?? 0)))) };
}
