//! What the engine's macro makes of the powers' WIT. The kinds use these types as well.

wasmtime::component::bindgen!({
    inline: "
        package berth:powers@0.1.0;
        world powers {
            import berth:log/log@0.1.0;
            import berth:config/config@0.1.0;
            import berth:kv/kv@0.1.0;
            import berth:secrets/secrets@0.1.0;
            import berth:secrets/reader@0.1.0;
            import berth:http-out/http-out@0.1.0;
            import berth:counters/counters@0.1.0;
            import berth:events/events@0.1.0;
            import berth:clock/clock@0.1.0;
            import berth:metrics/metrics@0.1.0;
        }
    ",
    path: [
        "../wit/types",
        "../wit/log",
        "../wit/config",
        "../wit/kv",
        "../wit/secrets",
        "../wit/http-out",
        "../wit/counters",
        "../wit/events",
        "../wit/clock",
        "../wit/metrics",
    ],
    world: "berth:powers/powers",
    imports: { default: async | trappable },
    require_store_data_send: true,
    with: {
        "berth:secrets/secrets.secret": super::secrets::Secret,
        "berth:http-out/http-out.request": super::http::Request,
    },
    trappable_error_type: { "berth:types/types.error" => super::PowerError },
});
