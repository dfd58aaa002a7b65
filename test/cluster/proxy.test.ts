import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Proxy } from "./proxy.ts";

describe("a proxy", () => {
  /** Over TCP. */
  let echo: Server;
  let proxy: Proxy;
  before(async () => {
    echo = createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => undefined).pipe(socket)).listen(0, "127.0.0.1");
    await once(echo, "listening");
    proxy = await Proxy.start((echo.address() as { port: number }).port);
  });
  after(async () => {
    await proxy.stop();
    echo.close();
  });

  const client = async (): Promise<Socket> => {
    const socket = connect(proxy.port, "127.0.0.1");
    await once(socket, "connect");
    return socket;
  };
  const say = async (socket: Socket, text: string): Promise<string> => {
    socket.write(text);
    const [answer] = (await once(socket, "data")) as [Buffer];
    return answer.toString();
  };

  it("passes on, both ways, and the end as well", async () => {
    const socket = await client();
    assert.equal(await say(socket, "one"), "one");
    socket.end();
    await once(socket, "close");
  });

  it("passes on more than it can hold", async () => {
    const socket = await client();
    const size = 8 * 1024 ** 2;
    let received = 0;
    socket.on("data", (chunk: Buffer) => (received += chunk.length));
    socket.end(Buffer.alloc(size));
    await once(socket, "end");
    assert.equal(received, size);
  });

  it("frozen, answers nobody and closes nothing; open again, it delivers what was held", async () => {
    const socket = await client();
    assert.equal(await say(socket, "one"), "one");
    proxy.set("frozen");
    const late = await client();
    const held = Promise.all([say(socket, "two"), say(late, "three")]);
    assert.equal(await Promise.race([held, delay(200, "nothing")]), "nothing");
    assert.equal(socket.destroyed, false);
    proxy.set("open");
    assert.deepEqual(await held, ["two", "three"]);
    socket.destroy();
    late.destroy();
  });

  it("cut, resets what is open and what comes", async () => {
    const socket = await client();
    assert.equal(await say(socket, "one"), "one");
    proxy.set("cut");
    const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
    assert.equal(error.code, "ECONNRESET");
    const refused = connect(proxy.port, "127.0.0.1");
    const [reason] = (await once(refused, "error")) as [NodeJS.ErrnoException];
    assert.equal(reason.code, "ECONNRESET");
    proxy.set("open");
    const again = await client();
    assert.equal(await say(again, "four"), "four");
    again.destroy();
  });
});
