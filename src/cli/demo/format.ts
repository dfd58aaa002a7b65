import { stripVTControlCharacters, styleText } from "node:util";

/** Paints text, or leaves it as it is where colours are not wanted. */
export interface Paint {
  (style: Style, text: string): string;
}
export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan" | "magenta";

/** Whether a stream takes colours: a terminal that has them, unless NO_COLOR is set to anything (no-color.org). */
export function wantsColor(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** A `Paint` that uses ANSI escapes, or none. */
export function painter(color: boolean): Paint {
  return color ? (style, text) => styleText(style, text, { validateStream: false }) : (_style, text) => text;
}

/** `184 MiB`. */
export function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** A length of time for people: `850 ms`, `2.4 s`, `47 s`, `3 min 20 s`. */
export function span(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** Milliseconds of latency: `18 ms`; `-` where there is none. */
export function latency(ms: number | undefined): string {
  return ms === undefined ? "-" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** Minutes and seconds since a start: `0:07`. */
export function clockText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

const BARS = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** A line of bars for values between `low` and `high`, one character each, of the newest `width` values. */
export function sparkline(values: readonly number[], width: number, low: number, high: number): string {
  return values
    .slice(-width)
    .map((value) => {
      const share = high > low ? (value - low) / (high - low) : 0;
      return BARS[Math.min(BARS.length - 1, Math.max(0, Math.floor(share * BARS.length)))] ?? "";
    })
    .join("");
}

/** The last value of each of `width` equal spans of time: an uneven series as an even one; empty spans repeat the one before. */
export function resample(
  samples: readonly { readonly t: number; readonly v: number }[],
  width: number,
  from: number,
  to: number,
): number[] {
  const result: number[] = [];
  let at = 0;
  let value: number | undefined;
  for (let i = 0; i < width; i++) {
    const end = from + ((to - from) * (i + 1)) / width;
    while (at < samples.length && (samples[at]?.t ?? Infinity) <= end) value = samples[at++]?.v;
    if (value !== undefined) result.push(value);
  }
  return result;
}

/** Columns that a text takes, escapes not counted. Everything that the demo writes is one column wide. */
export function widthOf(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length;
}

/** Cut to `width` columns with an ellipsis, or filled up with spaces to it. Only for text without escapes. */
export function fit(text: string, width: number): string {
  const characters = Array.from(text);
  if (characters.length <= width) return text + " ".repeat(width - characters.length);
  return width <= 1 ? "…".slice(0, width) : `${characters.slice(0, width - 1).join("")}…`;
}

/** Text in lines of at most `width` columns, broken at spaces. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines;
}
