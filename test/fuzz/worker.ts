// A thread of its own for one target, so that an input that never ends, or that takes all memory, can be ended and is known.
import { TARGETS } from "./targets/index.ts";
import { work } from "./work.ts";

work(TARGETS);
