//! Real guests against the real hosts. Each limit is tested by its effect.

mod aot;
mod app;
mod buildpack;
mod inspect;
mod support;
mod worker;
