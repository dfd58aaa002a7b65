import type { CaptureRecord } from "../../src/api/remediation.ts";
import { sleep, type Clock } from "../../src/ports/clock.ts";
import type { KubeClient } from "../../src/platform/kubernetes/client.ts";
import { isConflict, isNotFound, KubeApiError } from "../../src/platform/kubernetes/errors.ts";
import type { RemediationObject } from "./request.ts";

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 15_000;

/** Which episode. */
export interface EpisodeName {
  readonly namespace: string;
  readonly name: string;
}

/** Path of a Remediation at the API server. */
export function remediationPath({ namespace, name }: EpisodeName): string {
  return `/apis/nightshift.dev/v1alpha1/namespaces/${encodeURIComponent(namespace)}/remediations/${encodeURIComponent(name)}`;
}

/**
 * Writes entries of `status.captures`. Each write is bound to the resourceVersion that it was made from, so that of two
 * agents one wins, and nothing that others write into the status is lost.
 */
export class Answers {
  readonly #client: KubeClient;
  readonly #clock: Clock;

  constructor(client: KubeClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * Stores what `change` makes of the episode's entry for an effect; undefined leaves it as it is. It is asked again
   * when somebody else wrote meanwhile, and as long as the API server does not answer.
   *
   * @returns the episode as it is then; undefined when it is gone, or `signal` aborted first.
   */
  async write(
    episode: EpisodeName,
    effectId: string,
    change: (current: CaptureRecord | undefined, remediation: RemediationObject) => CaptureRecord | undefined,
    signal: AbortSignal,
  ): Promise<RemediationObject | undefined> {
    let wait = FIRST_RETRY_MS;
    while (!signal.aborted) {
      try {
        return await this.#once(episode, effectId, change, signal);
      } catch (error) {
        if (isNotFound(error)) return undefined;
        if (signal.aborted) return undefined;
        const mayGoWell = isConflict(error) || (error instanceof KubeApiError && error.isTransient);
        if (!mayGoWell) throw error;
      }
      await sleep(this.#clock, wait, signal);
      wait = Math.min(wait * 2, LAST_RETRY_MS);
    }
    return undefined;
  }

  async #once(
    episode: EpisodeName,
    effectId: string,
    change: (current: CaptureRecord | undefined, remediation: RemediationObject) => CaptureRecord | undefined,
    signal: AbortSignal,
  ): Promise<RemediationObject> {
    const path = remediationPath(episode);
    const remediation = await this.#client.request<RemediationObject>({ method: "GET", path, signal });
    const captures = remediation.status?.captures ?? [];
    const current = captures.find((entry) => entry.effectId === effectId);
    const next = change(current, remediation);
    if (next === undefined) return remediation;
    return this.#client.request<RemediationObject>({
      method: "PATCH",
      path: `${path}/status`,
      contentType: "application/merge-patch+json",
      body: {
        metadata: { resourceVersion: remediation.metadata.resourceVersion },
        status: { captures: [...captures.filter((entry) => entry.effectId !== effectId), next] },
      },
      signal,
    });
  }
}
