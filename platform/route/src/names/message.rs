//! DNS messages as far as a forwarder reads them: the header and the one question (RFC 1035,
//! section 4.1). Everything after it is passed on as it is.

use std::net::{Ipv4Addr, Ipv6Addr};

use berth_model::addon::DOMAIN;

/// Bytes of a header.
const HEADER: usize = 12;
/// Longest name, with its lengths and its end.
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

const KIND_A: u16 = 1;
const KIND_AAAA: u16 = 28;
const KIND_IXFR: u16 = 251;
const KIND_AXFR: u16 = 252;
const CLASS_IN: u16 = 1;

/// The second byte of flags: what is known of recursion, and the answer's code.
const RECURSION_AVAILABLE: u8 = 0x80;
/// Bits of the first byte of flags.
const IS_ANSWER: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;

/// Codes of an answer (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    Fine = 0,
    Malformed = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no query; an answer could go round for ever.
    Drop,
    /// It is answered here.
    Answer(Vec<u8>),
    /// The host's servers know.
    Forward(Question),
}

/// The question of a message that is worth forwarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// From the header's end: name, kind, class.
    bytes: Vec<u8>,
}

/// Judges a message of an instance whose /16 begins at `base`; `addons` knows where they listen.
pub(super) fn judge(
    message: &[u8],
    base: Ipv4Addr,
    addons: &impl Fn(&str) -> Option<Ipv4Addr>,
) -> Verdict {
    let Some(header) = message.first_chunk::<HEADER>() else { return Verdict::Drop };
    if header[2] & IS_ANSWER != 0 {
        return Verdict::Drop;
    }
    if header[2] & OPCODE != 0 {
        return Verdict::Answer(bare_answer(header, Code::NotImplemented));
    }
    let questions = u16::from_be_bytes([header[4], header[5]]);
    let found = (questions == 1).then(|| question(&message[HEADER..])).flatten();
    let Some((labels, question)) = found else {
        return Verdict::Answer(bare_answer(header, Code::Malformed));
    };
    let [.., k0, k1, c0, c1] = question.bytes[..] else { return Verdict::Drop };
    let (kind, class) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([c0, c1]));
    // Whole zones have no bound, and other classes tell what software the host runs.
    if class != CLASS_IN || matches!(kind, KIND_AXFR | KIND_IXFR) {
        return Verdict::Answer(answer(message, &question, Code::Refused));
    }
    match special(&labels, base) {
        Some(Special::Loopback) => {
            let own = (Ipv4Addr::LOCALHOST, Some(Ipv6Addr::LOCALHOST));
            Verdict::Answer(addresses(message, &question, kind, own))
        }
        Some(Special::Addon(name)) => Verdict::Answer(match addons(&name) {
            Some(address) => addresses(message, &question, kind, (address, None)),
            None => answer(message, &question, Code::NoSuchName),
        }),
        Some(Special::Nobody) => Verdict::Answer(answer(message, &question, Code::NoSuchName)),
        None => Verdict::Forward(question),
    }
}

/// A zone that no server is asked about.
enum Special {
    /// `localhost` and what lies below it is the instance itself (RFC 6761, section 6.3).
    Loopback,
    /// `NAME.internal`: an add-on, which attached apps look for under it. The domain is kept for
    /// private use by ICANN's resolution 2024.07.29.06.
    Addon(String),
    /// Never there: `invalid` (RFC 6761, section 6.4), `onion` (RFC 7686), and the names of
    /// instances' own addresses, which are nobody else's business.
    Nobody,
}

fn special(labels: &[Vec<u8>], base: Ipv4Addr) -> Option<Special> {
    let [a, b, ..] = base.octets();
    let reverse = [b.to_string(), a.to_string(), "in-addr".to_owned(), "arpa".to_owned()];
    let reverse = reverse.map(String::into_bytes);
    match labels.last().map(Vec::as_slice) {
        Some(b"localhost") => Some(Special::Loopback),
        Some(domain) if domain == DOMAIN.as_bytes() && labels.len() == 2 => {
            // A name that is no text is no add-on's.
            Some(Special::Addon(String::from_utf8_lossy(&labels[0]).into_owned()))
        }
        Some(b"invalid" | b"onion") => Some(Special::Nobody),
        _ if labels.ends_with(&reverse) => Some(Special::Nobody),
        _ => None,
    }
}

