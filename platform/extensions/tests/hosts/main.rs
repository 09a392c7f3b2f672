//! Real guests against the real hosts. Each limit is tested by its effect.

mod aot;
mod app;
mod buildpack;
mod inspect;
mod log_processor;
mod middleware;
mod support;
mod worker;
