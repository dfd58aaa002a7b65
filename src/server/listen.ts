import { isIPv6, type AddressInfo, type Server } from "node:net";
import { NightshiftError } from "../api/errors.ts";

/**
 * Lets a server listen, and returns its address as `host:port`; port 0 takes any that is free.
 *
 * @throws NightshiftError `LISTEN_FAILED` when the address is taken or not this machine's.
 */
export async function listen(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void =>
      reject(
        new NightshiftError("LISTEN_FAILED", `cannot listen: ${cause.message}`, {
          where: `${host}:${port}`,
          fix: cause.code === "EADDRINUSE" ? "Choose another port, or stop what listens there." : "Choose an address of this machine.",
          cause,
        }),
      );
    server.once("error", failed);
    server.listen(port, host, () => {
      server.off("error", failed);
      resolve();
    });
  });
  return `${isIPv6(host) ? `[${host}]` : host}:${(server.address() as AddressInfo).port}`;
}
