import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { nightshiftImage, shopImage } from "../../scripts/images.ts";
import { buildImage, type Image, stage } from "../../scripts/oci.ts";
import { Cluster } from "./cluster.ts";
import { lacking } from "./requirements.ts";

const root = resolve(import.meta.dirname, "../..");

describe("an image", () => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-image-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  const image = (text: string): Image => ({ name: "nightshift.dev/x:1", layers: [[{ to: "/a", text }]], config: { Entrypoint: ["/a"] } });

  it("is built once for the same content, and anew for another", async () => {
    const first = await buildImage(image("one"), dir);
    const other = await buildImage(image("two"), dir);
    assert.notEqual(first, other);
    rmSync(join(dir, "layers"), { recursive: true });
    // From the cache: without the layers it could not be built.
    assert.equal(await buildImage(image("one"), dir), first);
    const bytes = readFileSync(first);
    rmSync(first);
    assert.equal(await buildImage(image("one"), dir), first);
    const manifest = (archive: string): string => execFileSync("tar", ["-xOf", archive, "manifest.json"], { encoding: "utf8" });
    writeFileSync(join(dir, "earlier.tar"), bytes);
    assert.equal(manifest(first), manifest(join(dir, "earlier.tar")));
  });

  it("has files that everybody may read and only root may change, and modes where they are asked for", async () => {
    const at = join(dir, "root");
    stage(
      [
        { to: "/tmp", mode: 0o1777 },
        { to: "/x/y", text: "y" },
        { to: "/x/z", link: "y" },
      ],
      at,
    );
    const listing = execFileSync("find", [at, "-printf", "%M %P\\n"], { encoding: "utf8" }).trim().split("\n").sort();
    assert.deepEqual(listing, ["-rw-r--r-- x/y", "drwxr-xr-x ", "drwxr-xr-x x", "drwxrwxrwt tmp", "lrwxrwxrwx x/z"].sort());
  });

  it("of Nightshift is what deploy/Containerfile makes", () => {
    const lines = readFileSync(join(root, "deploy/Containerfile"), "utf8").split("\n");
    const said = (word: string): string => lines.findLast((line) => line.startsWith(`${word} `))?.slice(word.length + 1) ?? "";
    const { config } = nightshiftImage();
    assert.deepEqual(JSON.parse(said("ENTRYPOINT")), config.Entrypoint);
    assert.equal(said("USER"), config.User);
    assert.equal(said("WORKDIR"), config.WorkingDir);
    assert.equal(said("ENV"), config.Env?.join(" "));
    assert.ok(lines.some((line) => line.includes("scripts/image.ts nightshift --root /image")));
  });
});

interface Pod {
  readonly metadata: { readonly name: string };
  readonly status: { readonly phase: string };
}

/** What the restricted Pod Security Standard asks for, and a root file system that cannot be written. */
const RESTRICTED = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  readOnlyRootFilesystem: true,
  runAsNonRoot: true,
  seccompProfile: { type: "RuntimeDefault" },
};

describe("images in pods", { skip: lacking({ nodes: true }) }, () => {
  let cluster: Cluster;
  before(async () => {
    if (!existsSync(join(root, "dist/src/cli/main.js"))) execFileSync("npm", ["run", "build"], { cwd: root });
    cluster = await Cluster.start({ node: true, images: [nightshiftImage(), await buildImage(shopImage())] });
    await cluster.kubectl(["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"]);
  });
  after(() => cluster?.stop());

  it("Nightshift runs under the restricted standard, on a read-only root", async () => {
    const container = { name: "nightshift", image: nightshiftImage().name, args: ["--version"], securityContext: RESTRICTED };
    await cluster.apply([
      { apiVersion: "v1", kind: "Pod", metadata: { name: "version" }, spec: { restartPolicy: "Never", containers: [container] } },
    ]);
    await cluster.until("its end", async () => {
      const { status } = await cluster.get<Pod>("pod", "version");
      return ["Succeeded", "Failed"].includes(status.phase);
    });
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    assert.equal((await cluster.kubectl(["logs", "version"])).trim(), version);
    assert.equal((await cluster.get<Pod>("pod", "version")).status.phase, "Succeeded");
  });

  it("the shop takes an order, through three Services", async () => {
    const service = (name: string, port: number, env: Readonly<Record<string, string>>): object[] => {
      const labels = { app: name };
      const container = {
        name,
        image: shopImage().name,
        args: [`${name}.ts`],
        env: Object.entries({ PORT: String(port), ...env }).map(([key, value]) => ({ name: key, value })),
        ports: [{ containerPort: port }],
        readinessProbe: { httpGet: { path: "/healthz", port }, periodSeconds: 1 },
        securityContext: RESTRICTED,
      };
      return [
        { apiVersion: "v1", kind: "Service", metadata: { name }, spec: { selector: labels, ports: [{ port }] } },
        {
          apiVersion: "apps/v1",
          kind: "Deployment",
          metadata: { name },
          spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers: [container] } } },
        },
      ];
    };
    await cluster.apply(service("bank", 8403, {}));
    await cluster.apply(service("payments", 8402, { BANK_URL: "http://bank:8403" }));
    await cluster.apply(service("storefront", 8401, { PAYMENTS_URL: "http://payments.default.svc:8402" }));
    for (const name of ["bank", "payments", "storefront"])
      await cluster.kubectl(["rollout", "status", `deployment/${name}`, "--timeout=120s"]);
    const { spec } = await cluster.get<{ spec: { clusterIP: string } }>("service", "storefront");
    // kube-proxy follows within a second.
    const answer = await cluster.until("an answer", async () => {
      const { stdout } = await cluster.exec(["curl", "-sS", "--fail", "-m", "10", `http://${spec.clusterIP}:8401/checkout`]);
      return stdout;
    });
    assert.match(answer, /"paid":true/);
  });
});
