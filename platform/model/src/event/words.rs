//! What happened, in words for people.
//!
//! Takes an event; gives one line, which begins with what was done and is fit for a terminal. It says
//! nothing that the event does not say, and for a kind that it does not know the kind itself.

use serde::Deserialize;
use serde_json::Value;

use super::Event;
use crate::principal::Verb;
use crate::text::printable;

/// Most bytes of the line, about.
pub const WORDS_BYTES_MAX: usize = 400;

impl Event {
    /// What happened, in one line. It says neither who did it nor from where.
    pub fn words(&self) -> String {
        printable(&self.told(), WORDS_BYTES_MAX)
    }

    fn told(&self) -> String {
        if let Some(changes) = self.after["changes"].as_array() {
            let changes: Vec<&str> = changes.iter().filter_map(Value::as_str).collect();
            return changes.join("; ");
        }
        let (noun, verb) = self.kind.split_once('.').unwrap_or((&self.kind, ""));
        // What was removed is told by what it was.
        let thing = if self.after.is_null() { &self.before } else { &self.after };
        let text = |key: &str| thing[key].as_str().unwrap_or_default();
        match (noun, verb) {
            ("access", "failed") => failed(thing),
            ("access", "denied") => denied(thing),
            ("access", "more") => format!(
                "{} more attempts were refused; they are not told one by one",
                thing["times"]
            ),
            ("app", "erased") => "remove what was left of the app".to_owned(),
            ("build", "created") => format!("start build {} of {}", self.subject, commit(thing)),
            ("build", "finished") => {
                ended(&format!("build {} {}", self.subject, text("state")), thing)
            }
            ("instance", _) => ended(&format!("{} is {}", text("name"), text("state")), thing),
            ("deployment", _) => {
                let state = text("state").replace('_', " ");
                ended(&format!("deployment {} is {state}", self.subject), thing)
            }
            ("token", _) => {
                let verb = if verb == "created" { "create" } else { "revoke" };
                format!("{verb} token {} with the role {}", text("name"), text("role"))
            }
            ("key", _) => {
                let verb = if verb == "added" { "add" } else { "remove" };
                let (name, role) = (text("name"), text("role"));
                format!("{verb} key {name} with the role {role} ({})", text("fingerprint"))
            }
            ("user", verb) => user(verb, thing),
            ("session", "started") if thing["by_link"] == true => {
                "sign in to the console by a link".to_owned()
            }
            ("session", "started") => "sign in to the console".to_owned(),
            ("session", _) => format!("end a session of {}", text("user")),
            ("config", "revealed") => format!("read the values of {}", names(thing)),
            ("team", "removed") => format!("remove team {}", text("name")),
            ("team", _) => format!("create team {}", text("name")),
            ("alert", verb) => alert(verb, thing),
            ("drain", "created") => format!("send {} to {}", drained(thing), text("url")),
            ("drain", _) => format!("send {} to {} no more", drained(thing), text("url")),
            ("addon", "backed_up") => format!("back up, as {}", text("backup")),
            ("addon", "backup_removed") => format!("remove backup {}", text("backup")),
            ("addon", "restored") => format!("restore backup {}", text("backup")),
            ("stack", _) => format!("make stack {} anew", self.subject),
            ("buildpack", "order") => "set the order of buildpacks".to_owned(),
            ("buildpack" | "extension", "added" | "installed" | "changed" | "removed") => {
                let verb = match verb {
                    "added" => "add",
                    "installed" => "install",
                    "changed" => "change",
                    _ => "remove",
                };
                format!("{verb} {noun} {} {}", self.subject, text("version"))
            }
            ("extension", "secret") => {
                let verb = if thing["set"] == true { "set" } else { "remove" };
                format!("{verb} secret {} of extension {}", text("secret"), self.subject)
            }
            ("policy", "overridden") => {
                format!("pass over policy {}: {}", self.subject, text("reason"))
            }
            _ => format!("{} {}", self.kind, self.subject),
        }
    }
}

