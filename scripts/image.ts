// Container images without a registry and without a container engine: archives for `ctr images import` or `docker load`.
import { cpSync, rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { busyboxImage, nightshiftImage, nodeImage, shopImage } from "./images.ts";
import { buildImage, type Image, stage } from "./oci.ts";

const IMAGES: Readonly<Record<string, (name?: string) => Image>> = {
  nightshift: nightshiftImage,
  shop: shopImage,
  node: (name = "nightshift.dev/node:24") => nodeImage(name),
  busybox: busyboxImage,
};

const USAGE = `usage: node scripts/image.ts IMAGE [--name NAME] [--output FILE.tar] [--root DIRECTORY] [--json]

IMAGE is one of ${Object.keys(IMAGES).join(", ")}. Prints the path of the archive, which is kept in the cache by its
content, so that nothing is built twice.

  --name NAME        name with tag, e.g. nightshift.dev/nightshift:dev
  --output FILE.tar  copy the archive there
  --root DIRECTORY   write the image's files there instead of making an archive (deploy/Containerfile does so)
  --json             {"name", "archive", "config"} instead of the path

Examples:
  npm run build && node scripts/image.ts nightshift
  node scripts/image.ts shop --output /tmp/shop.tar && npm run cluster -- up --image /tmp/shop.tar
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: "string" },
      output: { type: "string" },
      root: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const make = positionals.length === 1 ? IMAGES[positionals[0] ?? ""] : undefined;
  if (make === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const image = values.name === undefined ? make() : make(values.name);
  if (values.root !== undefined) {
    rmSync(values.root, { recursive: true, force: true });
    for (const layer of image.layers) stage(layer, values.root);
    return 0;
  }
  const archive = await buildImage(image);
  if (values.output !== undefined) cpSync(archive, values.output);
  const path = values.output ?? archive;
  console.log(values.json === true ? JSON.stringify({ name: image.name, archive: path, config: image.config }) : path);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`image: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
