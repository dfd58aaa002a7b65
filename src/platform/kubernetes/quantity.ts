const SUFFIXES: Readonly<Record<string, number>> = {
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
};

/** The number that a quantity of the Kubernetes API stands for (`256Mi`, `1e9`, `1500m`); undefined where it is none. */
export function quantityNumber(quantity: string | number | undefined): number | undefined {
  if (typeof quantity === "number") return quantity;
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d+)|(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E))?$/.exec(quantity ?? "");
  if (match === null) return undefined;
  return Number(`${match[1] ?? ""}${match[2] ?? ""}`) * (match[3] === undefined ? 1 : (SUFFIXES[match[3]] ?? 1));
}

/** Bytes as people write them: the largest binary unit that divides it, else the number. */
export function quantityText(bytes: number): string {
  for (const [unit, size] of [
    ["Gi", 2 ** 30],
    ["Mi", 2 ** 20],
    ["Ki", 2 ** 10],
  ] as const)
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  return String(bytes);
}
