// Notes whether the app listens to `fetch` itself. It runs before the app does.
const add = globalThis.addEventListener;
globalThis.addEventListener = (kind, ...rest) => {
  globalThis.listensToFetch ||= kind === "fetch";
  return add.call(globalThis, kind, ...rest);
};
