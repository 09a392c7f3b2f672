//! What a registry's answer means to somebody who typed a name.

use std::error::Error;

use berth_model::text::printable;
use reqwest::StatusCode;

use super::place::Place;
use super::registry::Trouble;
use crate::failure::Failure;

/// What was wrong, where, and what to do. `known` says whether somebody is logged in.
pub(super) fn failure(doing: &str, place: &Place, known: bool, trouble: &Trouble) -> Failure {
    let host = &place.host;
    let failed = |why: String| Failure::failed(format!("cannot {doing} {place}: {why}"));
    match trouble {
        Trouble::Refused if known => {
            failed(format!("{host} refuses the login that is kept for it")).with_hint(format!(
                "may this login read and write {}? `docker login {host}` or `podman login {host}` \
                 keeps another",
                place.name
            ))
        }
        Trouble::Refused => failed(format!("{host} wants a login, and none is kept for it"))
            .with_hint(format!("`docker login {host}` or `podman login {host}` keeps one")),
        Trouble::Slow => failed(format!("{host} took too long")).with_hint("try again"),
        Trouble::Status { status: StatusCode::NOT_FOUND, .. } => {
            failed(format!("it is not there: {host} knows no such name, tag or digest"))
                .with_hint("look at the spelling, and whether it was pushed")
        }
        Trouble::Status { status, said } if said.is_empty() => {
            failed(format!("{host} answered {status}"))
        }
        Trouble::Status { status, said } => failed(format!("{host} answered {status}: {said}")),
        Trouble::TooLarge { what, bytes_max } => {
            failed(format!("{what} has more than {bytes_max} bytes, the most that is taken"))
        }
        Trouble::OtherBytes => failed(format!(
            "{host} sent other bytes than the digest names, so nothing is kept of them"
        ))
        .with_hint("they were damaged or replaced: tell who runs the registry"),
        Trouble::Odd(why) | Trouble::NoExtension(why) => failed(format!("{host}: {why}")),
        Trouble::Http(error) => unreached(host, error, failed),
    }
}

fn unreached(host: &str, error: &reqwest::Error, failed: impl Fn(String) -> Failure) -> Failure {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let cause = printable(&cause.to_string(), 400);
    if error.is_timeout() {
        return failed(format!("{host} took too long")).with_hint("try again");
    }
    if cause.contains("certificate") {
        return failed(format!("{host} is not trusted: {cause}")).with_hint(
            "a CA of your own is trusted when the system trusts it, or when SSL_CERT_FILE names a \
             file with it",
        );
    }
    if error.is_connect() {
        return failed(format!("cannot reach {host}: {cause}"))
            .with_hint("are host and port right, and does a registry listen there?");
    }
    failed(format!("{host} broke off: {cause}")).with_hint("try again")
}
