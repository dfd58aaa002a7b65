/** Text without anything that a terminal would act on: control characters become spaces. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are what it is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, " ");
}

/** Columns under upper-case headings, three spaces apart, as kubectl prints them. What is empty is `-`. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows.map((row) => headings.map((_, i) => printable(row[i] ?? "").trim() || "-"))];
  const widths = headings.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? "").length)));
  return cells
    .map(
      (row) =>
        row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join("   ")
          .trimEnd() + "\n",
    )
    .join("");
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
] as const;

/** A length of time in its one or two largest units, such as `45s`, `3m12s`, `5h`, `12d`. Milliseconds in; never negative. */
export function ageText(ms: number): string {
  const rest = Math.max(0, Math.floor(Number.isFinite(ms) ? ms : 0));
  const i = UNITS.findIndex(([, size]) => rest >= size);
  const unit = UNITS[i];
  if (unit === undefined) return "0s";
  const [name, size] = unit;
  const count = Math.floor(rest / size);
  const next = UNITS[i + 1];
  // Beyond ten of the larger unit nobody wants the smaller.
  const more = next === undefined || count >= 10 ? 0 : Math.floor((rest % size) / next[1]);
  return `${count}${name}${more === 0 || next === undefined ? "" : `${more}${next[0]}`}`;
}
