//! A request's body as the bytes that git reads: within a bound, unpacked when it is gzip.

use std::io::Write;
use std::pin::Pin;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{Stream, StreamExt, stream};

use crate::service::InputError;

/// A body may unpack to this many times its own size (git's own requests reach about 4), and
/// [`FREE_BYTES`] more.
const RATIO_MAX: u64 = 100;
const FREE_BYTES: u64 = 1 << 20;
/// Compressed bytes that are unpacked in one step; a step gives about a thousand times as much.
const STEP_BYTES: usize = 1024;

pub(super) type Input = Pin<Box<dyn Stream<Item = Result<Bytes, InputError>> + Send>>;

/// The bytes of a request's body.
pub(super) fn input(headers: &HeaderMap, body: Body, mib_max: u32) -> Result<Input, InputError> {
    let bytes_max = u64::from(mib_max) << 20;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(InputError::TooLarge { mib: mib_max });
    }
    let unpack = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => None,
        Some(b"gzip" | b"x-gzip") => Some(Unpack::default()),
        Some(_) => return Err(InputError::Gzip),
    };
    let body = body.into_data_stream();
    let state = State { body, unpack, bytes_max, mib_max, seen: 0, ended: false };
    Ok(stream::unfold(state, State::next).boxed())
}

struct State {
    body: BodyDataStream,
    unpack: Option<Unpack>,
    bytes_max: u64,
    mib_max: u32,
    /// Bytes given to git.
    seen: u64,
    ended: bool,
}

impl State {
    async fn next(mut self) -> Option<(Result<Bytes, InputError>, Self)> {
        if self.ended {
            return None;
        }
        let given = match self.body.next().await {
            Some(Ok(bytes)) => match &mut self.unpack {
                Some(unpack) => unpack.step(&bytes, self.bytes_max),
                None => Ok(bytes),
            },
            // A body that breaks off is the end for git too: it refuses half a pack by itself.
            Some(Err(_)) | None => {
                self.ended = true;
                match self.unpack.take() {
                    Some(unpack) => unpack.end(),
                    None => Ok(Bytes::new()),
                }
            }
        };
        let given = given.and_then(|bytes| {
            self.seen += bytes.len() as u64;
            if self.seen > self.bytes_max {
                return Err(InputError::TooLarge { mib: self.mib_max });
            }
            Ok(bytes)
        });
        self.ended |= given.is_err();
        Some((given, self))
    }
}

struct Unpack {
    decoder: GzDecoder<Vec<u8>>,
    packed: u64,
    unpacked: u64,
}

impl Default for Unpack {
    fn default() -> Self {
        Self { decoder: GzDecoder::new(Vec::new()), packed: 0, unpacked: 0 }
    }
}

impl Unpack {
    fn step(&mut self, bytes: &[u8], bytes_max: u64) -> Result<Bytes, InputError> {
        for piece in bytes.chunks(STEP_BYTES) {
            self.packed += piece.len() as u64;
            self.decoder.write_all(piece).map_err(|_| InputError::Gzip)?;
            let waiting = self.unpacked + self.decoder.get_ref().len() as u64;
            if waiting > self.packed * RATIO_MAX + FREE_BYTES || waiting > bytes_max {
                return Err(InputError::Gzip);
            }
        }
        Ok(self.taken())
    }

    fn end(mut self) -> Result<Bytes, InputError> {
        self.decoder.try_finish().map_err(|_| InputError::Gzip)?;
        Ok(self.taken())
    }

    fn taken(&mut self) -> Bytes {
        let bytes = std::mem::take(self.decoder.get_mut());
        self.unpacked += bytes.len() as u64;
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(body: Vec<u8>, encoding: Option<&str>, mib: u32) -> Result<Vec<u8>, InputError> {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        }
        let mut input = input(&headers, Body::from(body), mib)?;
        let mut all = Vec::new();
        while let Some(bytes) = input.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn plain_and_gzip_bodies_arrive_whole() {
        let text: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(read(text.clone(), None, 8).await.unwrap(), text);
        assert_eq!(read(packed(&text), Some("gzip"), 8).await.unwrap(), text);
    }

    #[tokio::test]
    async fn a_gzip_bomb_is_refused_while_it_is_small() {
        let bomb = packed(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(read(bomb, Some("gzip"), 2048).await, Err(InputError::Gzip));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_or_of_another_encoding_is_refused() {
        assert_eq!(read(vec![1; 2 << 20], None, 1).await, Err(InputError::TooLarge { mib: 1 }));
        assert_eq!(read(b"x".to_vec(), Some("br"), 1).await, Err(InputError::Gzip));
        assert_eq!(read(b"not gzip".to_vec(), Some("gzip"), 1).await, Err(InputError::Gzip));
        let mut half = packed(&[7; 5000]);
        half.truncate(half.len() - 6);
        assert_eq!(read(half, Some("gzip"), 1).await, Err(InputError::Gzip));
    }
}
