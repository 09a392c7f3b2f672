//! What the engine's macro makes of the WIT. Exports are looked for one by one, so the world has
//! none.

wasmtime::component::bindgen!({
    path: [
        "../wit/types",
        "../wit/log",
        "../wit/config",
        "../wit/secrets",
        "../wit/counters",
        "../wit/clock",
        "../wit/metrics",
        "../wit/middleware",
    ],
    world: "berth:middleware/middleware",
    imports: { default: trappable },
    require_store_data_send: true,
    with: {
        "berth:middleware/types.request": super::message::Request,
        "berth:middleware/types.response": super::message::Response,
        "berth:secrets/secrets.secret": super::powers::Secret,
    },
});
