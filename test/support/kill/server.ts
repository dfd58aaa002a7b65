// A replica that notes its start, so that nobody can start one unseen.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

appendFileSync(process.env["STARTS"] ?? "", `${process.env["NIGHTSHIFT_REPLICA_UID"]}\n`);
createServer((_request, response) => response.end("ok")).listen(Number(process.env["PORT"]), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
