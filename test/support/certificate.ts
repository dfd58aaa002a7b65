import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** DER: tag, length, content. */
function der(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const { length } = body;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), body]);
}

const sequence = (...content: Uint8Array[]): Buffer => der(0x30, ...content);
/** Each number must be below 16,384; the first two are one byte. */
const oid = (...[a = 0, b = 0, ...rest]: number[]): Buffer =>
  der(0x06, Buffer.from([a * 40 + b, ...rest.flatMap((n) => (n < 0x80 ? [n] : [(n >> 7) | 0x80, n & 0x7f]))]));
const time = (ms: number): Buffer => der(0x18, Buffer.from(`${new Date(ms).toISOString().replaceAll(/[-:T]/g, "").slice(0, 14)}Z`));

/** A certificate for 127.0.0.1 that signs itself, and its key; both in PEM. Each call makes another. */
export function selfSigned(commonName = "nightshift-test"): { readonly cert: string; readonly key: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ecdsaSha256 = sequence(oid(1, 2, 840, 10045, 4, 3, 2));
  const name = sequence(der(0x31, sequence(oid(2, 5, 4, 3), der(0x0c, Buffer.from(commonName)))));
  const now = Date.now();
  const extension = (id: Buffer, value: Buffer): Buffer => sequence(id, der(0x04, value));
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1]), randomBytes(15)),
    ecdsaSha256,
    name,
    sequence(time(now - 86_400_000), time(now + 86_400_000)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      0xa3,
      sequence(
        extension(oid(2, 5, 29, 19), sequence(der(0x01, Buffer.from([0xff])))),
        // subjectAltName: iPAddress 127.0.0.1
        extension(oid(2, 5, 29, 17), sequence(der(0x87, Buffer.from([127, 0, 0, 1])))),
      ),
    ),
  );
  const certificate = sequence(toBeSigned, ecdsaSha256, der(0x03, Buffer.from([0]), sign("sha256", toBeSigned, privateKey)));
  const base64 = certificate.toString("base64").replaceAll(/(.{64})/g, "$1\n");
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: String(privateKey.export({ type: "pkcs8", format: "pem" })),
  };
}
