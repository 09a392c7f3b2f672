use berth_model::plan::Change;
use berth_model::{BuildState, Digest};
use berth_store::{BUILD_LOG_BYTES_MAX, BUILD_LOG_LINE_BYTES_MAX, BuildEnd};

use crate::{Fixture, by, image};

#[tokio::test]
async fn a_build_ends_once() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let build = store.create_build(app.id, "abc", image(1).digest, None, &by()).await.unwrap();
    assert_eq!(build.state, BuildState::Running);
    let failed = store.finish_build(build.id, BuildEnd::Failed("no"), &by()).await.unwrap();
    assert_eq!((failed.state, failed.error.as_deref()), (BuildState::Failed, Some("no")));
    let again = store.finish_build(build.id, BuildEnd::Cancelled("late"), &by()).await.unwrap();
    assert_eq!(again, failed);
}

#[tokio::test]
async fn a_build_that_ran_when_the_platform_stopped_is_abandoned() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let build = store.create_build(app.id, "abc", image(1).digest, None, &by()).await.unwrap();
    let again = store.again().await;
    assert_eq!(again.abandon_running_builds(9).await.unwrap(), [build.id]);
    assert_eq!(again.abandon_running_builds(10).await.unwrap(), []);
    let found = again.build(build.id).await.unwrap().unwrap();
    assert_eq!((found.state, found.finished_at_ms), (BuildState::Abandoned, Some(9)));
}

#[tokio::test]
async fn a_build_is_open_until_it_is_closed_and_keeps_what_became_of_its_image() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let main = Some("refs/heads/main");
    let build = store.create_build(app.id, "abc", image(1).digest, main, &by()).await.unwrap();
    let image = image(1);
    let end = BuildEnd::Succeeded { image: &image, layers: None, memo: None };
    store.finish_build(build.id, end, &by()).await.unwrap();
    let manifest = Box::new(image.manifest.clone());
    let change = Change::Deploy { image: image.digest, manifest, commit: "abc".to_owned() };
    let made = store.release_build(&build, &change, &by()).await.unwrap();
    let again = store.again().await;
    let open = again.open_builds().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].deployment, made.deployment.map(|deployment| deployment.id));
    assert_eq!(open[0].ref_name.as_deref(), main);
    let mut changed = again.watch_build_logs();
    changed.mark_unchanged();
    again.close_build(build.id).await.unwrap();
    assert!(changed.has_changed().unwrap(), "whoever follows the log hears of its end");
    assert_eq!(again.open_builds().await.unwrap(), []);
}

#[tokio::test]
async fn success_leaves_the_image_the_layers_and_the_memo() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let (key, layers) = (Digest::from_sha256([9; 32]), serde_json::json!({"python": [1, 2]}));
    let build = store.create_build(app.id, "abc", image(1).digest, None, &by()).await.unwrap();
    let image = image(1);
    let end = BuildEnd::Succeeded { image: &image, layers: Some(&layers), memo: Some(key) };
    store.finish_build(build.id, end, &by()).await.unwrap();
    assert_eq!(store.image(image.digest).await.unwrap().as_ref(), Some(&image));
    assert_eq!(store.layer_metadata(app.id).await.unwrap(), Some(layers.clone()));
    assert_eq!(store.memo(app.id, key).await.unwrap(), Some(image.digest));
    assert_eq!(store.built(app.id, "abc").await.unwrap().map(|b| b.id), Some(build.id));
    let other = store.new_app("other").await;
    assert_eq!(store.memo(other.id, key).await.unwrap(), None, "another app's build is not told");

    let build = store.create_build(app.id, "def", image.digest, None, &by()).await.unwrap();
    store.finish_build(build.id, BuildEnd::Failed("no"), &by()).await.unwrap();
    assert_eq!(store.layer_metadata(app.id).await.unwrap(), Some(layers), "a failure leaves it");
}

#[tokio::test]
async fn lines_are_numbered_across_appends_and_read_from_anywhere() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let build = store.create_build(app.id, "abc", image(1).digest, None, &by()).await.unwrap();
    let mut changed = store.watch_build_logs();
    changed.mark_unchanged();
    for lines in [["one", "two"], ["three", "four"]] {
        store.append_build_log(build.id, &lines.map(str::to_owned), 5).await.unwrap();
    }
    assert!(changed.has_changed().unwrap());
    let lines = store.build_log(build.id, 1, 2).await.unwrap();
    let shown: Vec<_> = lines.iter().map(|line| (line.seq, line.line.as_str())).collect();
    assert_eq!(shown, [(2, "two"), (3, "three")]);
}

#[tokio::test]
async fn the_output_of_a_build_is_bounded_and_says_so() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let build = store.create_build(app.id, "abc", image(1).digest, None, &by()).await.unwrap();
    let long = "ä".repeat(BUILD_LOG_LINE_BYTES_MAX);
    for _ in 0..4 {
        store.append_build_log(build.id, &vec![long.clone(); 300], 5).await.unwrap();
    }
    let (mut bytes, mut seen, mut last) = (0, 0, String::new());
    loop {
        let lines = store.build_log(build.id, seen, 200).await.unwrap();
        let Some(line) = lines.last() else { break };
        (seen, last) = (line.seq, line.line.clone());
        bytes += lines.iter().map(|line| line.line.len()).sum::<usize>();
        assert!(lines.iter().all(|line| line.line.len() <= BUILD_LOG_LINE_BYTES_MAX));
    }
    assert!(bytes <= BUILD_LOG_BYTES_MAX + 2 * BUILD_LOG_LINE_BYTES_MAX, "{bytes}");
    assert!(last.contains("left out"), "{last}");
    let ends = store.build_log(build.id, seen - 2, 10).await.unwrap();
    assert_eq!(ends.iter().filter(|line| line.line.contains("left out")).count(), 1);
}
