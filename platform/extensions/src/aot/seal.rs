//! The end of a file in the cache: what the code was compiled from and for, and a MAC over it all.
//!
//! It stands at the end, because the engine maps the file from its first byte.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use berth_container::Engine as EngineKind;
use berth_model::Digest;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};

use super::SUFFIX;
use crate::engine::{self, EngineError, WASMTIME_VERSION};

const MAGIC: &[u8; 16] = b"berth code v1\0\0\0";
const MAC_BYTES: usize = 32;

/// Key of the cache's MAC: derived from the platform's key, of no other use.
#[derive(Clone)]
pub struct MacKey(Arc<[u8; 32]>);

impl MacKey {
    /// A key of 32 bytes that nobody else knows.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(bytes))
    }

    fn mac(&self) -> Hmac<Sha256> {
        // A block of the hash holds a key of any length up to 64 bytes as it is.
        let mut block = [0; 64];
        block[..32].copy_from_slice(self.0.as_slice());
        <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
    }
}

/// What a file was compiled from and for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) kind: EngineKind,
    pub(super) component: Digest,
    /// Of [`environment`].
    pub(super) environment: [u8; 32],
}

impl Origin {
    pub(super) fn file_name(&self) -> String {
        let kind = match self.kind {
            EngineKind::Extensions => "extensions",
            EngineKind::Apps => "apps",
        };
        let environment = Digest::from_sha256(self.environment).short();
        format!("{kind}-{}-{environment}.{SUFFIX}", self.component.hex())
    }

    fn footer(&self, code_bytes: u64) -> Vec<u8> {
        let kind = match self.kind {
            EngineKind::Extensions => 0_u64,
            EngineKind::Apps => 1,
        };
        [
            MAGIC.as_slice(),
            &kind.to_le_bytes(),
            &code_bytes.to_le_bytes(),
            self.component.bytes(),
            &self.environment,
        ]
        .concat()
    }
}

/// Everything but the component that decides what its code is: settings, processor features,
/// exact engine version, host build, kind of engine.
pub(super) fn environment(kind: EngineKind, build: &str) -> Result<[u8; 32], EngineError> {
    let engine = engine::compiling(kind)?;
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    (WASMTIME_VERSION, build, kind).hash(&mut hasher);
    Ok(hasher.0.finalize().into())
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let bytes = self.0.clone().finalize();
        bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// Appends the footer and the MAC to code that was just compiled.
pub(super) fn seal(file: &mut File, origin: &Origin, key: &MacKey) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut mac = key.mac();
    let code_bytes = absorb(&mut *file, &mut mac)?;
    let footer = origin.footer(code_bytes);
    mac.update(&footer);
    file.write_all(&footer)?;
    file.write_all(&mac.finalize().into_bytes())?;
    file.sync_data()
}

/// Whether the file is the code of that origin, whole and unchanged.
pub(super) fn verify(file: &mut File, origin: &Origin, key: &MacKey) -> io::Result<bool> {
    let footer_bytes = origin.footer(0).len() as u64;
    let end_bytes = footer_bytes + MAC_BYTES as u64;
    let Some(code_bytes) = file.metadata()?.len().checked_sub(end_bytes) else {
        return Ok(false);
    };
    let mut mac = key.mac();
    file.seek(SeekFrom::Start(0))?;
    absorb(Read::take(&mut *file, code_bytes + footer_bytes), &mut mac)?;
    let mut tag = [0; MAC_BYTES];
    file.read_exact(&mut tag)?;
    file.seek(SeekFrom::Start(code_bytes))?;
    let mut footer = vec![0; footer_bytes as usize];
    file.read_exact(&mut footer)?;
    Ok(mac.verify_slice(&tag).is_ok() && footer == origin.footer(code_bytes))
}

fn absorb(mut from: impl Read, mac: &mut Hmac<Sha256>) -> io::Result<u64> {
    let mut piece = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                mac.update(&piece[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
