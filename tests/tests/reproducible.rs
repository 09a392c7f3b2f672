//! The same commit gives the same image, wherever and by whomever it is built.

use acceptance::{Platform, Repository};

fn image(platform: &Platform, repository: &Repository) -> String {
    repository.deploy(platform, "app");
    let release: serde_json::Value =
        serde_json::from_str(&platform.must(&["releases", "show", "v1", "--app", "app", "--json"]))
            .unwrap();
    release["image"].as_str().unwrap().to_owned()
}

#[test]
fn two_data_folders_build_the_same_image_of_each_kind_of_app() {
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let first = Platform::start();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o002));
    let second = Platform::start();
    nix::sys::stat::umask(before);
    for sample in ["static-site", "python-flask", "node-express"] {
        let repository = Repository::of_sample(sample);
        // Each app is called the same, so it is made anew for each sample.
        let digests = [&first, &second].map(|platform| {
            let digest = image(platform, &repository);
            platform.must(&["apps", "destroy", "--app", "app", "--yes"]);
            digest
        });
        assert_eq!(digests[0], digests[1], "{sample}");
    }
}
