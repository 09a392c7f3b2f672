//! Which object of the source is the app, where the app does not say.

use berth_buildpack_kit::settings::Value;
use berth_buildpack_kit::{Failure, failure_at, has, info, settings, source, text};

use crate::install::Installed;

/// Most files that are looked into.
const FILES_MAX: usize = 200;

/// How an app is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    Wsgi,
    Asgi,
}

/// An app: `module:object`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) object: String,
    pub(crate) interface: Interface,
}

/// Finds it.
pub(crate) fn find(installed: &Installed) -> Result<Option<App>, Failure> {
    if let Some(object) = settings::table("python")?.get("app").and_then(Value::as_str) {
        if !is_object(object) {
            return Err(failure_at(
                "bad-app",
                "berth.toml",
                None,
                format!("[python] app = \"{object}\" is not of the form \"module:variable\"."),
            ));
        }
        let asgi = installed.has("fastapi") || installed.has("starlette");
        return Ok(Some(App {
            object: object.to_owned(),
            interface: if asgi { Interface::Asgi } else { Interface::Wsgi },
        }));
    }
    let found = if installed.has("django") && has("manage.py") {
        django()
    } else if installed.has("fastapi") {
        search(Interface::Asgi, |text| variable(text, "FastAPI"))?
    } else if installed.has("flask") {
        search(Interface::Wsgi, |text| variable(text, "Flask").or_else(|| factory(text)))?
    } else {
        None
    };
    if let Some(app) = &found {
        info(&format!("The app is {}", app.object));
    }
    Ok(found)
}

/// `PROJECT/wsgi.py` beside `manage.py`.
fn django() -> Option<App> {
    let module = |file: &str| {
        let found = source::glob(&[format!("*/{file}.py")]);
        Some(format!("{}.{file}:application", found.first()?.split('/').next()?))
    };
    let wsgi = module("wsgi").map(|object| App { object, interface: Interface::Wsgi });
    wsgi.or_else(|| module("asgi").map(|object| App { object, interface: Interface::Asgi }))
}

/// The first file that defines the object: well-known names first, then packages.
fn search(
    interface: Interface,
    object: impl Fn(&str) -> Option<String>,
) -> Result<Option<App>, Failure> {
    const NAMES: [&str; 8] = [
        "app.py",
        "main.py",
        "wsgi.py",
        "asgi.py",
        "application.py",
        "server.py",
        "api.py",
        "run.py",
    ];
    let patterns = [
        "*/__init__.py",
        "*/app.py",
        "*/main.py",
        "*/wsgi.py",
        "src/*/__init__.py",
        "src/*/app.py",
        "src/*/main.py",
        "*.py",
    ];
    let mut files: Vec<String> =
        NAMES.iter().filter(|name| has(name)).map(|&name| name.to_owned()).collect();
    for pattern in patterns {
        files.extend(source::glob(&[pattern.to_owned()]).into_iter().filter(|file| !is_test(file)));
    }
    for file in files.iter().take(FILES_MAX) {
        // A file that cannot be read as text is not the app.
        let Ok(Some(text)) = text(file) else { continue };
        if let (Some(object), Some(module)) = (object(&text), module(file)) {
            return Ok(Some(App { object: format!("{module}:{object}"), interface }));
        }
    }
    Ok(None)
}

fn is_test(file: &str) -> bool {
    file.split('/').any(|part| {
        matches!(part, "tests" | "test" | "docs" | "examples")
            || part.starts_with("test_")
            || part == "conftest.py"
    })
}

/// `app = Flask(__name__)` at the left margin, perhaps with a type and a module.
fn variable(text: &str, class: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        let name = left.split(':').next()?.trim_end();
        let called = right.trim_start().split('(').next()?;
        let class_called =
            called == class || called.rsplit('.').next() == Some(class) && is_dotted(called);
        (is_name(name) && class_called && right.contains('(')).then(|| name.to_owned())
    })
}

/// `def create_app(`: called without arguments.
fn factory(text: &str) -> Option<String> {
    ["create_app", "make_app"]
        .into_iter()
        .find(|name| {
            text.lines().any(|line| {
                line.strip_prefix("def ")
                    .and_then(|rest| rest.strip_prefix(name))
                    .is_some_and(|rest| rest.trim_start().starts_with('('))
            })
        })
        .map(|name| format!("{name}()"))
}

/// `src/shop/web.py` is `shop.web`, `shop/__init__.py` is `shop`.
fn module(file: &str) -> Option<String> {
    let path = file.strip_prefix("src/").unwrap_or(file).strip_suffix(".py")?;
    let path = path.strip_suffix("/__init__").unwrap_or(path);
    let module = path.replace('/', ".");
    is_dotted(&module).then_some(module)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_dotted(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// `module:variable` or `module:factory()`.
fn is_object(text: &str) -> bool {
    text.split_once(':').is_some_and(|(module, object)| {
        is_dotted(module) && is_dotted(object.strip_suffix("()").unwrap_or(object))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_at_the_left_margin() {
        for (text, name) in [
            ("app = Flask(__name__)", "app"),
            ("import flask\nserver=flask.Flask('x')\n", "server"),
            ("app: Flask = Flask(\n  __name__)", "app"),
        ] {
            assert_eq!(variable(text, "Flask").as_deref(), Some(name), "{text}");
        }
        for text in [
            "    app = Flask(__name__)",
            "app = FlaskLike(__name__)",
            "app = make(Flask)",
            "# app = Flask(x)",
            "x == Flask(y)",
            "a.b = Flask(x)",
            "app = Flask",
        ] {
            assert_eq!(variable(text, "Flask"), None, "{text}");
        }
    }

    #[test]
    fn a_factory_is_a_function_of_a_usual_name() {
        assert_eq!(factory("def create_app(test_config=None):\n").as_deref(), Some("create_app()"));
        assert_eq!(factory("    def create_app():"), None);
        assert_eq!(factory("def create_application():"), None);
    }

    #[test]
    fn modules_come_from_paths() {
        for (file, name) in [
            ("app.py", Some("app")),
            ("shop/__init__.py", Some("shop")),
            ("src/shop/web.py", Some("shop.web")),
            ("my-app/main.py", None),
        ] {
            assert_eq!(module(file).as_deref(), name, "{file}");
        }
    }

    #[test]
    fn an_object_is_a_module_and_a_name() {
        assert!(is_object("shop.web:app") && is_object("flaskr:create_app()"));
        for bad in ["app", "app:", ":app", "a b:c", "a:b;c", "a:b()()"] {
            assert!(!is_object(bad), "{bad}");
        }
    }
}