/// The labels of a question's name in lower case, and the question's bytes. A question is the
/// first of a message, so that its name never points elsewhere.
fn question(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, Question)> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > LABEL_BYTES_MAX || at + length >= NAME_BYTES_MAX {
            return None;
        }
        labels.push(bytes.get(at..at + length)?.to_ascii_lowercase());
        at += length;
    }
    Some((labels, Question { bytes: bytes.get(..at + 4)?.to_vec() }))
}

/// The code of an answer that belongs to a query with this id and question; `None` for anything
/// else, whoever sent it.
pub(super) fn code_of(reply: &[u8], id: u16, question: &Question) -> Option<u8> {
    let header = reply.first_chunk::<HEADER>()?;
    if header[..2] != id.to_be_bytes() || header[2] & IS_ANSWER == 0 {
        return None;
    }
    let code = header[3] & 0x0f;
    let asked = reply.get(HEADER..HEADER + question.bytes.len());
    let same = header[4..6] == [0, 1]
        && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&question.bytes));
    // A server that cannot read a query may leave its question out.
    let without = header[4..6] == [0, 0] && code != 0;
    (same || without).then_some(code)
}

/// Whether another server may know better.
pub(super) fn is_failure(code: u8) -> bool {
    [Code::ServerFailure, Code::NotImplemented, Code::Refused].iter().any(|c| *c as u8 == code)
}

/// The id of a message, which must have a header.
pub(super) fn id(message: &[u8]) -> [u8; 2] {
    [message[0], message[1]]
}

/// Gives a message, which must have a header, another id.
pub(super) fn set_id(message: &mut [u8], id: [u8; 2]) {
    message[..2].copy_from_slice(&id);
}

/// An answer with a code and nothing else.
pub(super) fn answer(query: &[u8], question: &Question, code: Code) -> Vec<u8> {
    let mut answer = bare_answer(query, code);
    answer[5] = 1;
    answer.extend_from_slice(&question.bytes);
    answer
}

/// An answer that says only: ask again over TCP.
pub(super) fn truncated(query: &[u8], question: &Question) -> Vec<u8> {
    let mut answer = answer(query, question, Code::Fine);
    answer[2] |= TRUNCATED;
    answer
}

fn bare_answer(query: &[u8], code: Code) -> Vec<u8> {
    let flags = IS_ANSWER | (query[2] & (OPCODE | RECURSION_DESIRED));
    let mut answer = vec![0; HEADER];
    answer[..4].copy_from_slice(&[query[0], query[1], flags, RECURSION_AVAILABLE | code as u8]);
    answer
}

/// An answer with the address of the kind that is asked for, without time to live.
fn addresses(
    query: &[u8],
    question: &Question,
    kind: u16,
    (v4, v6): (Ipv4Addr, Option<Ipv6Addr>),
) -> Vec<u8> {
    let mut text = answer(query, question, Code::Fine);
    let data = match kind {
        KIND_A => Some(v4.octets().to_vec()),
        KIND_AAAA => v6.map(|v6| v6.octets().to_vec()),
        _ => None,
    };
    // The name is there, without records of this kind.
    let Some(data) = data else { return text };
    text[7] = 1;
    // The question's name, kind, class, no time to live.
    text.extend_from_slice(&[0xc0, HEADER as u8]);
    text.extend_from_slice(&kind.to_be_bytes());
    text.extend_from_slice(&CLASS_IN.to_be_bytes());
    text.extend_from_slice(&[0; 4]);
    text.extend_from_slice(&(data.len() as u16).to_be_bytes());
    text.extend_from_slice(&data);
    text
}

#[cfg(test)]
mod tests;
