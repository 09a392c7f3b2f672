//! Components made to break one limit each, in a store that is armed as every store is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_container::Engine as EngineKind;
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime_wasi::WasiCtx;

use super::*;
use crate::aot::{Code, LoadError};
use crate::engine::{Pool, Running};

struct State(Sandbox);

impl Guest for State {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.0
    }
}

fn mapped(kind: EngineKind, text: &str) -> (Running, Result<Component, LoadError>) {
    let mut file = tempfile::tempfile().unwrap();
    crate::compile(kind, wat::parse_str(text).unwrap().as_slice(), &mut file).unwrap();
    let running = match kind {
        EngineKind::Extensions => Running::extensions(),
        EngineKind::Apps => Running::apps(Pool { memories: 4, ..Pool::default() }),
    }
    .unwrap();
    let component = Code::vouched_for(file.into()).map(&running.engine);
    (running, component)
}

/// Instantiates a component, calls its export `run` if it has one, and says how that ended.
async fn ended(kind: EngineKind, limits: Limits, text: &str) -> Result<(), Fault> {
    let (running, component) = mapped(kind, text);
    let component = component.unwrap();
    let linker = Linker::new(&running.engine);
    let meter = Arc::new(Meter::new(limits));
    let memory = MemoryLimiter::new(&limits, None);
    let sandbox = Sandbox::new(Arc::clone(&meter), memory, WasiCtx::builder().build());
    let mut store = armed_store(&running.engine, State(sandbox));
    let _ticking = running.ticker.run();
    let call = meter.bound(async {
        let instance = linker.instantiate_async(&mut store, &component).await?;
        if let Ok(run) = instance.get_func(&mut store, "run").map_or(
            Err(wasmtime::format_err!("no export")),
            |function| -> wasmtime::Result<TypedFunc<(), ()>> { function.typed(&store) },
        ) {
            run.call_async(&mut store, ()).await?;
        }
        Ok(())
    });
    match call.await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            let error: wasmtime::Error = error;
            let refused = store.data().0.memory.refused().is_some();
            Err(explain(&error, &meter, refused).fault)
        }
        None => Err(Fault::Timeout),
    }
}

/// A component of one core module that is instantiated, with its export `run`.
fn with_run(module: &str) -> String {
    format!(
        r#"(component
            (core module $m {module})
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "run"))))"#
    )
}

fn started(module: &str) -> String {
    format!("(component (core module $m {module}) (core instance (instantiate $m)))")
}

const APP: Limits = Limits { cpu_ms_max: 80, ..Limits::APP };

#[tokio::test]
async fn a_loop_in_a_start_function_ends_with_the_processor_time() {
    let text = started("(func $f (loop (br 0))) (start $f)");
    let before = Instant::now();
    assert_eq!(ended(EngineKind::Apps, APP, &text).await, Err(Fault::Cpu));
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_loop_in_a_start_function_ends_with_the_fuel() {
    let limits = Limits { fuel_max: 10_000_000, ..Limits::BUILDPACK_DETECT };
    let text = started("(func $f (loop (br 0))) (start $f)");
    assert_eq!(ended(EngineKind::Extensions, limits, &text).await, Err(Fault::Cpu));
}

#[tokio::test]
async fn fuel_ends_a_guest_at_the_same_place_each_time() {
    // Needs about 7 units for each of a million turns.
    let text = with_run(
        r#"(func (export "run") (local i32)
            (loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                  (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000000)))))"#,
    );
    let with = |fuel_max| Limits { fuel_max, ..Limits::BUILDPACK_DETECT };
    let (mut too_little, mut enough) = (1_000, 100_000_000);
    while enough - too_little > 1 {
        let middle = too_little + (enough - too_little) / 2;
        match ended(EngineKind::Extensions, with(middle), &text).await {
            Ok(()) => enough = middle,
            Err(fault) => {
                assert_eq!(fault, Fault::Cpu);
                too_little = middle;
            }
        }
    }
    for _ in 0..3 {
        assert_eq!(ended(EngineKind::Extensions, with(enough), &text).await, Ok(()));
        assert!(ended(EngineKind::Extensions, with(too_little), &text).await.is_err());
    }
}

