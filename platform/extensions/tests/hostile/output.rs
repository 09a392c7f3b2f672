//! Guests that write too much, or what people should not see.

use berth_extensions::Fault;
use berth_extensions::powers::Level;

use super::beside::attacked;
use super::host::READ;

/// What a person's terminal, or a reader of lines, could be fooled by.
#[track_caller]
fn assert_shown_as_it_is(text: &str) {
    let bad = |character: char| character.is_control() || character == '\u{202e}';
    assert!(!text.contains(bad), "{text:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_has_as_many_bytes_as_a_call_may_write() {
    let attacked = attacked("hook/floods-its-log", |guest| {
        guest.limits.host_calls_max = 10_000;
    })
    .await;
    assert_eq!(attacked.ended.fault(), Fault::Output);
    // 32 lines of 8,000 bytes are within 256 KiB.
    assert_eq!(attacked.ended.usage.host_calls, 33);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_has_as_many_bytes_as_a_call_may_write() {
    for name in ["ordinary/floods-its-output", "ordinary/floods-without-an-end-of-line"] {
        let prepare = |guest: &mut super::host::Guest| guest.limits.host_calls_max = 100_000;
        let attacked = attacked(name, prepare).await;
        assert_eq!(attacked.ended.fault(), Fault::Output, "{name}");
        let longest = attacked.guest.lines().iter().map(String::len).max();
        assert!(longest.is_some_and(|bytes| bytes <= 8 * 1024), "{name}: {longest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_is_cut() {
    let attacked = attacked("hook/writes-a-long-line", |_| {}).await;
    assert!(attacked.ended.result.is_ok());
    let line = attacked.guest.lines().remove(0);
    assert!(line.len() <= 8 * 1024 + 3 && line.ends_with('…'), "{}", line.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_one_line_and_draws_nothing() {
    for (name, level) in
        [("hook/forges-a-line", Level::Info), ("ordinary/draws-on-the-terminal", Level::Debug)]
    {
        let attacked = attacked(name, |_| {}).await;
        attacked.ended.result.unwrap();
        let lines = attacked.guest.host.lines.lock().unwrap();
        for (of, line) in &*lines {
            assert_eq!(*of, level, "{name}");
            assert_shown_as_it_is(line);
            assert_eq!(*line, lines[0].1, "{name}: it is more than one line");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_read_is_in_no_log_error_or_event() {
    let logged = attacked("hook/logs-a-secret", |_| {}).await;
    logged.ended.result.unwrap();
    assert_eq!(logged.guest.lines()[0], "[secret read]");

    let failed = attacked("hook/fails-with-a-secret", |_| {}).await.ended;
    assert_eq!((&*failed.failure().code, &*failed.failure().message), ("code", "[secret read]"));

    let emitted = attacked("hook/emits-a-secret", |_| {}).await;
    emitted.ended.result.unwrap();
    let event = &emitted.guest.host.events.lock().unwrap()[0];
    assert_eq!(event.1, "[secret read]");
    assert!(!format!("{event:?}").contains(READ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_cut_and_draws_nothing() {
    let ended = attacked("hook/shouts-an-error", |_| {}).await.ended;
    let failure = ended.failure();
    assert!(failure.code.len() < 80 && failure.message.len() < 5_000, "{}", failure.message.len());
    assert_shown_as_it_is(&failure.code);
    assert_shown_as_it_is(&failure.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_short_and_not_deep() {
    for (name, code) in
        [("hook/emits-a-long-event", "too-large"), ("hook/emits-a-deep-event", "invalid")]
    {
        let attacked = attacked(name, |_| {}).await;
        assert_eq!(attacked.ended.failure().code, code, "{name}");
        assert!(attacked.guest.host.events.lock().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_and_a_verdict_have_as_many_bytes_as_a_call_may_write() {
    for name in ["console/gives-a-long-view", "policy/gives-a-long-reason"] {
        assert_eq!(attacked(name, |_| {}).await.ended.fault(), Fault::Output, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_gives_little_more_than_it_was_given() {
    let ended = attacked("log-processor/multiplies-lines", |_| {}).await.ended;
    assert_eq!(ended.failure().code, "too-large");
}
