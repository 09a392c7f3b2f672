// Hands requests to the app: to the `fetch` of its default export, unless it takes them itself.
import "./before.js";
import * as app from "MAIN";
import { getEnvironment } from "wasi:cli/environment@0.2.10";

export * from "MAIN";

const own = "incomingHandler" in app || globalThis.listensToFetch;
const { default: server } = app;
if (!own && typeof server?.fetch !== "function") {
  throw new Error("MAIN answers no requests. Export them a function: export default { fetch(request, env) { return new Response('Hello') } }");
}
if (!own) {
  addEventListener("fetch", (event) => {
    const env = Object.fromEntries(getEnvironment());
    event.respondWith((async () => server.fetch(event.request, env, event))());
  });
}
