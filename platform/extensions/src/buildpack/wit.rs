//! What the engine's macro makes of the WIT. Its types are the world's own, so they are handed to
//! the build room as they are.

wasmtime::component::bindgen!({
    path: "../wit/buildpack",
    world: "buildpack",
    imports: { default: async | trappable },
    exports: { default: async },
    require_store_data_send: true,
    with: { "berth:buildpack/layers.layer": super::calls::Layer },
    trappable_error_type: { "berth:buildpack/types.failure" => super::HostError },
});
