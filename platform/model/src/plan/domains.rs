//! Which domains an app may have.

use super::{DOMAINS_MAX, Effect, Refusal, State};
use crate::{App, Domain};

pub(super) fn add(state: &State, app: &App, domain: &Domain) -> Result<Vec<Effect>, Refusal> {
    if state.domains.contains(domain) {
        return Ok(Vec::new());
    }
    let host = domain.as_str().strip_prefix("*.").unwrap_or(domain.as_str());
    let below = host.strip_suffix(state.platform_domain.as_str());
    if below.is_some_and(|left| left.is_empty() || left.ends_with('.')) {
        return Err(Refusal::DomainReserved(domain.clone()));
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::DomainIsAddress(domain.clone()));
    }
    let clash = state.others.iter().any(|(other, team)| {
        other == domain || (*team != app.team && (covers(other, domain) || covers(domain, other)))
    });
    if clash {
        return Err(Refusal::DomainTaken(domain.clone()));
    }
    if state.domains.len() >= DOMAINS_MAX {
        return Err(Refusal::TooManyDomains);
    }
    Ok(vec![Effect::AddDomain { domain: domain.clone() }])
}

pub(super) fn remove(state: &State, domain: &Domain) -> Result<Vec<Effect>, Refusal> {
    if state.domains.contains(domain) {
        Ok(vec![Effect::RemoveDomain { domain: domain.clone() }])
    } else {
        Err(Refusal::NoDomain(domain.clone()))
    }
}

/// Whether requests for `host` would go to `wildcard`.
fn covers(wildcard: &Domain, host: &Domain) -> bool {
    let Some(parent) = wildcard.as_str().strip_prefix("*.") else { return false };
    host.as_str().split_once('.').is_some_and(|(_, rest)| rest == parent)
}
