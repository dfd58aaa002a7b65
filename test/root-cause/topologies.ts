/**
 * Call graphs for made incidents. Those of `HELD_OUT` are of other kinds than those of `TUNING`: what only works for trees shows.
 */
import type { CallEdge } from "../../src/orient/root-cause.ts";

/** A call graph and the service that people see. */
export interface Topology {
  readonly family: string;
  readonly edges: readonly CallEdge[];
  readonly entry: string;
}

type Make = (random: () => number) => Topology;
const int = (random: () => number, low: number, high: number): number => low + Math.floor((high - low + 1) * random());
const service = (i: number): string => `svc-${String(i).padStart(2, "0")}`;

/** Every service but the first has one caller. */
const tree: Make = (random) => {
  const size = int(random, 6, 30);
  const width = int(random, 2, 4);
  const edges: CallEdge[] = [];
  for (let i = 1; i < size; i++)
    edges.push({ from: service(Math.max(0, Math.floor((i - 1) / width) - int(random, 0, 1))), to: service(i) });
  return { family: "tree", edges, entry: service(0) };
};

/** Layers, each calling some of the next one: much fan-in. */
const layers: Make = (random) => {
  const edges: CallEdge[] = [];
  let next = 1;
  let layer = [service(0)];
  for (let depth = int(random, 2, 4); depth > 0; depth--) {
    const below = Array.from({ length: int(random, 2, 6) }, () => service(next++));
    for (const to of below) edges.push({ from: layer[int(random, 0, layer.length - 1)] ?? "", to });
    for (const from of layer)
      for (const to of below) if (random() < 0.3 && !edges.some((e) => e.from === from && e.to === to)) edges.push({ from, to });
    layer = below;
  }
  return { family: "layers", edges, entry: service(0) };
};

/** A chain of services with a database each two share. */
const chain: Make = (random) => {
  const length = int(random, 4, 9);
  const edges: CallEdge[] = [];
  for (let i = 1; i < length; i++) edges.push({ from: service(i - 1), to: service(i) });
  for (let i = 0; i < length; i++) edges.push({ from: service(i), to: `db-${Math.floor(i / 2)}` });
  edges.push({ from: service(length - 1), to: "config" }, { from: service(0), to: "config" });
  return { family: "chain with shared databases", edges, entry: service(0) };
};

/** A mesh with calls back up: cycles. */
const mesh: Make = (random) => {
  const size = int(random, 8, 25);
  const edges: CallEdge[] = [];
  const add = (a: number, b: number): void => {
    if (a !== b && !edges.some(({ from, to }) => from === service(a) && to === service(b)))
      edges.push({ from: service(a), to: service(b) });
  };
  for (let i = 1; i < size; i++) add(int(random, Math.max(0, i - 5), i - 1), i);
  for (let i = 0; i < size; i++) if (random() < 0.6) add(int(random, 0, size - 2), int(random, 1, size - 1));
  return { family: "mesh with cycles", edges, entry: service(0) };
};

const named =
  (family: string, entry: string, calls: Readonly<Record<string, string>>): Make =>
  () => ({ family, entry, edges: Object.entries(calls).flatMap(([from, list]) => list.split(" ").map((to) => ({ from, to }))) });

/** The call graph of Google's Online Boutique, which the datasets of RCAEval were measured on. */
const boutique = named("Online Boutique", "frontend", {
  frontend: "adservice cartservice checkoutservice currencyservice productcatalogservice recommendationservice shippingservice",
  checkoutservice: "cartservice currencyservice emailservice paymentservice productcatalogservice shippingservice",
  recommendationservice: "productcatalogservice",
  cartservice: "redis",
});

/** The call graph of Weaveworks' Sock Shop. */
const socks = named("Sock Shop", "front-end", {
  "front-end": "catalogue carts user orders",
  catalogue: "catalogue-db",
  carts: "carts-db",
  user: "user-db",
  orders: "orders-db carts user payment shipping",
  shipping: "rabbitmq",
  "queue-master": "rabbitmq",
});

export const TUNING: readonly Make[] = [tree, layers];
export const HELD_OUT: readonly Make[] = [chain, mesh, boutique, socks];
