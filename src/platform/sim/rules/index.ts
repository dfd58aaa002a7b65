import { l1Ends } from "./l1-ends.ts";
import { l2NotDropped } from "./l2-not-dropped.ts";
import { l3NotForgotten } from "./l3-not-forgotten.ts";
import { l4Pages } from "./l4-pages.ts";
import type { Rule } from "./rule.ts";
import { s01OneLive } from "./s01-one-live.ts";
import { s02AtMostOnce } from "./s02-at-most-once.ts";
import { s03Budgets } from "./s03-budgets.ts";
import { s04Evidence } from "./s04-evidence.ts";
import { s05Dependency } from "./s05-dependency.ts";
import { s06Strikes } from "./s06-strikes.ts";
import { s07Observe } from "./s07-observe.ts";
import { s08Captures } from "./s08-captures.ts";
import { s09Intent } from "./s09-intent.ts";
import { s10Fencing } from "./s10-fencing.ts";
import { s11NoBacklog } from "./s11-no-backlog.ts";
import { s12Marks } from "./s12-marks.ts";
import { s13Blind } from "./s13-blind.ts";
import { s14Paused } from "./s14-paused.ts";
import { s15Windows } from "./s15-windows.ts";
import { s16Approval } from "./s16-approval.ts";
import { s17Storm } from "./s17-storm.ts";
import { s18OnePage } from "./s18-one-page.ts";
import { s19Well } from "./s19-well.ts";
import { s20Capacity } from "./s20-capacity.ts";
import { s21OneEpoch } from "./s21-one-epoch.ts";
import { s22OthersWork } from "./s22-others-work.ts";
import { s23Memory } from "./s23-memory.ts";
import { s24NotLeftOpen } from "./s24-not-left-open.ts";
import { s25NotOverWell } from "./s25-not-over-well.ts";

/** The rules that hold in every run, as docs/architecture.md has them. */
export const RULES: readonly Rule[] = [
  s01OneLive,
  s02AtMostOnce,
  s03Budgets,
  s04Evidence,
  s05Dependency,
  s06Strikes,
  s07Observe,
  s08Captures,
  s09Intent,
  s10Fencing,
  s11NoBacklog,
  s12Marks,
  s13Blind,
  s14Paused,
  s15Windows,
  s16Approval,
  s17Storm,
  s18OnePage,
  s19Well,
  s20Capacity,
  s21OneEpoch,
  s22OthersWork,
  s23Memory,
  s24NotLeftOpen,
  s25NotOverWell,
  l1Ends,
  l2NotDropped,
  l3NotForgotten,
  l4Pages,
];
