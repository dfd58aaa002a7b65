import type { Scenario } from "../scenario.ts";
import { deadlock } from "./deadlock.ts";
import { dependency } from "./dependency.ts";
import { flapping } from "./flapping.ts";
import { leak } from "./leak.ts";
import { noData } from "./no-data.ts";
import { observe } from "./observe.ts";
import { strikes } from "./strikes.ts";

/** Every scenario, in the order of the help. */
export const SCENARIOS: readonly Scenario[] = [leak, deadlock, dependency, flapping, strikes, noData, observe];
