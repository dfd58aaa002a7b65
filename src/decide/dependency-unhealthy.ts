import { targetKey } from "../api/meta.ts";
import { block, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** Blocks while another service is the cause. */
export const dependencyUnhealthy: Gate = {
  name: "DependencyUnhealthy",
  doc: "While something that the workload depends on is the cause, the workload itself is not touched.",
  onEveryStep: true,
  check({ diagnosis }) {
    if (diagnosis.dependency === undefined) return pass("no dependency is the cause");
    return block(`${targetKey(diagnosis.dependency.workload)} is the cause: ${diagnosis.dependency.message}`);
  },
};