fn user(verb: &str, thing: &Value) -> String {
    let text = |key: &str| thing[key].as_str().unwrap_or_default();
    let name = text("name");
    match verb {
        "created" => match thing["role"].as_str() {
            Some(role) => format!("create user {name} with the role {role}"),
            None => format!("create user {name}"),
        },
        "changed" if text("state") == "active" => format!("enable user {name}"),
        "changed" => format!("disable user {name}"),
        "removed" => format!("remove user {name}"),
        "granted" => format!("give user {name} the role {}", text("role")),
        "role_removed" => format!("take the role {} from user {name}", text("role")),
        "linked" => format!("make a link for user {name} to sign in"),
        "password" => format!("choose a password for user {name}"),
        _ => format!("{verb} user {name}"),
    }
}

/// A list of names in words.
fn names(thing: &Value) -> String {
    let names = thing["names"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    if names.is_empty() { "no variable".to_owned() } else { names.join(", ") }
}

fn alert(verb: &str, thing: &Value) -> String {
    let text = |key: &str| thing[key].as_str().unwrap_or_default();
    let rule = format!("{} {} {}", text("measure"), text("comparison"), thing["threshold"]);
    let of = match (thing["instance"].as_str(), thing["app"].is_null()) {
        (Some(instance), _) => format!(" of {instance}"),
        (None, true) => " of the machine".to_owned(),
        (None, false) => String::new(),
    };
    let value = match thing["value"].as_f64() {
        Some(value) => value.to_string(),
        None => "not measured".to_owned(),
    };
    match verb {
        "raised" => format!("alert: {}{of} is {value} ({rule})", text("measure")),
        "cleared" => format!("alert is over: {}{of} is {value} ({rule})", text("measure")),
        "removed" => format!("tell no more of {rule}"),
        _ => format!("tell of {rule}"),
    }
}

/// A state, and why where it is a failure.
fn ended(state: &str, thing: &Value) -> String {
    match thing["error"].as_str() {
        Some(error) => format!("{state}: {error}"),
        None => state.to_owned(),
    }
}

fn commit(thing: &Value) -> &str {
    let commit = thing["commit"].as_str().unwrap_or_default();
    commit.get(..7).unwrap_or(commit)
}

fn drained(thing: &Value) -> &'static str {
    if thing["app"].is_null() { "the lines of every app" } else { "the lines of the app" }
}

fn times(thing: &Value) -> String {
    match thing["times"].as_u64() {
        Some(times) if times > 1 => format!(", {times} times"),
        _ => String::new(),
    }
}

fn failed(thing: &Value) -> String {
    let over = thing["over"].as_str().unwrap_or("the API");
    let with = match (thing["fingerprint"].as_str(), thing["user"].as_str()) {
        (Some(fingerprint), _) => format!("the unknown key {fingerprint}"),
        (None, Some(user)) if thing["locked"] == true => {
            format!("a wrong password of {user}, which has to wait now")
        }
        (None, Some(user)) => format!("a wrong password of {user}"),
        (None, None) if thing["link"] == true => "a link that is good no more".to_owned(),
        (None, None) if over == "the console" => "a name that nobody has".to_owned(),
        (None, None) => "a token that is not valid".to_owned(),
    };
    format!("could not log in: {with}, over {over}{}", times(thing))
}

