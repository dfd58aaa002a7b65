import type { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:https";
import { isIPv6 } from "node:net";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { NightshiftError, messageOf } from "../../api/errors.ts";
import { KubeApiError } from "./errors.ts";

/** Where Kubernetes mounts what a pod needs to reach the API server. */
const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

/** What a TLS connection to the API server takes. */
export interface KubeTls {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly passphrase?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/** What proves to the API server who asks. */
export interface KubeCredentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: KubeTls;
}

/** Where the API server is, and who asks. */
export interface KubeAccess {
  /** Address of the API server, also with a path before `/api`, where a proxy serves several clusters. */
  readonly server: URL;
  /** The namespace that is meant where none is named: the kubeconfig context's, or the pod's own. */
  readonly namespace: string;
  /** HTTP proxy to go through, where the kubeconfig names one. */
  readonly proxy?: string;
  /**
   * Credentials as they are now; reads files and runs commands anew each time, so the caller keeps them for a while.
   * @throws KubeApiError `KUBE_CREDENTIALS`.
   */
  credentials(): Promise<KubeCredentials>;
  /** The API server no longer accepts what was given: what is kept in memory is worth nothing. */
  forget(): void;
}

/** Where to look for access. */
export interface AccessOptions {
  /** A kubeconfig. Default: as controller-runtime, the environment's `KUBECONFIG`, then the pod's own account, then `~/.kube/config`. */
  readonly kubeconfig?: string;
  /** Context of the kubeconfig. Default: its current one. */
  readonly context?: string;
  /** Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Finds the API server.
 * @throws NightshiftError `KUBECONFIG_INVALID` or `NO_CLUSTER`.
 */
export async function findAccess(options: AccessOptions = {}): Promise<KubeAccess> {
  const { env = process.env, context } = options;
  const named = options.kubeconfig ?? env["KUBECONFIG"];
  if (named !== undefined && named !== "") return kubeconfigAccess(named.split(delimiter), context);
  if (context === undefined && env["KUBERNETES_SERVICE_HOST"]) return inClusterAccess(env);
  const ofUser = join(env["HOME"] ?? homedir(), ".kube", "config");
  if (existsSync(ofUser)) return kubeconfigAccess([ofUser], context);
  throw new NightshiftError("NO_CLUSTER", "no kubeconfig was found, and this is no pod", {
    fix: "Name a kubeconfig with --kubeconfig or KUBECONFIG.",
  });
}

/**
 * The access that a pod has through its ServiceAccount. The token is read again each time, as the kubelet replaces it
 * before it expires; so is the certificate authority.
 * @param dir - where the account is mounted; another only for tests.
 * @throws NightshiftError `NO_CLUSTER`.
 */
export async function inClusterAccess(
  env: Readonly<Record<string, string | undefined>> = process.env,
  dir = SERVICE_ACCOUNT_DIR,
): Promise<KubeAccess> {
  const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = env["KUBERNETES_SERVICE_PORT"] ?? "443";
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  let namespace: string;
  try {
    namespace = (await readFile(join(dir, "namespace"), "utf8")).trim();
  } catch (cause) {
    throw new NightshiftError("NO_CLUSTER", "the pod has no ServiceAccount mounted", {
      where: dir,
      fix: "Leave automountServiceAccountToken on, or name a kubeconfig with --kubeconfig.",
      cause,
    });
  }
  return {
    server: new URL(server),
    namespace,
    async credentials() {
      try {
        const [token, ca] = await Promise.all([readFile(join(dir, "token"), "utf8"), readFile(join(dir, "ca.crt"), "utf8")]);
        return { headers: { authorization: `Bearer ${token.trim()}` }, tls: { ca } };
      } catch (cause) {
        throw new KubeApiError("KUBE_CREDENTIALS", `the ServiceAccount's token cannot be read: ${messageOf(cause)}`, { where: dir, cause });
      }
    },
    forget() {},
  };
}

/**
 * The access that kubeconfig files give: certificates, tokens, token files, exec plugins and OIDC, as `@kubernetes/client-node` reads them.
 * Several files are merged as kubectl merges them. A server without TLS, such as `kubectl proxy`, is shown no credentials: so does
 * client-go (`clientcmd`, "only try to read the auth information if we are secure").
 * @throws NightshiftError `KUBECONFIG_INVALID`.
 */
export async function kubeconfigAccess(files: readonly string[], context?: string): Promise<KubeAccess> {
  // Loaded only here: with its generated models it takes half a second and 80 MB, which a pod can do without.
  const { KubeConfig: Config } = await import("@kubernetes/client-node/dist/config.js");
  const where = files.join(delimiter);
  const load = (): KubeConfig => {
    const config = new Config();
    for (const [i, file] of files.filter((path) => path !== "" && existsSync(path)).entries()) {
      const loaded = i === 0 ? config : new Config();
      loaded.loadFromFile(file);
      useTokenFiles(loaded, file);
      if (i > 0) config.mergeConfig(loaded, true);
    }
    if (context !== undefined) config.setCurrentContext(context);
    return config;
  };
  const invalid = (what: string, cause?: unknown): NightshiftError =>
    new NightshiftError("KUBECONFIG_INVALID", what, { where, fix: "Look at it with `kubectl config view`.", cause });
  let config: KubeConfig;
  try {
    if (!files.some((file) => file !== "" && existsSync(file))) throw new Error("there is no such file");
    config = load();
  } catch (cause) {
    throw invalid(`the kubeconfig cannot be read: ${messageOf(cause)}`, cause);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw invalid(context === undefined ? "its current context names no cluster" : `it has no context ${context}`);
  if (!URL.canParse(cluster.server)) throw invalid(`the cluster's server is no URL: ${cluster.server}`);
  if (cluster.proxyUrl?.startsWith("socks")) throw invalid("a SOCKS proxy is not supported; an HTTP proxy is");
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace;
  const server = new URL(cluster.server);
  let fresh = true;
  return {
    server,
    namespace: namespace ?? "default",
    ...(cluster.proxyUrl === undefined ? {} : { proxy: cluster.proxyUrl }),
    async credentials() {
      if (server.protocol !== "https:") return { headers: {}, tls: {} };
      try {
        if (!fresh) config = load();
        fresh = true;
        const options: RequestOptions = {};
        await config.applyToHTTPSOptions(options);
        return { headers: headersOf(options), tls: tlsOf(options) };
      } catch (cause) {
        throw new KubeApiError("KUBE_CREDENTIALS", `the kubeconfig's user has no usable credentials: ${messageOf(cause)}`, {
          where,
          cause,
        });
      }
    },
    forget() {
      fresh = false;
    },
  };
}

/** client-node does not know a user's `tokenFile`, only an authenticator of its own that reads one. */
function useTokenFiles(config: KubeConfig, file: string): void {
  const { users } = parse(readFileSync(file, "utf8")) as { users?: { name: string; user?: { tokenFile?: string } }[] };
  for (const { name, user } of users ?? []) {
    const known = config.getUser(name);
    if (known === null || user?.tokenFile === undefined) continue;
    const { token: _, ...rest } = known;
    const tokenFile = resolve(dirname(file), user.tokenFile);
    config.users = config.users.map((u) => (u.name === name ? { ...rest, authProvider: { name: "tokenFile", config: { tokenFile } } } : u));
  }
}

function headersOf(options: RequestOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  // A token file ends with a line break, which no header may have.
  for (const [name, value] of Object.entries(options.headers ?? {})) headers[name.toLowerCase()] = String(value).trim();
  if (options.auth) headers["authorization"] = `Basic ${Buffer.from(options.auth).toString("base64")}`;
  return headers;
}

function tlsOf(options: RequestOptions): KubeTls {
  const { ca, cert, key, passphrase, servername, rejectUnauthorized } = options;
  return {
    ...(ca === undefined ? {} : { ca: ca as Buffer }),
    ...(cert === undefined ? {} : { cert: cert as Buffer }),
    ...(key === undefined ? {} : { key: key as Buffer }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(servername === undefined ? {} : { servername }),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
  };
}
