//! Builds an app with make, and runs the program `web` that its Makefile makes.

use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, Step, fail, has, log, output, pass,
    plan, process,
};

struct Buildpack;

impl Detect for Buildpack {
    /// Looks at the source alone. The reason is shown to who pushes what nothing fits.
    fn detect(_: Context) -> Result<Outcome, Failure> {
        if has("Makefile") { pass(vec![plan(&[], &[])]) } else { fail("there is no Makefile") }
    }
}

impl Build for Buildpack {
    /// Tools run in a build container, without network unless a step asks for it.
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        log::header("Building with make");
        Step::new(&["make"])
            .writes("workspace")
            .run()?
            .or_fail("make", "Mend what make says above, and push again.")?;
        let mut output = output();
        output.processes.push(process("web", &["/workspace/web"]));
        Ok(output)
    }
}

berth_buildpack_kit::export!(Buildpack with_types_in berth_buildpack_kit::bindings);
