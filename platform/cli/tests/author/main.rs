//! Writing an extension, as its author does it: the real `berth` and `berthd`, and each language's
//! own tools, which the first run fetches.
//!
//! The programs come from `BERTH_PROGRAMS`, or `TARGET/berth`, where `cargo xtask build` puts them.

mod buildpack;
mod check;
mod failing;
mod loops;
mod museum;
mod project;
mod recorded;
mod shipped;
mod templates;
