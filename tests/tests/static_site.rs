//! Plain files behind nginx, with what people expect of a file server.

use acceptance::{Platform, Repository};

#[test]
fn a_static_site_serves_ranges_etags_and_its_own_not_found() {
    let platform = Platform::start();
    let repository = Repository::of_sample("static-site");
    repository.write("public/big.txt", "0123456789".repeat(1000));
    repository.commit("A file to cut");
    repository.deploy(&platform, "site");

    let client = platform.client("site.localhost");
    let page = client.get(platform.url("site", "/")).send().unwrap();
    assert_eq!(page.status(), 200);
    let etag = page.headers()["etag"].clone();
    let again = client.get(platform.url("site", "/")).header("if-none-match", etag).send().unwrap();
    assert_eq!(again.status(), 304);
    let range =
        client.get(platform.url("site", "/big.txt")).header("range", "bytes=10-13").send().unwrap();
    assert_eq!((range.status().as_u16(), range.text().unwrap().as_str()), (206, "0123"));
    assert_eq!(platform.get("site", "/nowhere").unwrap().0, 404);
}

#[test]
fn a_single_page_app_gets_its_page_for_every_route_but_not_for_a_missing_file_of_another_site() {
    let platform = Platform::start();
    for (app, switch) in [
        ("staticfile", ("Staticfile", "root: public\npushstate: enabled\n")),
        ("settings", ("berth.toml", "[static]\nspa = true\n")),
    ] {
        let repository = Repository::of_sample("static-site");
        repository.write(switch.0, switch.1);
        repository.commit("Routes in the browser");
        repository.deploy(&platform, app);
        let page = platform.get(app, "/").unwrap();
        assert_eq!(platform.get(app, "/orders/17").unwrap(), page, "{app}");
    }
    let repository = Repository::of_sample("static-site");
    repository.deploy(&platform, "plain");
    assert_eq!(platform.get("plain", "/orders/17").unwrap().0, 404);
}
