//! Volumes through the API: who may have them, what they hold, and what stands against it.

use berth_model::InstanceId;
use berthd::http::VolumeUse;
use serde_json::json;

use crate::Api;

const VOLUMES: &str = "/v1/apps/hello/volumes";

#[tokio::test]
async fn a_volume_is_made_listed_with_its_use_and_removed_when_its_process_is_stopped() {
    let api = Api::start().await;
    let body = json!({"name": "data", "path": "/data", "size_mib": 64});
    let made = api.must("developer", "POST", VOLUMES, Some(body)).await;
    assert_eq!((&made["app"], &made["process"]), (&json!("hello"), &json!("web")));
    assert_eq!((&made["path"], &made["size_mib"]), (&json!("/data"), &json!(64)));
    // What runs begins anew with it, and the answer waits for that.
    assert!(api.rooms.was_asked("settle"));
    let list = api.must("viewer", "GET", VOLUMES, None).await;
    assert_eq!(list["items"][0], made, "no instance had it yet");

    let app = api.store.app_by_name(&"hello".parse().unwrap()).await.unwrap().unwrap();
    let volume = api.store.volumes(app.id).await.unwrap().remove(0);
    api.store.volumes_made(&[volume.id]).await.unwrap();
    let instance = InstanceId::new(7, [7; 10]);
    let found = VolumeUse { used_bytes: 4096, instance: Some(instance) };
    api.rooms.volumes.lock().unwrap().insert(volume.id, found);
    let list = api.must("viewer", "GET", VOLUMES, None).await;
    assert_eq!(list["items"][0]["used_bytes"], 4096);
    assert_eq!(list["items"][0]["instance"], instance.to_string());

    let one = format!("{VOLUMES}/data");
    let (status, problem) = api.call("owner", "DELETE", &one, None).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("stop the app"), "{problem}");
    assert!(!api.rooms.was_asked("drop volumes"));
    api.must("developer", "POST", "/v1/apps/hello/stop", Some(json!({}))).await;
    // What is lost for ever is not a developer's to give.
    let (status, _) = api.call("developer", "DELETE", &one, None).await;
    assert_eq!(status, 403);
    let (status, _) = api.call("owner", "DELETE", &one, None).await;
    assert_eq!(status, 204);
    assert!(api.rooms.was_asked("drop volumes"));
    let list = api.must("viewer", "GET", VOLUMES, None).await;
    assert_eq!(list["items"], json!([]));
    let (status, _) = api.call("owner", "DELETE", &one, None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_volume_is_said_at_its_field() {
    let api = Api::start().await;
    for (change, pointer) in [
        (json!({"name": "Data"}), "/name"),
        (json!({"path": "/etc"}), "/path"),
        (json!({"path": "data"}), "/path"),
        (json!({"size_mib": 1}), "/size_mib"),
        (json!({"process": "We b"}), "/process"),
        (json!({"process": "clock"}), "/processes/clock"),
    ] {
        let mut body = json!({"name": "data", "path": "/data"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, problem) = api.call("developer", "POST", VOLUMES, Some(body)).await;
        assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    let (status, _) =
        api.call("viewer", "POST", VOLUMES, Some(json!({"name": "d", "path": "/d"}))).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn an_app_with_volumes_is_destroyed_only_with_them() {
    let api = Api::start().await;
    let body = json!({"name": "data", "path": "/data"});
    api.must("developer", "POST", VOLUMES, Some(body)).await;
    let (status, problem) = api.call("owner", "DELETE", "/v1/apps/hello", None).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("the volumes data"), "{problem}");
    let path = "/v1/apps/hello?volumes=true";
    let (status, _) = api.call("owner", "DELETE", path, None).await;
    assert_eq!(status, 204);
    assert!(api.rooms.was_asked("clean up hello"));
}
