//! What the engine's macro makes of the WIT of messages. Exports are looked for one by one, so the
//! world has none.

wasmtime::component::bindgen!({
    inline: "
        package berth:host@0.1.0;
        world middleware { import berth:middleware/types@0.1.0; }
    ",
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
    world: "berth:host/middleware",
    imports: { default: trappable },
    require_store_data_send: true,
    with: {
        "berth:middleware/types.request": super::message::Request,
        "berth:middleware/types.response": super::message::Response,
    },
});