#[tokio::test]
async fn several_memories_are_one_sum() {
    let limits = Limits { memory_bytes_max: 64 << 20, ..APP };
    let memories = |count: usize| {
        let module = r#"(memory 480) (func (export "run"))"#;
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!("(component (core module $m {module}) {instances})")
    };
    // 480 pages are 30 MiB each.
    assert_eq!(ended(EngineKind::Apps, limits, &memories(2)).await, Ok(()));
    assert_eq!(ended(EngineKind::Apps, limits, &memories(3)).await, Err(Fault::Memory));
    assert_eq!(ended(EngineKind::Extensions, limits, &memories(3)).await, Err(Fault::Memory));
}

#[tokio::test]
async fn memory_that_grows_is_refused_and_the_guest_may_go_on() {
    let limits = Limits { memory_bytes_max: 1 << 20, ..APP };
    let text = with_run(
        r#"(memory 1)
           (func (export "run")
             (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
             (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then unreachable)))"#,
    );
    assert_eq!(ended(EngineKind::Apps, limits, &text).await, Ok(()));
}

#[tokio::test]
async fn tables_are_one_sum() {
    let limits = Limits { table_elements_max: 10_000, ..APP };
    let tables = |count: usize| started(&"(table 4000 funcref)".repeat(count));
    assert_eq!(ended(EngineKind::Apps, limits, &tables(2)).await, Ok(()));
    assert_eq!(ended(EngineKind::Apps, limits, &tables(3)).await, Err(Fault::Memory));
}

#[tokio::test]
async fn more_memories_tables_or_instances_than_allowed_do_not_start() {
    let many = |what: &str, count: usize| {
        format!(
            "(component (core module $m {what}) {})",
            "(core instance (instantiate $m))".repeat(count)
        )
    };
    for (limits, what) in [
        (Limits { memories_max: 2, ..APP }, "(memory 1)"),
        (Limits { tables_max: 2, ..APP }, "(table 1 funcref)"),
        (Limits { instances_max: 2, ..APP }, ""),
    ] {
        assert_eq!(ended(EngineKind::Extensions, limits, &many(what, 2)).await, Ok(()), "{what}");
        assert!(ended(EngineKind::Extensions, limits, &many(what, 3)).await.is_err(), "{what}");
    }
}

#[test]
fn one_guest_cannot_take_the_whole_pool() {
    let memories = |count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!("(component (core module $m (memory 0)) {instances})")
    };
    assert!(mapped(EngineKind::Apps, &memories(4)).1.is_ok());
    let refused = mapped(EngineKind::Apps, &memories(5)).1.unwrap_err().to_string();
    assert!(refused.contains("exceeds the configured maximum of 4"), "{refused}");
}

#[tokio::test]
async fn deep_recursion_is_a_trap_and_not_a_crash() {
    let text = with_run(r#"(func $f (export "run") (call $f) (call $f))"#);
    assert_eq!(ended(EngineKind::Apps, APP, &text).await, Err(Fault::Trap));
    assert_eq!(ended(EngineKind::Extensions, APP, &text).await, Err(Fault::Trap));
}

#[tokio::test]
async fn a_memory_access_out_of_bounds_is_a_trap_and_not_a_crash() {
    let text =
        with_run(r#"(memory 1) (func (export "run") (drop (i32.load (i32.const 0xfffffff0))))"#);
    assert_eq!(ended(EngineKind::Apps, APP, &text).await, Err(Fault::Trap));
}

#[tokio::test]
async fn a_guest_that_loops_lets_others_run() {
    let text = started("(func $f (loop (br 0))) (start $f)");
    let limits = Limits { cpu_ms_max: 400, ..APP };
    let looping = ended(EngineKind::Apps, limits, &text);
    // One thread for both: the ticks come between the turns of the loop.
    let mut turns = 0_u32;
    let other = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        fault = looping => assert_eq!(fault, Err(Fault::Cpu)),
        () = other => {}
    }
    assert!(turns >= 10, "the other task ran {turns} times");
}
