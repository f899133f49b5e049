// Loaded before a server that has no option for its address (`node --import`): whatever it opens, it opens on loopback only.
import { Server } from "node:net";

const { listen } = Server.prototype;

Server.prototype.listen = function (port, ...rest) {
  const named = typeof port === "object" || typeof rest[0] === "string";
  return named ? listen.call(this, port, ...rest) : listen.call(this, port, "127.0.0.1", ...rest);
};
