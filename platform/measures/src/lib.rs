//! What was measured, kept in bounded space: a file of rings per kind of thing.
//!
//! Takes one record of numbers per thing and period, and gives back those of a span of time in one
//! of two resolutions. A file has room for a fixed number of things; each has a ring of fine
//! records and a ring of coarse ones, which are made from the fine ones when their time is over. The
//! file's size is known before it is made, and holes in it take no space. It holds nothing that
//! cannot be lost: a file that is torn or of another form is set aside, and a new one begun.
//!
//! Nothing here knows what the numbers mean, or what time it is.

mod directory;
mod file;
mod form;
mod histogram;
mod record;

pub use file::{Opened, RingFile};
pub use form::{Form, Merge, Resolution, Span};
pub use histogram::quantile;
