//! The `procfile` buildpack: the processes of the Procfile, which replace what other buildpacks
//! proposed. It installs nothing. A `release` line becomes the release phase.

use berth_buildpack_kit::{
    Build, Context, Detect, Failure, Outcome, Output, Require, fail, failure_at, has, log, output,
    pass, plan, process, procfile, text,
};

struct Procfile;

fn processes() -> Result<procfile::Processes, Failure> {
    procfile::parse(&text("Procfile")?.unwrap_or_default()).map_err(|refused| {
        let message = format!("Procfile, line {}: {}", refused.line, refused.message);
        failure_at("procfile", "Procfile", Some(refused.line), message)
    })
}

impl Detect for Procfile {
    fn detect(_: Context) -> Result<Outcome, Failure> {
        if has("Procfile") {
            processes()?;
            pass(vec![plan(&[], &[])])
        } else if has("procfile") || has("PROCFILE") {
            fail("the file must be named 'Procfile', with a capital P")
        } else {
            fail("there is no Procfile")
        }
    }
}

impl Build for Procfile {
    fn build(_: Context, _: Vec<Require>) -> Result<Output, Failure> {
        let processes = processes()?;
        let names: Vec<&str> = processes.iter().map(|(name, _)| name.as_str()).collect();
        log::header(&format!(
            "Procfile declares {}",
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        ));
        let mut output = output();
        for (name, command) in &processes {
            // As Heroku runs a line: a shell that gives way to the command where it is a simple one.
            let command = ["bash", "-c", command.as_str()];
            if name == "release" {
                output.release = Some(command.map(str::to_owned).to_vec());
            } else {
                output.processes.push(process(name, &command));
            }
        }
        Ok(output)
    }
}

berth_buildpack_kit::export!(Procfile with_types_in berth_buildpack_kit::bindings);