fn denied(thing: &Value) -> String {
    let text = |key: &str| thing[key].as_str().unwrap_or_default();
    let verb = Verb::deserialize(&thing["verb"]).map_or("do this", Verb::words);
    let why = match thing["gives"].as_str() {
        Some(gives) => format!("the role is {}, {gives} would be given", text("role")),
        None if thing["hidden"] == true => "it is another team's".to_owned(),
        None => format!("the role is {}, it takes {}", text("role"), text("needs")),
    };
    format!("may not {verb} ({}): {why}{}", text("call"), times(thing))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, subject: &str, before: Value, after: Value) -> Event {
        Event {
            seq: 1,
            kind: kind.to_owned(),
            schema: 1,
            subject: subject.to_owned(),
            app: None,
            app_name: None,
            actor: "ci".to_owned(),
            principal: None,
            source_ip: None,
            at_ms: 0,
            before,
            after,
        }
    }

    #[test]
    fn what_happened_is_told_by_what_the_event_has() {
        let null = || Value::Null;
        for (kind, subject, before, after, words) in [
            (
                "app.scaled",
                "app_1",
                null(),
                json!({"changes": ["scale web from 1 to 2", "set A (new)"]}),
                "scale web from 1 to 2; set A (new)",
            ),
            (
                "build.created",
                "bld_1",
                null(),
                json!({"commit": "0123456789"}),
                "start build bld_1 of 0123456",
            ),
            (
                "deployment.changed",
                "dpl_1",
                null(),
                json!({"state": "rolled_back", "error": "it answered 500"}),
                "deployment dpl_1 is rolled back: it answered 500",
            ),
            (
                "token.revoked",
                "tok_1",
                json!({"name": "ci", "role": "viewer"}),
                null(),
                "revoke token ci with the role viewer",
            ),
            (
                "drain.created",
                "drn_1",
                null(),
                json!({"app": null, "url": "https://logs.example.com"}),
                "send the lines of every app to https://logs.example.com",
            ),
            (
                "extension.secret",
                "a.b",
                null(),
                json!({"secret": "token", "set": true}),
                "set secret token of extension a.b",
            ),
            (
                "access.denied",
                "app_1",
                null(),
                json!({
                    "verb": "deploy", "call": "git push", "role": "viewer",
                    "needs": "developer", "times": 3,
                }),
                "may not deploy (git push): the role is viewer, it takes developer, 3 times",
            ),
            (
                "access.failed",
                "platform",
                null(),
                json!({"over": "SSH", "fingerprint": "SHA256:x", "times": 1}),
                "could not log in: the unknown key SHA256:x, over SSH",
            ),
            (
                "access.failed",
                "platform",
                null(),
                json!({"over": "the console", "user": "anna", "locked": true, "times": 1}),
                "could not log in: a wrong password of anna, which has to wait now, over the console",
            ),
            (
                "access.failed",
                "platform",
                null(),
                json!({"over": "the console", "user": null, "locked": false, "times": 2}),
                "could not log in: a name that nobody has, over the console, 2 times",
            ),
            (
                "user.role_removed",
                "usr_1",
                json!({"name": "anna", "role": "viewer"}),
                null(),
                "take the role viewer from user anna",
            ),
            (
                "config.revealed",
                "app_1",
                null(),
                json!({"names": ["A", "B"]}),
                "read the values of A, B",
            ),
            (
                "alert.raised",
                "alr_1",
                null(),
                json!({
                    "app": "app_1", "measure": "cpu", "comparison": "above", "threshold": 0.9,
                    "value": 0.95, "instance": "web.1",
                }),
                "alert: cpu of web.1 is 0.95 (cpu above 0.9)",
            ),
            (
                "alert.cleared",
                "alr_1",
                null(),
                json!({
                    "app": null, "measure": "load", "comparison": "above", "threshold": 2.0,
                    "value": null, "instance": null,
                }),
                "alert is over: load of the machine is not measured (load above 2.0)",
            ),
            ("acme.paid", "acme.shop", null(), json!({}), "acme.paid acme.shop"),
        ] {
            assert_eq!(event(kind, subject, before, after).words(), words);
        }
    }

    #[test]
    fn words_are_one_line_that_is_fit_for_a_terminal_whatever_was_written() {
        let after = json!({"changes": ["set \u{1b}[2J\n", "x".repeat(1000)], "name": 5});
        let words = event("app.configured", "app_1", Value::Null, after).words();
        assert!(words.starts_with("set \\u{1b}[2J\\n; xxx"), "{words}");
        assert!(words.len() < 500 && words.ends_with('…'), "{words}");
        for kind in ["", ".", "build.created", "policy.overridden", "access.denied"] {
            event(kind, "", Value::Null, json!([1])).words();
        }
    }
}
