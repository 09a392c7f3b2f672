//! Applications that were not written for Berth, fetched when the test runs. A test adds only what
//! any Heroku user must.

use std::path::Path;
use std::process::Command;

use acceptance::browser::field;
use acceptance::{Browser, Platform, Repository};

#[track_caller]
fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .current_dir(folder)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .args(arguments)
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{program} {arguments:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn edit(repository: &Repository, file: &str, from: &str, to: &str) {
    let path = repository.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// One more push with a change, and back again.
fn change_and_roll_back(
    platform: &Platform,
    repository: &Repository,
    app: &str,
    path: &str,
    before: &str,
    after: &str,
) {
    repository.commit("A change");
    repository.deploy(platform, app);
    assert!(platform.get(app, path).unwrap().1.contains(after));
    platform.must(&["releases", "rollback", "--app", app, "v1"]);
    let (status, text) = platform.get(app, path).unwrap();
    assert_eq!(status, 200);
    assert!(text.contains(before) && !text.contains(after), "{text}");
}

#[test]
fn flasks_own_tutorial_registers_logs_in_writes_and_rolls_back() {
    let platform = Platform::start();
    let repository = Repository::new();
    let fetched = tempfile::tempdir().unwrap();
    run(
        fetched.path(),
        "pip3",
        &["download", "--quiet", "--no-deps", "--no-binary", "flask", "flask==3.1.0"],
    );
    run(fetched.path(), "tar", &["xzf", "flask-3.1.0.tar.gz"]);
    let tutorial = fetched.path().join("flask-3.1.0/examples/tutorial");
    run(
        &tutorial,
        "cp",
        &["-r", "flaskr", "pyproject.toml", &repository.path().display().to_string()],
    );
    repository.write("requirements.txt", "flask==3.1.0\ngunicorn==23.0.0\n");
    repository.write(
        "Procfile",
        "web: flask --app flaskr init-db && gunicorn --bind 0.0.0.0:$PORT 'flaskr:create_app()'\n",
    );
    repository.commit("The tutorial");
    repository.deploy(&platform, "flaskr");

    let mut browser = Browser::on(&platform, "flaskr");
    let person = [("username", "ada"), ("password", "countess")];
    assert_eq!(
        browser.post("/auth/register", &person).unwrap().location.as_deref(),
        Some("/auth/login")
    );
    assert_eq!(browser.post("/auth/login", &person).unwrap().status, 302);
    assert!(browser.get("/").unwrap().text.contains("Log Out"));
    browser.post("/create", &[("title", "On engines"), ("body", "They weave.")]).unwrap();
    assert!(browser.get("/").unwrap().text.contains("On engines"));
    assert_eq!(browser.get("/static/style.css").unwrap().status, 200);

    edit(&repository, "flaskr/templates/base.html", "Flaskr", "Second Edition");
    change_and_roll_back(&platform, &repository, "flaskr", "/", "Flaskr", "Second Edition");
}

#[test]
fn the_output_of_express_generator_answers_and_rolls_back() {
    let platform = Platform::start();
    let repository = Repository::new();
    let folder = repository.path();
    run(&folder, "npx", &["--yes", "express-generator@4.16.1", "--view=pug", "--force", "."]);
    run(&folder, "npm", &["install", "--package-lock-only", "--no-audit", "--no-fund"]);
    repository.commit("Express");
    repository.deploy(&platform, "express");

    let mut browser = Browser::on(&platform, "express");
    assert!(browser.get("/").unwrap().text.contains("Welcome to Express"));
    assert_eq!(browser.get("/stylesheets/style.css").unwrap().status, 200);
    assert!(browser.get("/users").unwrap().text.contains("respond with a resource"));
    assert_eq!(browser.get("/nowhere").unwrap().status, 404);

    edit(&repository, "routes/index.js", "'Express'", "'Second Edition'");
    change_and_roll_back(
        &platform,
        &repository,
        "express",
        "/",
        "Welcome to Express",
        "Second Edition",
    );
}

#[test]
fn a_vite_site_is_built_from_source_and_served() {
    let platform = Platform::start();
    let repository = Repository::new();
    let folder = repository.path();
    run(&folder, "npx", &["--yes", "create-vite@7.0.0", "site", "--template", "vanilla"]);
    run(&folder, "sh", &["-c", "cp -r site/. . && rm -r site"]);
    // As it was made: without a lockfile, which the push warns of.
    repository.commit("Vite");
    repository.deploy(&platform, "vite");

    let mut browser = Browser::on(&platform, "vite");
    let page = browser.get("/").unwrap().text;
    let script = page
        .split("src=\"")
        .nth(1)
        .and_then(|t| t.split('"').next())
        .expect("a built script")
        .to_owned();
    assert!(script.starts_with("/assets/"), "{page}");
    assert!(browser.get(&script).unwrap().text.contains("Hello Vite"));

    edit(&repository, "index.html", "<title>", "<title>Second Edition ");
    change_and_roll_back(&platform, &repository, "vite", "/", "<title>", "Second Edition");
}

#[test]
fn a_django_startproject_migrates_logs_in_writes_and_rolls_back() {
    let platform = Platform::start();
    let repository = Repository::new();
    let folder = repository.path();
    let tools = tempfile::tempdir().unwrap();
    run(tools.path(), "pip3", &["install", "--quiet", "--target", ".", "django==5.2.1"]);
    run(
        &folder,
        "sh",
        &[
            "-c",
            &format!(
                "PYTHONPATH={} python3 -m django startproject mysite .",
                tools.path().display()
            ),
        ],
    );
    edit(
        &repository,
        "mysite/settings.py",
        "ALLOWED_HOSTS = []",
        "ALLOWED_HOSTS = ['*']\nSTATIC_ROOT = BASE_DIR / 'staticfiles'",
    );
    edit(
        &repository,
        "mysite/settings.py",
        "'django.middleware.security.SecurityMiddleware',",
        "'django.middleware.security.SecurityMiddleware',\n    'whitenoise.middleware.WhiteNoiseMiddleware',",
    );
    repository.write("requirements.txt", "django==5.2.1\nwhitenoise==6.9.0\ngunicorn==23.0.0\n");
    repository.write(
        "Procfile",
        "web: python manage.py migrate && python manage.py createsuperuser --noinput && gunicorn --bind 0.0.0.0:$PORT mysite.wsgi\n",
    );
    repository.commit("Django");
    platform.must(&["apps", "create", "django", "--no-remote"]);
    platform.must(&[
        "config",
        "set",
        "--app",
        "django",
        "DJANGO_SUPERUSER_USERNAME=ada",
        "DJANGO_SUPERUSER_PASSWORD=countess-of-lovelace",
        "DJANGO_SUPERUSER_EMAIL=ada@localhost",
    ]);
    repository.deploy(&platform, "django");

    let mut browser = Browser::on(&platform, "django");
    let login = browser.get("/admin/login/").unwrap();
    let token = field(&login.text, "csrfmiddlewaretoken").expect("a token");
    assert_eq!(browser.get("/static/admin/css/base.css").unwrap().status, 200);
    let signed_in = browser.post(
        "/admin/login/",
        &[
            ("username", "ada"),
            ("password", "countess-of-lovelace"),
            ("csrfmiddlewaretoken", &token),
            ("next", "/admin/"),
        ],
    );
    assert_eq!(signed_in.unwrap().location.as_deref(), Some("/admin/"));
    let form = browser.get("/admin/auth/group/add/").unwrap();
    let token = field(&form.text, "csrfmiddlewaretoken").expect("a token");
    browser
        .post("/admin/auth/group/add/", &[("name", "Engineers"), ("csrfmiddlewaretoken", &token)])
        .unwrap();
    assert!(browser.get("/admin/auth/group/").unwrap().text.contains("Engineers"));

    edit(
        &repository,
        "mysite/urls.py",
        "urlpatterns = [",
        "admin.site.site_header = 'Second Edition'\nurlpatterns = [",
    );
    change_and_roll_back(
        &platform,
        &repository,
        "django",
        "/admin/login/",
        "Django administration",
        "Second Edition",
    );
}
