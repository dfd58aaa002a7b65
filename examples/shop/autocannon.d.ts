/** The part of autocannon's interface that the load generator uses; the package brings no types. */
declare module "autocannon" {
  import type { EventEmitter } from "node:events";

  export interface Options {
    readonly url: string;
    readonly connections: number;
    /** Requests a second over all connections. */
    readonly overallRate: number;
    /** Seconds. */
    readonly duration: number;
    /** Seconds without an answer after which a request counts as failed. */
    readonly timeout: number;
  }
  export interface Instance extends EventEmitter {
    stop(): void;
  }
  export default function autocannon(options: Options, done: (error: Error | null) => void): Instance;
}
