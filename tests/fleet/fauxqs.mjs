// Runs fauxqs, an object store that keeps no conditions, on the loopback address: `node fauxqs.mjs HOME PORT`.
//
// Its own command listens on all addresses, and needs a Node that has SQLite, which it uses for what is not kept here.

import { register } from "node:module";
import { pathToFileURL } from "node:url";

const absent = "data:text/javascript,export class DatabaseSync {}";
const hook = `export async function resolve(specifier, context, next) {
  if (specifier === "node:sqlite") return { url: ${JSON.stringify(absent)}, shortCircuit: true };
  return next(specifier, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

const [, , home, port] = process.argv;
const { buildApp } = await import(pathToFileURL(`${home}/node_modules/fauxqs/dist/app.js`).href);
await buildApp({ logger: false }).listen({ port: Number(port), host: "127.0.0.1" });
