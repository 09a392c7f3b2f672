use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_extensions::aot::component_bytes_max;
use berth_extensions::{AotCache, AotError, Code, CompileError, EngineKind, MacKey, compile};
use berth_model::Digest;

use super::support::{compile_to, digest};

/// A component that is small and quick to compile.
fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(component (core module (func (export "{text}"))))"#)).unwrap()
}

struct Cache {
    cache: AotCache,
    folder: tempfile::TempDir,
    compiled: AtomicUsize,
}

impl Cache {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 1, "build-1");
        Self { cache, folder, compiled: AtomicUsize::new(0) }
    }

    async fn code(&self, kind: EngineKind, wasm: &[u8]) -> Code {
        let compile = |out: OwnedFd| {
            self.compiled.fetch_add(1, Ordering::Relaxed);
            compile_to(kind, wasm.to_vec(), out)
        };
        self.cache.code(kind, digest(wasm), compile).await.unwrap()
    }

    fn compiled(&self) -> usize {
        self.compiled.load(Ordering::Relaxed)
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn open(folder: &Path, key: u8, build: &str) -> AotCache {
    AotCache::open(folder, MacKey::new([key; 32]), build).unwrap()
}

#[tokio::test]
async fn a_component_is_compiled_once_for_each_engine() {
    let cache = Cache::new();
    let wasm = component("x");
    cache.code(EngineKind::Apps, &wasm).await;
    cache.code(EngineKind::Apps, &wasm).await;
    assert_eq!(cache.compiled(), 1);
    cache.code(EngineKind::Extensions, &wasm).await;
    assert_eq!(cache.compiled(), 2);
    for file in cache.files() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    }
}

#[tokio::test]
async fn two_callers_at_once_compile_once() {
    let cache = Cache::new();
    let wasm = component("x");
    tokio::join!(cache.code(EngineKind::Apps, &wasm), cache.code(EngineKind::Apps, &wasm));
    assert_eq!(cache.compiled(), 1);
}

#[tokio::test]
async fn a_changed_byte_anywhere_means_that_it_is_compiled_again() {
    let cache = Cache::new();
    let wasm = component("x");
    cache.code(EngineKind::Apps, &wasm).await;
    let path = cache.files().remove(0);
    let whole = std::fs::read(&path).unwrap();
    let places = [0, whole.len() / 2, whole.len() - 100, whole.len() - 1];
    for (times, at) in places.into_iter().enumerate() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &changed).unwrap();
        cache.code(EngineKind::Apps, &wasm).await;
        assert_eq!(cache.compiled(), times + 2, "byte {at} of {} was not noticed", whole.len());
        assert_eq!(std::fs::read(&path).unwrap().len(), whole.len());
    }
}

#[tokio::test]
async fn a_cut_or_empty_file_is_compiled_again() {
    let cache = Cache::new();
    let wasm = component("x");
    cache.code(EngineKind::Apps, &wasm).await;
    let path = cache.files().remove(0);
    for (times, length) in [0, 10, 200].into_iter().enumerate() {
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &whole[..length]).unwrap();
        cache.code(EngineKind::Apps, &wasm).await;
        assert_eq!(cache.compiled(), times + 2);
    }
}

#[tokio::test]
async fn the_file_of_another_component_is_not_taken_for_this_one() {
    let cache = Cache::new();
    let (one, other) = (component("one"), component("other"));
    cache.code(EngineKind::Apps, &one).await;
    let of_one = cache.files().remove(0);
    cache.code(EngineKind::Apps, &other).await;
    let of_other = cache.files().into_iter().find(|path| *path != of_one).unwrap();
    std::fs::copy(&of_one, of_other.with_extension("tmp")).unwrap();
    std::fs::rename(of_other.with_extension("tmp"), &of_other).unwrap();
    cache.code(EngineKind::Apps, &other).await;
    assert_eq!(cache.compiled(), 3);
}

#[tokio::test]
async fn another_key_or_build_does_not_use_what_is_there() {
    let cache = Cache::new();
    let wasm = component("x");
    cache.code(EngineKind::Apps, &wasm).await;
    for (key, build) in [(2, "build-1"), (1, "build-2")] {
        let other = open(cache.folder.path(), key, build);
        let compiled = AtomicUsize::new(0);
        other
            .code(EngineKind::Apps, digest(&wasm), |out| {
                compiled.fetch_add(1, Ordering::Relaxed);
                compile_to(EngineKind::Apps, wasm.clone(), out)
            })
            .await
            .unwrap();
        assert_eq!(compiled.load(Ordering::Relaxed), 1, "key {key}, {build}");
    }
}

#[tokio::test]
async fn the_descriptor_is_read_only_and_outlives_the_name() {
    let cache = Cache::new();
    let wasm = component("x");
    let code = cache.code(EngineKind::Apps, &wasm).await;
    std::fs::remove_file(cache.files().remove(0)).unwrap();
    let mut file = std::fs::File::from(code.as_fd().try_clone_to_owned().unwrap());
    assert!(file.write(b"x").is_err());
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut start = [0; 4];
    file.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"\x7fELF");
}

#[tokio::test]
async fn what_the_compiler_says_reaches_the_caller_and_nothing_is_left() {
    let cache = Cache::new();
    let refused = cache
        .cache
        .code(EngineKind::Apps, Digest::from_sha256([1; 32]), async |_| Err("no memory left"))
        .await;
    let Err(AotError::Compiler { reason, .. }) = refused else { panic!("it must fail") };
    assert_eq!(reason, "no memory left");
    let silent = cache
        .cache
        .code(EngineKind::Apps, Digest::from_sha256([1; 32]), async |_| Ok::<_, String>(()))
        .await;
    assert!(silent.is_err(), "no code at all was taken for code");
    assert!(cache.files().is_empty());
}

#[tokio::test]
async fn files_of_dead_components_are_collected() {
    let cache = Cache::new();
    let (live, dead) = (component("live"), component("dead"));
    cache.code(EngineKind::Apps, &live).await;
    cache.code(EngineKind::Apps, &dead).await;
    std::fs::write(cache.folder.path().join("new-left-over"), "x").unwrap();
    std::fs::write(cache.folder.path().join("not-ours"), "x").unwrap();
    assert_eq!(cache.cache.collect(BTreeSet::from([digest(&live)])).await.unwrap(), 2);
    assert_eq!(cache.files().len(), 2);
    cache.code(EngineKind::Apps, &live).await;
    assert_eq!(cache.compiled(), 2);
}

#[test]
fn the_compiler_refuses_what_no_engine_runs() {
    let compiled = |wasm: &[u8]| compile(EngineKind::Apps, wasm, Vec::new()).unwrap_err();
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(compiled(&module), CompileError::NotAComponent(_)));
    assert!(matches!(compiled(b"\0asm\x0d\0\x01\0damaged"), CompileError::NotAComponent(_)));
    for refused in [
        "(component (core module (memory i64 1)))",
        "(component (core module (memory 1 2 shared)))",
        "(component (core module (type (struct))))",
    ] {
        let error = compiled(&wat::parse_str(refused).unwrap());
        assert!(matches!(error, CompileError::Invalid(_)), "{refused}: {error}");
    }
}

#[test]
fn the_compiler_reads_no_more_than_the_limit() {
    for kind in [EngineKind::Extensions, EngineKind::Apps] {
        let endless = std::io::repeat(0);
        let error = compile(kind, endless, Vec::new()).unwrap_err();
        assert!(
            matches!(error, CompileError::TooLarge { bytes_max } if bytes_max == component_bytes_max(kind))
        );
    }
}
