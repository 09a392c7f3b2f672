//! A buildpack that fits no source.

mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/buildpack", world: "buildpack" });
}

use bindings::exports::berth::buildpack::{builder, detector};

struct Buildpack;

impl detector::Guest for Buildpack {
    fn detect(_: detector::Context) -> Result<detector::Outcome, detector::Failure> {
        Ok(detector::Outcome::Fail("it fits no source".to_owned()))
    }
}

impl builder::Guest for Buildpack {
    fn build(
        _: builder::Context,
        _: Vec<builder::Require>,
    ) -> Result<builder::Output, builder::Failure> {
        Err(builder::Failure {
            code: "never".to_owned(),
            message: "it builds nothing".to_owned(),
            retry: false,
            extra: Vec::new(),
        })
    }
}

bindings::export!(Buildpack with_types_in bindings);
