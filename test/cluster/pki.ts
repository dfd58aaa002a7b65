import { execFile } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { API_SERVICE_ADDRESS, CONTROL_PLANE_ADDRESS } from "./layout.ts";
import { SYSTEM_PATH } from "./path.ts";

const run = promisify(execFile);
const DAY_MS = 86_400_000;

const CONFIG = `
[req]
distinguished_name = name
prompt = no
[name]
CN = overridden
[ca]
default_ca = own
[own]
database = ./index.txt
serial = ./serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
organizationName = optional
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
[kube-apiserver]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:${CONTROL_PLANE_ADDRESS}, IP:${API_SERVICE_ADDRESS}, DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc
[kubelet-client]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
`;

/** Seconds of a date as `openssl ca` takes them: YYYYMMDDHHMMSSZ. */
const stamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, "")}Z`;

/**
 * Makes the cluster's authority, the API server's certificate, the one by which it calls kubelets, and the key of service
 * account tokens, all in `dir`. `openssl ca` and not the shorter `openssl x509`, because only it can begin a certificate's
 * life in the past: a client whose clock is late must be able to connect.
 */
export async function makePki(dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeFileSync(join(dir, "openssl.cnf"), CONFIG);
  writeFileSync(join(dir, "index.txt"), "");
  writeFileSync(join(dir, "serial"), "1000\n");
  const serviceAccounts = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(join(dir, "service-accounts.key"), serviceAccounts.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  writeFileSync(join(dir, "service-accounts.pub"), serviceAccounts.publicKey.export({ type: "spki", format: "pem" }));
  const openssl = (...argv: string[]): Promise<unknown> => run("openssl", argv, { cwd: dir, env: { PATH: SYSTEM_PATH } });
  const sign = async (name: string, subject: string, extensions: string, signer: readonly string[]): Promise<void> => {
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" });
    writeFileSync(join(dir, `${name}.key`), key, { mode: 0o600 });
    await openssl("req", "-config", "openssl.cnf", "-batch", "-new", "-key", `${name}.key`, "-out", `${name}.csr`, "-subj", subject);
    const dates = ["-startdate", stamp(Date.now() - DAY_MS), "-enddate", stamp(Date.now() + 365 * DAY_MS)];
    const request = ["-in", `${name}.csr`, "-out", `${name}.crt`, "-extensions", extensions];
    await openssl("ca", "-config", "openssl.cnf", "-batch", "-notext", ...signer, ...request, ...dates);
  };
  await sign("ca", "/CN=nightshift-cluster", "authority", ["-selfsign", "-keyfile", "ca.key"]);
  const ca = ["-cert", "ca.crt", "-keyfile", "ca.key"];
  await sign("kube-apiserver", "/CN=kube-apiserver", "kube-apiserver", ca);
  await sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "kubelet-client", ca);
}
