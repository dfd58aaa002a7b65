// Run by network.ts inside the network namespace of a pod: connects to ports of its loopback and hands the sockets over.
import { connect } from "node:net";

process.on("message", ({ id, port }: { readonly id: number; readonly port: number }) => {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.once("connect", () => process.send?.({ id }, socket));
  socket.once("error", (error: NodeJS.ErrnoException) => process.send?.({ id, error: error.code ?? error.message }));
});

process.on("disconnect", () => process.exit(0));

process.send?.({ id: 0 });
