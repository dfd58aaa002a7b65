import { NightshiftError } from "../../../api/errors.ts";
import type { Artifact, Remediation } from "../../../api/remediation.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { isNotFound } from "../errors.ts";
import { type Deps, type EffectOf, type Handler, until } from "./shared.ts";

type CaptureRecord = Remediation["status"]["captures"][number];

/**
 * Waits for the agent on the pod's node. The request is on record already: it is the intent of the step in the Remediation,
 * whose name begins the effect's id. The agent answers in `status.captures[]`.
 */
export const capture: Handler<"Capture"> = {
  type: "Capture",

  async apply(effect, deps, signal) {
    let last = "no agent has taken it up: does one run on the pod's node?";
    const record = await until(
      deps,
      signal,
      () => last,
      async () => {
        const found = await answer(effect, deps, signal);
        if (found?.state === "Running")
          last = `the agent on ${found.node} is at it${found.progress === undefined ? "" : `: ${found.progress}`}`;
        return found === undefined || found.state === "Running" ? undefined : found;
      },
    );
    const artifact = artifactOf(record);
    if (artifact === undefined)
      throw new NightshiftError("CAPTURE_FAILED", `the agent on ${record.node}: ${record.message ?? "it gave no reason"}`);
    return saved(effect, artifact);
  },

  async observe(effect, deps) {
    const record = await answer(effect, deps);
    const artifact = record === undefined ? undefined : artifactOf(record);
    return artifact === undefined ? { state: "NotApplied" } : { state: "Applied", result: saved(effect, artifact) };
  },
};

function artifactOf(record: CaptureRecord): Artifact | undefined {
  return record.state === "Done" ? record.artifact : undefined;
}

function saved({ replica }: EffectOf<"Capture">, artifact: Artifact): EffectResult {
  return { message: `saved ${artifact.path} of ${replica.name} (${artifact.bytes} bytes, sha256 ${artifact.sha256})`, artifact };
}

/** What the agent has written for the effect so far. */
async function answer({ id }: EffectOf<"Capture">, deps: Deps, signal?: AbortSignal): Promise<CaptureRecord | undefined> {
  const [namespace = "", name = ""] = id.split("/");
  try {
    const { status } = await deps.client.request<{ status?: { captures?: readonly CaptureRecord[] } }>({
      method: "GET",
      path: `/apis/nightshift.dev/v1alpha1/namespaces/${namespace}/remediations/${name}`,
      ...(signal === undefined ? {} : { signal }),
    });
    return status?.captures?.find((record) => record.effectId === id);
  } catch (error) {
    if (isNotFound(error)) throw new NightshiftError("NOT_FOUND", `the Remediation ${namespace}/${name} is gone`, { cause: error });
    throw error;
  }
}
