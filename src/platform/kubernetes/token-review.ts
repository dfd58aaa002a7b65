import { createHash } from "node:crypto";
import { NightshiftError } from "../../api/errors.ts";
import type { Clock } from "../../ports/clock.ts";
import type { KubeClient } from "./client.ts";

/** How long an answer of the API server holds (ms): a yes as kube-apiserver's own webhook authenticator keeps it, a no shorter. */
const YES_MS = 60_000;
const NO_MS = 10_000;
/** Answers kept; the oldest goes first. A flood of wrong tokens thus costs requests, never memory. */
const MAX_KEPT = 1_000;
/** Requests to the API server at once; further senders are told to try again. */
const MAX_ASKING = 16;

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly user?: {
      readonly username?: string;
      readonly uid?: string;
      readonly groups?: readonly string[];
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
    readonly audiences?: readonly string[];
  };
}

/** Options of `tokenReviewCheck`. */
export interface TokenReviewOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** The audience that a token must be made for, as in `kubectl create token --audience`. */
  readonly audience: string;
}

/**
 * Lets in who the API server knows and allows: a TokenReview says whose the token is, a SubjectAccessReview whether its
 * owner may use the verb (the HTTP method in lower case) on the path as a nonResourceURL. So access is granted with RBAC:
 * `nonResourceURLs: ["/v1/metrics"], verbs: ["post"]`.
 *
 * Rejects with `AUTH_UNAVAILABLE` when the API server does not answer.
 */
export function tokenReviewCheck(
  options: TokenReviewOptions,
): (credentials: { readonly authorization: string | undefined; readonly method: string; readonly path: string }) => Promise<boolean> {
  const { client, clock, audience } = options;
  // Keys are digests: no token is kept.
  const answers = new Map<string, { readonly yes: boolean; readonly until: number }>();
  const asking = new Map<string, Promise<boolean>>();

  const ask = async (token: string, method: string, path: string): Promise<boolean> => {
    const review = await client.request<TokenReview>({
      method: "POST",
      path: "/apis/authentication.k8s.io/v1/tokenreviews",
      body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: { token, audiences: [audience] } },
      timeoutMs: 5_000,
    });
    const { authenticated, user, audiences } = review.status ?? {};
    // An API server that does not know audiences leaves them out: its answer says nothing about ours.
    if (authenticated !== true || user?.username === undefined || audiences?.includes(audience) !== true) return false;
    const access = await client.request<{ readonly status?: { readonly allowed?: boolean } }>({
      method: "POST",
      path: "/apis/authorization.k8s.io/v1/subjectaccessreviews",
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SubjectAccessReview",
        spec: {
          user: user.username,
          uid: user.uid,
          groups: user.groups,
          extra: user.extra,
          nonResourceAttributes: { path, verb: method.toLowerCase() },
        },
      },
      timeoutMs: 5_000,
    });
    return access.status?.allowed === true;
  };

  return async ({ authorization, method, path }) => {
    const token = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) return false;
    const key = createHash("sha256").update(`${method} ${path} ${token}`).digest("base64");
    const known = answers.get(key);
    if (known !== undefined && clock.monotonic() < known.until) return known.yes;
    const running = asking.get(key);
    if (running !== undefined) return running;
    if (asking.size >= MAX_ASKING) throw new NightshiftError("AUTH_UNAVAILABLE", "who may send cannot be told at the moment");
    const answer = ask(token, method, path)
      .then((yes) => {
        answers.delete(key);
        answers.set(key, { yes, until: clock.monotonic() + (yes ? YES_MS : NO_MS) });
        const [oldest] = answers.keys();
        if (answers.size > MAX_KEPT && oldest !== undefined) answers.delete(oldest);
        return yes;
      })
      .catch((cause: unknown) => {
        throw new NightshiftError("AUTH_UNAVAILABLE", "who may send cannot be told at the moment", { cause });
      })
      .finally(() => asking.delete(key));
    asking.set(key, answer);
    return answer;
  };
}
