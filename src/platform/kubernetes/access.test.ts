import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { selfSigned } from "../../../test/support/certificate.ts";
import { withCode } from "../../../test/support/store-conformance.ts";
import { findAccess, inClusterAccess, kubeconfigAccess } from "./access.ts";

async function directory(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "nightshift-access-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const pair = selfSigned();

const kubeconfig = (user: object, cluster: object = {}): string =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "main",
    contexts: [
      { name: "main", context: { cluster: "c", user: "u", namespace: "team" } },
      { name: "other", context: { cluster: "c", user: "u" } },
    ],
    clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:6443", "certificate-authority-data": base64(pair.cert), ...cluster } }],
    users: [{ name: "u", user }],
  });

it("a kubeconfig's client certificate is used", async (t) => {
  const file = join(await directory(t), "config");
  await writeFile(file, kubeconfig({ "client-certificate-data": base64(pair.cert), "client-key-data": base64(pair.key) }));
  const access = await kubeconfigAccess([file]);
  assert.equal(access.server.href, "https://127.0.0.1:6443/");
  assert.equal(access.namespace, "team");
  const { headers, tls } = await access.credentials();
  assert.deepEqual(headers, {});
  assert.deepEqual([tls.ca, tls.cert, tls.key].map(String), [pair.cert, pair.cert, pair.key]);
  assert.equal((await kubeconfigAccess([file], "other")).namespace, "default");
});

it("a kubeconfig's token, token file and exec plugin are used, and read again once they were refused", async (t) => {
  const dir = await directory(t);
  const file = join(dir, "config");
  const token = async (user: object): Promise<string | undefined> => {
    await writeFile(file, kubeconfig(user));
    return (await (await kubeconfigAccess([file])).credentials()).headers["authorization"];
  };
  assert.equal(await token({ token: "abc" }), "Bearer abc");
  await writeFile(join(dir, "token"), "from-file\n");
  assert.equal(await token({ tokenFile: join(dir, "token") }), "Bearer from-file");
  const credential = join(dir, "credential.json");
  await writeFile(credential, JSON.stringify({ kind: "ExecCredential", status: { token: "one" } }));
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "cat", args: [credential], interactiveMode: "Never" };
  await writeFile(file, kubeconfig({ exec }));
  const access = await kubeconfigAccess([file]);
  assert.equal((await access.credentials()).headers["authorization"], "Bearer one");
  await writeFile(credential, JSON.stringify({ kind: "ExecCredential", status: { token: "two" } }));
  assert.equal((await access.credentials()).headers["authorization"], "Bearer one", "kept: the plugin said that it does not expire");
  access.forget();
  assert.equal((await access.credentials()).headers["authorization"], "Bearer two");
});

it("a server without TLS is shown no credentials", async (t) => {
  const file = join(await directory(t), "config");
  for (const user of [{}, { token: "abc" }, { username: "jane", password: "abc" }]) {
    await writeFile(file, kubeconfig(user, { server: "http://127.0.0.1:8001" }));
    assert.deepEqual(await (await kubeconfigAccess([file])).credentials(), { headers: {}, tls: {} });
  }
});

it("credentials that cannot be had are an error of the request, with the command's own words", async (t) => {
  const file = join(await directory(t), "config");
  await writeFile(file, kubeconfig({ exec: { command: "sh", args: ["-c", "echo no ticket >&2; exit 1"] } }));
  const access = await kubeconfigAccess([file]);
  await assert.rejects(access.credentials(), withCode("KUBE_CREDENTIALS", /no ticket/));
});

it("a kubeconfig that cannot be used is refused with what is wrong", async (t) => {
  const dir = await directory(t);
  const file = join(dir, "config");
  await assert.rejects(kubeconfigAccess([join(dir, "none")]), withCode("KUBECONFIG_INVALID", /no such file/));
  await writeFile(file, "{");
  await assert.rejects(kubeconfigAccess([file]), withCode("KUBECONFIG_INVALID"));
  await writeFile(file, kubeconfig({}));
  await assert.rejects(kubeconfigAccess([file], "nowhere"), withCode("KUBECONFIG_INVALID", /nowhere/));
  await writeFile(file, kubeconfig({}, { "proxy-url": "socks5://127.0.0.1:1" }));
  await assert.rejects(kubeconfigAccess([file]), withCode("KUBECONFIG_INVALID", /SOCKS/));
  await writeFile(file, kubeconfig({}, { "proxy-url": "http://127.0.0.1:3128" }));
  assert.equal((await kubeconfigAccess([file])).proxy, "http://127.0.0.1:3128");
});

it("a pod's own account is used, and its token read anew each time", async (t) => {
  const dir = await directory(t);
  const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" };
  await assert.rejects(inClusterAccess(env, dir), withCode("NO_CLUSTER"));
  await Promise.all([
    writeFile(join(dir, "token"), "one\n"),
    writeFile(join(dir, "ca.crt"), pair.cert),
    writeFile(join(dir, "namespace"), "nightshift"),
  ]);
  const access = await inClusterAccess(env, dir);
  assert.equal(access.server.href, "https://[fd00::1]/");
  assert.equal(access.namespace, "nightshift");
  assert.deepEqual(await access.credentials(), { headers: { authorization: "Bearer one" }, tls: { ca: pair.cert } });
  await writeFile(join(dir, "token"), "two");
  assert.equal((await access.credentials()).headers["authorization"], "Bearer two");
  await rm(join(dir, "token"));
  await assert.rejects(access.credentials(), withCode("KUBE_CREDENTIALS"));
});

it("access is looked for in KUBECONFIG, in the pod, and in the home directory, in this order", async (t) => {
  const home = await directory(t);
  await assert.rejects(findAccess({ env: { HOME: home } }), withCode("NO_CLUSTER"));
  await mkdir(join(home, ".kube"));
  await writeFile(join(home, ".kube", "config"), kubeconfig({ token: "home" }));
  const tokenOf = async (env: Record<string, string>): Promise<string | undefined> =>
    (await (await findAccess({ env })).credentials()).headers["authorization"];
  assert.equal(await tokenOf({ HOME: home }), "Bearer home");
  const named = join(home, "named");
  await writeFile(named, kubeconfig({ token: "named" }));
  assert.equal(await tokenOf({ HOME: home, KUBECONFIG: named, KUBERNETES_SERVICE_HOST: "10.0.0.1" }), "Bearer named");
  // In a pod, its account is not mounted here: that is said, and the home directory is not taken instead.
  await assert.rejects(findAccess({ env: { HOME: home, KUBERNETES_SERVICE_HOST: "10.0.0.1" } }), withCode("NO_CLUSTER", /ServiceAccount/));
});
